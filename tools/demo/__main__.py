"""Serves the functions that need nothing from outside, sends each a real request, and draws what comes back."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.collection import ROOT, shown
from tools.demo.montage import save_montage
from tools.demo.scenes import Scene, all_scenes

_LONGEST_START_S = 180


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo: serves the functions, sends the requests, prints and draws the replies.

    Args:
        arguments: The command line, without the program's name; None for that of the process.

    Returns:
        The exit status: 1 when a function failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo", help="folder for pictures and requests")
    parser.add_argument("--montage", type=Path, metavar="FILE.jpg", help="write all results into one picture too")
    options = parser.parse_args(arguments)
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    scenes = all_scenes()
    port = _free_port()
    log = options.out / "server.log"
    print(f"Starting the local server ({len(scenes)} functions, log in {shown(log)}) ...", flush=True)
    begin = time.perf_counter()
    with log.open("wb") as log_file:
        names = [scene.function for scene in scenes]
        command = [sys.executable, "-m", "tools.serve", "--port", str(port), "--workers", "1", *names]
        server = subprocess.Popen(  # noqa: S603  our own module
            command, stdout=log_file, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
                _wait(client, server, log)
                print(f"Ready after {time.perf_counter() - begin:.1f} s.\n", flush=True)
                pictures = {scene.function: _show(client, scene, options.out) for scene in scenes}
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    print("The server is stopped.")
    if failed := [function for function, drawn in pictures.items() if not drawn]:
        print(f"FAILED: {', '.join(failed)}; the server's log is {shown(log)}")
        return 1
    if options.montage:
        panels = []
        for scene in scenes:
            left, top, right, bottom = scene.detail_xyxy
            for caption, picture in zip(scene.captions, pictures[scene.function], strict=True):
                panels.append((caption, picture[top:bottom, left:right]))
        save_montage(options.montage, panels)
        print(f"All results in one picture: {shown(options.montage)}")
    print(f"Pictures: {shown(options.out)}/*.png. Next: `make serve`, and the curl lines above work as they stand.")
    return 0


def _show(client: httpx.Client, scene: Scene, out: Path) -> list[NDArray[np.uint8]]:
    """Prints and draws what a function replies; returns the pictures, none when it failed."""
    print(f"--- {scene.title} ({scene.function})")
    reply: Any = None
    times: list[dict[str, float]] = []
    for step in scene.steps:
        body = step(reply)
        begin = time.perf_counter()
        response = client.post(
            "/api/function_invocations",
            json=body,
            headers={"x-nuclio-function-name": scene.function, "x-nuclio-path": "/"},
        )
        total = (time.perf_counter() - begin) * 1000
        if response.status_code != 200:
            print(f"    status {response.status_code}: {response.text[:500]}\n")
            return []
        reply = response.json()
        times.append({**_server_timing(response.headers.get("server-timing", "")), "round trip": total})
    print(textwrap.indent(_brief(reply), "    "))
    request = out / f"{scene.function}.request.json"
    first = body if len(scene.steps) == 1 else scene.steps[0](None)
    request.write_text(json.dumps(first))
    (out / f"{scene.function}.reply.json").write_text(response.text)
    picture = out / f"{scene.function}.png"
    pictures = scene.draw(reply)
    Image.fromarray(np.hstack(pictures)).save(picture)
    median = {stage: float(np.median([t.get(stage, 0) for t in times])) for stage in times[-1]}
    count = f" (median of {len(times)} requests)" if len(times) > 1 else ""
    print(f"    time: {', '.join(f'{stage} {ms:.1f} ms' for stage, ms in median.items())}{count}")
    print(f"    picture: {shown(picture)}")
    print(
        f"    curl -s localhost:8070/api/function_invocations -H 'x-nuclio-function-name: {scene.function}'"
        f" -H 'Content-Type: application/json' -d @{shown(request)}\n",
        flush=True,
    )
    return pictures


def _brief(reply: Any) -> str:
    """JSON on as few lines as it reads well in, with long lists and texts cut."""

    def cut(value: Any) -> Any:
        if isinstance(value, str) and len(value) > 60:
            return f"{value[:40]}... {len(value)} characters"
        if isinstance(value, list) and len(value) > 12 and not isinstance(value[0], dict):
            return [*map(cut, value[:6]), f"... {len(value)} items"]
        if isinstance(value, list):
            return [cut(v) for v in value]
        if isinstance(value, dict):
            return {key: cut(v) for key, v in value.items()}
        return value

    def item(value: Any) -> str:
        return textwrap.shorten(json.dumps(cut(value), ensure_ascii=False), 500, placeholder=" ...")

    if isinstance(reply, list) and reply and isinstance(reply[0], dict):
        return "[\n" + ",\n".join(f"  {item(value)}" for value in reply) + "\n]"
    if isinstance(reply, dict):
        return "{\n" + ",\n".join(f'  "{key}": {item(value)}' for key, value in reply.items()) + "\n}"
    return item(reply)


def _server_timing(header: str) -> dict[str, float]:
    return {name: float(ms) for name, ms in re.findall(r"([\w-]+);dur=([\d.]+)", header)}


def _wait(client: httpx.Client, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until every function is ready. Exits with the server's own words when that does not happen."""
    deadline = time.monotonic() + _LONGEST_START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            states = client.get("/health").json()["functions"]
            if all(state == "ready" for state in states.values()):
                return
            if "error" in states.values():
                break
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    sys.exit(f"The server did not start:\n{log.read_text()[-3000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
