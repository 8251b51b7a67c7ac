"""A made-up host for the deployment: stand-ins for docker, nuctl and the network, their world in a folder."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.stand_ins.network.server import address
from tests.deploy.stand_ins.world import STORE_IMAGE, World

REPOSITORY = Path(__file__).resolve().parents[2]
STAND_INS = Path(__file__).parent / "stand_ins"
LABEL = '[{"id": 0, "name": "thing", "type": "rectangle", "attributes": []}]'
SHAPE = {"label": "thing", "type": "rectangle", "points": [10.0, 10.0, 50.0, 60.0], "confidence": "0.9"}
_WAIT_S = 30


@dataclass
class Host:
    """world: what the stand-ins know and record. home: where functions of the user's own are."""

    world: Path
    home: Path

    def deploy(
        self,
        *arguments: str,
        device: str = "cpu",
        env: dict[str, str] | None = None,
        root: Path = REPOSITORY,
        data: str | None = None,
    ) -> Run:
        """Runs deploy_cpu.sh or deploy_gpu.sh to its end."""
        done = subprocess.run(
            ["bash", str(root / f"deploy_{device}.sh"), *arguments],
            env=self._environment(env or {}),
            cwd=self.home,
            input=data,
            capture_output=True,
            text=True,
            timeout=2 * _WAIT_S,
        )
        return Run(done.returncode, done.stdout + done.stderr, self.calls(), done.stderr)

    def start(self, *arguments: str, device: str = "cpu", env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts deploy_cpu.sh in a process group of its own, as a terminal would."""
        return subprocess.Popen(
            ["bash", str(REPOSITORY / f"deploy_{device}.sh"), *arguments],
            env=self._environment(env or {}),
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def interrupt(
        self, process: subprocess.Popen[str], when: str | Callable[[], bool], number: int = signal.SIGINT
    ) -> Run:
        """Sends a signal, by default what Ctrl-C sends, at a certain moment; waits for the end.

        Args:
            process: What `start` has started.
            when: A call that contains this text has been made; or a condition.
            number: The signal.
        """
        self.send(process, when, number)
        return self.end(process)

    def send(self, process: subprocess.Popen[str], when: str | Callable[[], bool], number: int = signal.SIGINT) -> None:
        """Sends a signal to all processes of the deployment at a certain moment, as a terminal would."""
        reached = when if callable(when) else lambda: any(when in call for call in self.calls())
        deadline = time.monotonic() + _WAIT_S
        while not reached():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"it never came that far:\n{process.communicate()[0]}\n" + "\n".join(self.calls()))
            time.sleep(0.01)
        os.killpg(process.pid, number)

    def end(self, process: subprocess.Popen[str]) -> Run:
        """Waits for the end of what `start` has started."""
        output, _ = process.communicate(timeout=2 * _WAIT_S)
        return Run(process.returncode, output, self.calls())

    def calls(self) -> list[str]:
        """What the stand-ins were called with since the last `forget`, in order."""
        return self.facts.fact("calls").splitlines()

    def requests(self, pattern: str = "") -> list[Request]:
        """The requests over HTTP since the last `forget` whose method and address match."""
        found = [Request(**json.loads(line)) for line in self.facts.fact("requests").splitlines()]
        return [request for request in found if re.search(pattern, request.line)]

    def forget(self) -> None:
        """Forgets the calls, not what they have changed."""
        for name in ("calls", "requests"):
            (self.world / name).unlink(missing_ok=True)

    @property
    def facts(self) -> World:
        """The world, as the stand-ins see it."""
        return World(self.world)

    def set(self, name: str, text: str = "") -> None:
        """Writes a fact of the world, such as networks/cvat_cvat or gpu_fails."""
        self.facts.set(name, text)

    def unset(self, *names: str) -> None:
        """Removes facts of the world."""
        for name in names:
            (self.world / name).unlink()

    def fact(self, name: str) -> str | None:
        """The text of a fact; None if it was never set."""
        return self.facts.fact(name) if self.facts.has(name) else None

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

    def deployed_function(self, name: str = "finder", *arguments: str, device: str = "cpu", **settings: Any) -> Path:
        """A function that was deployed before with some options; the calls for it are forgotten."""
        directory = self.function(name, **settings)
        self.forget()
        # What has become of the same world once need not be deployed again.
        key = (name, arguments, device, _content(self.world.parent))
        if key not in _DEPLOYED:
            run = self.deploy(str(directory), "--no-verify", *arguments, device=device)
            assert run.status == 0, run.output
            self.forget()
            _DEPLOYED[key] = _content(self.world.parent)
        else:
            _write_content(self.world.parent, _DEPLOYED[key])
        return directory

    def container(self, name: str, **facts: object) -> None:
        """A container that an earlier deployment has left, or facts of one that is there."""
        if not self.facts.has(f"containers/nuclio-nuclio-{name}"):
            facts = {"port": 0, "id": f"old-{name}", "restarts": 0, "running": True, **facts}
        self.facts.set_container(f"nuclio-nuclio-{name}", **facts)

    def container_fact(self, name: str, fact: str) -> str:
        """A fact of a function's container; "" without one."""
        return self.facts.fact(f"containers/nuclio-nuclio-{name}/{fact}")

    def remove_container(self, name: str) -> None:
        """As `docker rm --force` does."""
        self.facts.remove_container(f"nuclio-nuclio-{name}")

    def record(self, name: str) -> dict[str, Any] | None:
        """What Nuclio keeps of a function; None when it doesn't know it."""
        return self.facts.record(name)

    def set_state(self, name: str, state: str) -> None:
        """Sets the state of a function that is known to Nuclio, as a deployment that was killed leaves it."""
        record = self.facts.record(name)
        assert record is not None
        self.facts.set_record({**record, "status": {"state": state}})

    def deployed(self, name: str = "finder", number: int = -1) -> Deployed:
        """What the last `nuctl deploy` of a function was given, or that with a number counted from 1."""
        names = [each for each in self.facts.names("deployed") if each.startswith(f"{name}.")]
        numbers = sorted(int(each.split(".")[-2]) for each in names)
        assert numbers, f"{name} was not deployed:\n" + "\n".join(self.calls())
        chosen = numbers[-1] if number < 0 else number
        return Deployed(**json.loads(self.facts.fact(f"deployed/{name}.{chosen}.json")))

    def deployments(self, name: str = "finder") -> int:
        """How often `nuctl deploy` was called for a function."""
        return sum(each.startswith(f"{name}.") for each in self.facts.names("deployed"))

    def snapshot(self, name: str = "finder") -> dict[str, Any]:
        """What a client and CVAT see of a function: what must be the same after a deployment that changed nothing."""
        record = self.record(name) or {}
        spec = record.get("spec", {})
        container = f"nuclio-nuclio-{name}"
        port = self.container_fact(name, "port")
        described = self.facts.container(container)
        return {
            "state": record.get("status", {}).get("state"),
            "httpPort": record.get("status", {}).get("httpPort"),
            "annotations": record.get("metadata", {}).get("annotations"),
            "env": {pair["name"]: pair["value"] for pair in spec.get("env") or []},
            "spec": {key: spec.get(key) for key in ("triggers", "volumes", "resources", "platform", "securityContext")},
            "image": described["Image"] if described else None,
            "answers": bool(port) and self.facts.function_at(int(port)) == container,
        }

    def leftovers(self) -> list[str]:
        """What a deployment has left in the temporary folder, and in the folder in which it was started."""
        here = [path.name for path in self.home.glob("nuclio-*")]
        return sorted([path.name for path in (self.world / "tmp").iterdir()] + here)

    def programs(self) -> dict[int, str]:
        """The stand-ins that run now, which a deployment that has ended must not leave behind."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except (OSError, ValueError):  # ended meanwhile, or no process
                continue
            if f"STAND_INS={self.world}".encode() in environment and any(each.endswith("program.py") for each in words):
                found[int(entry.name)] = " ".join(words)
        return found

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        return {
            "PATH": f"{self.world / 'bin'}:/usr/bin:/bin",
            "HOME": str(self.home),
            "TMPDIR": str(self.world / "tmp"),
            "STAND_INS": str(self.world),
            "STAND_IN_NETWORK": address(),
            "REPOSITORY": str(REPOSITORY),
            "CHECK_PYTHON": sys.executable,
            "SITE_PACKAGES": sysconfig.get_path("purelib"),
            "DEPLOY_LOGS": str(self.world / "logs"),
            "DEPLOY_POLL": "0.02",
            **more,
        }


@dataclass(frozen=True)
class Request:
    """A request over HTTP. line: method and address."""

    line: str
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Deployed:
    """What a `nuctl deploy` was given: its options, and the content of its file."""

    options: dict[str, str]
    content: dict[str, Any]

    @property
    def image(self) -> str:
        return self.options["--run-image"]

    @property
    def spec(self) -> dict[str, Any]:
        return self.content["spec"]

    @property
    def env(self) -> dict[str, str]:
        pairs = [(pair["name"], pair["value"]) for pair in self.spec.get("env", [])]
        assert len(dict(pairs)) == len(pairs), f"a variable is set twice: {pairs}"
        return dict(pairs)

    @property
    def triggers(self) -> dict[str, Any]:
        return self.spec["triggers"]

    @property
    def port(self) -> int | None:
        (trigger,) = self.triggers.values()
        return trigger["attributes"].get("port")

    @property
    def network(self) -> str | None:
        return self.spec["platform"]["attributes"].get("network")

    @property
    def mounts(self) -> dict[str, str]:
        """Folder in the container -> folder of this host."""
        volumes = self.spec.get("volumes") or []
        folders = {each["volume"]["name"]: each["volume"]["hostPath"]["path"] for each in volumes}
        return {each["volumeMount"]["mountPath"]: folders[each["volumeMount"]["name"]] for each in volumes}


@dataclass(frozen=True)
class Run:
    """status: exit status. output: what a person sees. calls: the calls of the stand-ins. errors: what went to stderr."""

    status: int
    output: str
    calls: list[str]
    errors: str = ""

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


_Content = tuple[tuple[str, str], ...]
_DEPLOYED: dict[tuple[str, tuple[str, ...], str, _Content], _Content] = {}


def _content(folder: Path) -> _Content:
    """All files of a host but its programs, with a mark in place of the folder's own name."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and "bin" not in path.parts)
    return tuple((str(path.relative_to(folder)), path.read_text().replace(str(folder), "@HOST@")) for path in paths)


def _write_content(folder: Path, content: _Content) -> None:
    for name, text in content:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("@HOST@", str(folder)))


