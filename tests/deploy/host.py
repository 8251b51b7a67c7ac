"""A made-up host for the deployment scripts: stand-ins for docker, nuctl and curl on the path, their world in a folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
STAND_INS = Path(__file__).parent / "stand_ins"
LABEL = '[{"id": 0, "name": "thing", "type": "rectangle", "attributes": []}]'
SHAPE = {"label": "thing", "type": "rectangle", "points": [10.0, 10.0, 50.0, 60.0], "confidence": "0.9"}


@dataclass
class Host:
    """world: what the stand-ins know and record. home: where functions of the user's own are."""

    world: Path
    home: Path

    def deploy(self, *arguments: str, device: str = "cpu", env: dict[str, str] | None = None) -> Run:
        """Runs deploy_cpu.sh or deploy_gpu.sh to its end."""
        done = subprocess.run(
            self._command(device, arguments),
            env=self._environment(env or {}),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Run(done.returncode, done.stdout + done.stderr, self.calls())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts deploy_cpu.sh in a process group of its own, as a terminal would."""
        return subprocess.Popen(
            self._command("cpu", arguments),
            env=self._environment({}),
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def interrupt(self, process: subprocess.Popen[str], when: str) -> Run:
        """Sends what Ctrl-C sends once a call that contains `when` has been made; waits for the end."""
        deadline = time.monotonic() + 20
        while not any(when in call for call in self.calls()):
            assert time.monotonic() < deadline, "the script never came that far"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        # A stand-in that was interrupted before its `sleep 20` began leaves that behind, and with it the output open.
        output, _ = process.communicate(timeout=60)
        return Run(process.returncode, output, self.calls())

    def calls(self) -> list[str]:
        """What the stand-ins were called with since the last `forget`, in order."""
        path = self.world / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def forget(self) -> None:
        (self.world / "calls").unlink(missing_ok=True)

    def set(self, name: str, text: str = "") -> None:
        """Writes a fact of the world, such as networks/cvat_cvat or gpu_fails."""
        path = self.world / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def fact(self, name: str) -> str | None:
        path = self.world / name
        return path.read_text().strip() if path.exists() else None

    def function(self, name: str = "finder", *, kind: str = "detector", reply: Any = None, **more: str) -> Path:
        """A function of the user's own, on the base image of a framework, and what it will answer."""
        directory = self.home / name
        directory.mkdir()
        settings = {
            "base": "cvat.onnx.base",
            "annotations": f"\n    spec: '{LABEL}'",
            "trigger": "",
            "spec": "",
            **more,
        }
        (directory / "function.yaml").write_text(
            FUNCTION.format(name=name, kind=kind, **settings).replace("\n\n", "\n"), encoding="utf-8"
        )
        (directory / "main.py").write_text("def handler(context, event): ...\n")
        self.set(f"replies/{name}", json.dumps([SHAPE] if reply is None else reply))
        return directory

    def container(self, name: str, *, port: int | str = "", identifier: str = "old", restarts: int = 0) -> None:
        """A container that an earlier deployment has left."""
        folder = f"containers/nuclio-nuclio-{name}"
        for fact, value in (("port", port), ("id", identifier), ("restarts", restarts), ("running", "true")):
            self.set(f"{folder}/{fact}", f"{value}\n")

    def _command(self, device: str, arguments: tuple[str, ...]) -> list[str]:
        return ["bash", str(REPOSITORY / f"deploy_{device}.sh"), *arguments]

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        return {
            "PATH": f"{self.world / 'bin'}:/usr/bin:/bin",
            "HOME": str(self.home),
            "TMPDIR": str(self.world / "tmp"),
            "STAND_INS": str(self.world),
            "REPOSITORY": str(REPOSITORY),
            "PYTHON": sys.executable,
            "DEPLOY_LOGS": str(self.world / "logs"),
            "DEPLOY_POLL": "0.02",
            **more,
        }


@dataclass(frozen=True)
class Run:
    """status: exit status. output: what a person sees. calls: the calls of the stand-ins."""

    status: int
    output: str
    calls: list[str]

    def call(self, pattern: str) -> str:
        """The one call that matches."""
        found = [call for call in self.calls if re.search(pattern, call)]
        assert len(found) == 1, f"{pattern}: {found}\n{self.output}"
        return found[0]

    def made(self, pattern: str) -> bool:
        return any(re.search(pattern, call) for call in self.calls)

    def order(self, *patterns: str) -> None:
        """Asserts that calls matching the patterns were made, in that order."""
        position = 0
        for pattern in patterns:
            rest = [i for i, call in enumerate(self.calls) if i >= position and re.search(pattern, call)]
            assert rest, f"{pattern} was not called after {self.calls[:position][-1:]}\n" + "\n".join(self.calls)
            position = rest[0] + 1


FUNCTION = """metadata:
  name: {name}
  namespace: cvat
  annotations:
    name: Finder
    type: {kind}{annotations}

spec:
  description: Finds things
  runtime: python:3.11
  handler: main:handler
{spec}
  env:
    - name: VARIANT
      value: small

  build:
    image: cvat.{name}
    baseImage: {base}

  triggers:
    web:
      kind: http
      numWorkers: 3
      attributes:
        maxRequestBodySize: 33554432{trigger}

  platform:
    attributes:
      restartPolicy:
        name: always
"""


def new_host(folder: Path) -> Host:
    """A host on which everything is there: Docker, nuctl, CVAT's network and Nuclio's dashboard in it."""
    host = Host(folder / "world", folder / "home")
    for name in ("bin", "tmp", "images", "networks", "containers", "functions", "projects", "replies"):
        (host.world / name).mkdir(parents=True)
    host.home.mkdir()
    for tool in ("docker", "nuctl", "curl"):
        (host.world / "bin" / tool).symlink_to(STAND_INS / tool)
    host.set("networks/cvat_cvat", "cvat_server cvat_redis_ondisk nuclio")
    host.set("dashboard", "1.15.9")
    host.set("nuctl_version", "1.15.9")
    return host
