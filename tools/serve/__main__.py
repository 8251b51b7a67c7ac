"""Serves functions of the collection on this machine, for CVAT or curl, without Docker or Nuclio."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from common.errors import StartupError
from common.networks.weights import is_offline
from serverless.collection import COLLECTION, function_directories, resolve
from tools.serve.app import Served, dashboard_app, function_app
from tools.serve.http_server import HttpServer, listen
from tools.serve.pool import Pool
from tools.serve.selection import NotServed, load_configs, report, select
from tools.serve.settings import parse_settings
from tools.weights.fetching import Sizes, table

_HIGHEST_PORT = 65535
_LONGEST_WAIT_S = 3.0  # for the sizes of downloads, when nothing starts meanwhile


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command until it is told to stop.

    Args:
        arguments: of the command line; None for this process's own.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        named = bool(options.functions)
        configs = load_configs([resolve(name) for name in options.functions] or function_directories(), named=named)
        settings = parse_settings(options.env, configs)
        chosen, left_out = select(configs, settings, named=named)
        sizes = Sizes([file for each in left_out for file in each.to_fetch])
        if left_out and (named or not chosen):
            sizes.wait(_LONGEST_WAIT_S)
            print(report(left_out, sizes), file=sys.stderr)
            problem = "not all functions that were named can be served" if named else "no function can be served"
            raise StartupError(problem + ("; OFFLINE is set: no weights were fetched" if is_offline() else ""))
        pools = [Pool(config.directory, settings.of(config.directory), options.workers) for config in chosen]
        dashboard = listen(options.host, options.port, options.port, "the dashboard API", "--port")
        first = options.first_port or dashboard.getsockname()[1] + 1
        last = min(first + 1000, _HIGHEST_PORT)
        ports = [listen(options.host, first, last, f"function {c.name}", "--first-port") for c in chosen]
    except (StartupError, ValueError) as error:
        print(f"tools.serve: {error}", file=sys.stderr)
        return 2
    served = {
        pool.config.name: Served(pool, listener.getsockname()[1]) for pool, listener in zip(pools, ports, strict=True)
    }
    announcement = _announce(served, options.host, dashboard.getsockname()[1], left_out, sizes)
    return asyncio.run(_run(served, dashboard, ports, announcement))


async def _run(
    functions: Mapping[str, Served],
    dashboard: socket.socket,
    ports: Sequence[socket.socket],
    announcement: Coroutine[Any, Any, None],
) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(f"Starting {len(functions)} function{'s' if len(functions) > 1 else ''} ...", flush=True)
    for served in functions.values():
        served.pool.start()
    servers = [HttpServer(dashboard_app(functions)), *(HttpServer(function_app(each)) for each in functions.values())]
    listeners = [dashboard, *ports]
    running = [asyncio.create_task(one.serve(sockets=[s])) for one, s in zip(servers, listeners, strict=True)]
    announcing = asyncio.create_task(announcement)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([stopped, *running], return_when=asyncio.FIRST_COMPLETED)
    announcing.cancel()
    print("\nStopping ...", flush=True)
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*(served.pool.stop() for served in functions.values()))
    results = await asyncio.gather(*running, return_exceptions=True)
    failed = [result for result in results if isinstance(result, BaseException)]
    for error in failed:
        print(f"tools.serve: {error}", file=sys.stderr)
    print("Stopped.", flush=True)
    return 1 if failed else 0


async def _announce(
    functions: Mapping[str, Served], host: str, port: int, left_out: Sequence[NotServed], sizes: Sizes
) -> None:
    """Waits until every function has started or given up, and prints what is served where."""
    await asyncio.gather(*(served.pool.wait_until_started() for served in functions.values()))
    if left_out:
        print(f"\n{report(left_out, sizes)}")
    rows = [("FUNCTION", "KIND", "STATE", "ADDRESS")]
    rows += [
        (name, served.pool.config.kind, served.pool.state, f"http://localhost:{served.port}")
        for name, served in functions.items()
    ]
    print(f"\n{table(rows)}")
    for name, served in functions.items():
        if served.pool.state == "error":
            print(f"\n{name} could not start: {served.pool.error}")
    print(f"\nDashboard API and a page with this list: http://localhost:{port}")
    if host in ("127.0.0.1", "localhost"):
        print(
            "Only this machine can reach it; for a CVAT in containers, serve on --host 0.0.0.0 (make serve HOST=0.0.0.0)."
        )
    print("Ctrl-C stops everything.", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.serve", description=__doc__)
    parser.add_argument(
        "functions",
        nargs="*",
        metavar="FUNCTION",
        help=f"directories or names of functions; default: all below {COLLECTION.name}/ that can run here",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8070, help="port of the dashboard API (default: %(default)s)")
    parser.add_argument(
        "--first-port", type=_port, help="functions take the free ports from here on (default: the next)"
    )
    parser.add_argument(
        "--workers", type=_positive, help="worker processes for each function (default: its numWorkers)"
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="[FUNCTION:]NAME=VALUE",
        help="set an option of all functions that know it, or of one, over function.yaml; may be given more than once",
    )
    return parser


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"expected 0 to {_HIGHEST_PORT}, got {text}")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before the server runs, while weights are fetched
        sys.exit(130)