@functools.cache
def _compile() -> None:
    """Compiles the modules of a deployment, which itself writes none: each of many runs would compile them anew."""
    modules = ["deploy", "tools", "common", "serverless/collection.py"]
    subprocess.run([sys.executable, "-m", "compileall", "-q", *modules], cwd=REPOSITORY, check=True)


def new_host(folder: Path) -> Host:
    """A host on which everything is there: Docker, nuctl, CVAT's network and Nuclio's dashboard in it."""
    _compile()
    host = Host(folder / "world", folder / "home")
    for name in ("bin", "tmp", "images", "networks", "containers", "functions", "projects", "replies", "deployed"):
        (host.world / name).mkdir(parents=True)
    host.home.mkdir()
    for tool in ("docker", "nuctl"):
        _write_program(host.world / "bin" / tool, f'exec {sys.executable} -SEs {STAND_INS / "program.py"} {tool} "$@"')
    network = STAND_INS / "network"
    _write_program(
        host.world / "bin" / "python3", f'PYTHONPATH={network}${{PYTHONPATH:+:$PYTHONPATH}} exec {sys.executable} "$@"'
    )
    for image in (STORE_IMAGE, "quay.io/nuclio/dashboard:1.15.9-amd64"):
        host.facts.add_image(image)
    host.set("networks/cvat_cvat", "cvat_server cvat_redis_ondisk nuclio")
    host.set("dashboard", "1.15.9")
    host.set("nuctl_version", "1.15.9")
    return host


def _write_program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
