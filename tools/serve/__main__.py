"""Serves functions of the collection on this machine, for CVAT or curl, without Docker or Nuclio."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.config import FunctionConfig
from common.errors import StartupError
from tools.collection import COLLECTION, function_directories, lacks, resolve
from tools.serve.app import Served, dashboard_app, function_app
from tools.serve.http_server import HttpServer, listen
from tools.serve.pool import Limits, Pool


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        variables = _variables(options.env)
        directories = [resolve(name) for name in options.functions] or function_directories()
        chosen = _choose(directories, variables, explicit=bool(options.functions))
        dashboard = listen(options.host, options.port, options.port, "the dashboard API", "--port")
        first = options.first_port or dashboard.getsockname()[1] + 1
        ports = [listen(options.host, first, first + 1000, f"function {c.name}", "--first-port") for c in chosen]
    except (StartupError, ValueError) as error:
        print(f"tools.serve: {error}", file=sys.stderr)
        return 2
    if not chosen:
        print("tools.serve: no function can be served; see above what each lacks", file=sys.stderr)
        return 2
    served = {}
    for config, listener in zip(chosen, ports, strict=True):
        environment = {**variables.get("", {}), **variables.get(config.name, {})}
        served[config.name] = Served(Pool(config.directory, environment, options.workers), listener.getsockname()[1])
    return asyncio.run(_run(served, dashboard, ports, options.host))


async def _run(
    functions: Mapping[str, Served], dashboard: socket.socket, ports: Sequence[socket.socket], host: str
) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = dashboard.getsockname()[1]
    print(f"Starting {len(functions)} functions ...", flush=True)
    for served in functions.values():
        served.pool.start()
    servers = [HttpServer(dashboard_app(functions), dashboard)]
    servers += [HttpServer(function_app(f), s) for f, s in zip(functions.values(), ports, strict=True)]
    running = [asyncio.create_task(server.run_until_exit()) for server in servers]
    announcing = asyncio.create_task(_announce(functions, host, port))
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


async def _announce(functions: Mapping[str, Served], host: str, port: int) -> None:
    await asyncio.gather(*(served.pool.settled() for served in functions.values()))
    rows = [("FUNCTION", "KIND", "STATE", "ADDRESS")]
    rows += [(n, f.pool.config.kind, f.pool.state, f"http://localhost:{f.port}") for n, f in functions.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    print()
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    for name, served in functions.items():
        if served.pool.state == "error":
            print(f"\n{name} could not start: {served.pool.error}")
    print(f"\nDashboard API and a page with this list: http://localhost:{port}")
    if host in ("127.0.0.1", "localhost"):
        print(
            "Only this machine can reach it; for a CVAT in containers, serve on --host 0.0.0.0 (make serve HOST=0.0.0.0)."
        )
    print("Ctrl-C stops everything.", flush=True)


def _choose(
    directories: Sequence[Path], variables: Mapping[str, Mapping[str, str]], *, explicit: bool
) -> list[FunctionConfig]:
    """The functions that can run here; says of the others what they lack. Named ones must all be able to."""
    chosen: dict[str, FunctionConfig] = {}
    left_out = []
    for directory in directories:
        try:
            config = FunctionConfig.load(directory)
            Limits.load(directory)
        except StartupError as error:
            left_out.append((str(directory), [str(error)]))
            continue
        if config.name in chosen:
            raise StartupError(f"{config.name}: both {chosen[config.name].directory} and {directory} have this name")
        settings = {**config.environment, **variables.get("", {}), **variables.get(config.name, {})}
        if lacking := lacks(directory, settings):
            left_out.append((config.name, lacking))
        else:
            chosen[config.name] = config
    if left_out:
        print("Not served, for want of" if not explicit else "Can't be served, for want of")
        for name, lacking in left_out:
            print(f"  {name}: {'; '.join(lacking)}")
        print(flush=True)
        if explicit:
            raise StartupError("not all functions that were named can be served")
    return list(chosen.values())


def _variables(settings: Sequence[str]) -> dict[str, dict[str, str]]:
    """`--env` settings as function name -> variables; those for all functions are under the empty name."""
    found: dict[str, dict[str, str]] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        function, colon, variable = name.partition(":")
        if not equals or not (variable if colon else function):
            raise ValueError(f"--env: expected NAME=VALUE or FUNCTION:NAME=VALUE, got {setting!r}")
        found.setdefault(function if colon else "", {})[variable if colon else function] = value
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.serve", description=__doc__)
    parser.add_argument(
        "functions",
        nargs="*",
        metavar="FUNCTION",
        help=f"directories or names of functions; default: all below {COLLECTION.name}/ that can run here",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8070, help="port of the dashboard API (default: %(default)s)")
    parser.add_argument("--first-port", type=int, help="functions take the free ports from here on (default: the next)")
    parser.add_argument(
        "--workers", type=_positive, help="worker processes for each function (default: its numWorkers)"
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="[FUNCTION:]NAME=VALUE",
        help="set a function's option, over its function.yaml; may be given more than once",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
