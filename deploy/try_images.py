"""Tries the images without Nuclio: serves functions from them as an ordinary user, and compares their replies.

    .venv/bin/python -m deploy.try_images [--debootstrap] [--sizes] [--weights DIR] [functions...]

Builds the base images as the deployment does, serves each function from its image in a container, and compares the reply byte for
byte with that of the same function on this host. For development: by hand, where there is a Docker daemon and the environment of
`make serve`; the tests have neither.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.base_image import BaseImage, of_functions
from deploy.console import DeploymentError, human_size
from deploy.definition.functions import COLLECTION, Function, find
from deploy.host.packages import DEFAULT_PYTHON_IMAGE, ROOT
from deploy.images import context_of

_FUNCTIONS = ("onnx/rapidocr/text", "onnx/yolo/shapes")
_STAND_IN = "python-stand-in:3.11"
_ENGINE = "onnxruntime"  # `auto` may take another engine in each place, and their results differ in the last digits
_START_SECONDS = 90
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# Run in an image: the packages with their sizes, bytecode included, and what the bytecode of all takes.
_LIST_PACKAGES = """
import importlib.metadata as metadata, json, os, sysconfig
sizes = {}
for each in metadata.distributions():
    files = {each.locate_file(file) for file in each.files or ()}
    files |= {os.path.join(folder, name) for folder in {os.path.join(os.path.dirname(f), "__pycache__") for f in files}
              if os.path.isdir(folder) for name in os.listdir(folder)}
    sizes[each.name] = sum(os.path.getsize(file) for file in map(str, files) if os.path.isfile(file))
compiled = sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(sysconfig.get_path("purelib"))
               for name in names if name.endswith(".pyc"))
print(json.dumps({"packages": sizes, "compiled": compiled}))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds, serves and compares.

    Args:
        arguments: Of the command line; None for this process's own.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.try_images", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("functions", nargs="*", default=_FUNCTIONS, help=f"default: {' '.join(_FUNCTIONS)}")
    parser.add_argument(
        "--debootstrap",
        action="store_true",
        help=f"use a Debian made by debootstrap, where {DEFAULT_PYTHON_IMAGE} can't be pulled",
    )
    parser.add_argument("--sizes", action="store_true", help="list the largest packages of each base image")
    parser.add_argument("--weights", type=Path, help="DIR/<function's name>/ is mounted, as by the deployment")
    given = parser.parse_args(arguments)
    places = [path if (path := COLLECTION / name).is_dir() else Path(name) for name in given.functions]
    try:
        functions = find([str(path) for path in places], "cpu")
        python = _stand_in() if given.debootstrap else DEFAULT_PYTHON_IMAGE
        for base in of_functions(functions):
            _build_base(base, python)
            if given.sizes:
                _print_largest(base.name)
        same = [_try(function, given.weights) for function in functions]
    except DeploymentError as error:
        print(f"{error.cause}{f': {error.remedy}' if error.remedy else ''}", file=sys.stderr)
        return 1
    if not all(same):
        return 1
    print("The images give the same replies as this host.")
    return 0


def _run(*words: str, data: bytes | None = None) -> str:
    done = subprocess.run(words, input=data, capture_output=True, cwd=ROOT)
    if done.returncode:
        said = (done.stdout[-2000:] + done.stderr[-2000:]).decode(errors="replace")
        raise DeploymentError(f"{' '.join(words[:4])} ... has failed", said)
    return done.stdout.decode().strip()


def _stand_in() -> str:
    """A Debian with Python 3.11, made by debootstrap (as root) with this machine's certificates."""
    if _size(_STAND_IN):
        return _STAND_IN
    print("Making a Debian with Python 3.11 ...")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _run("debootstrap", "--variant=minbase", "--include=ca-certificates,python3,python3-pip", "bookworm", folder)
        certificates = "etc/ssl/certs/ca-certificates.crt"
        shutil.copyfile(f"/{certificates}", root / certificates)
        (root / "usr/bin/python").symlink_to("python3")
        unused = [root / "usr/lib/python3.11/EXTERNALLY-MANAGED", *root.glob("var/cache/apt/archives/*.deb")]
        for path in [*unused, *(p for p in root.glob("var/lib/apt/lists/*") if p.is_file())]:
            path.unlink(missing_ok=True)
        pack = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
        change = f"ENV PIP_CERT=/{certificates}"
        subprocess.run(
            ["docker", "import", "--change", change, "-", _STAND_IN],
            stdin=pack.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        if pack.wait():
            raise DeploymentError("the Debian can't be packed")
    return _STAND_IN


def _build_base(base: BaseImage, python: str) -> None:
    """As the deployment builds it, for the CPU; prints its size beside that of before."""
    before = _size(base.name)
    print(f"Building {base.name} ...", flush=True)
    arguments = [f"PYTHON_IMAGE={python}"]
    arguments += [f"{name}={os.environ[name]}" for name in ("TORCH_INDEX_URL",) if name in os.environ]
    options = [word for argument in arguments for word in ("--build-arg", argument)]
    _run("docker", "build", "--network", "host", "-q", "-t", base.name, *options, "-", data=context_of(base))
    size = _size(base.name)
    was = f"; before: {human_size(before)}" if before and before != size else ""
    print(f"  {human_size(size)}, of which {human_size(_size(python))} are {python}{was}")


def _size(image: str) -> int:
    done = subprocess.run(["docker", "image", "inspect", "-f", "{{.Size}}", image], capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 else 0


def _print_largest(image: str) -> None:
    listed = json.loads(_run("docker", "run", "--rm", "--network", "none", image, "python", "-c", _LIST_PACKAGES))
    largest = sorted(listed["packages"].items(), key=lambda each: -each[1])[:12]
    for name, size in largest:
        print(f"  {size / 1e6:8.1f} MB  {name}")
    print(f"  {listed['compiled'] / 1e6:8.1f} MB  bytecode, of all packages")


def _try(function: Function, weights: Path | None) -> bool:
    """Serves a function here and from its image; says whether the replies are the same."""
    print(function.name, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        image = _build_function(function, Path(folder))
        body = _sample(function.kind)
        with _served_here(function, weights, Path(folder) / "server.log") as port:
            here, _ = _answer(function.name, port, body, Path(folder) / "server.log")
        with _served_from(f"{image}-served", function, weights) as (container, port):
            there, seconds = _answer(function.name, port, body, container)
            print(f"  user in the container: {_run('docker', 'exec', container, 'id')}")
    print(f"  image: {human_size(_size(image))}; first reply after {seconds:.1f} s: {len(there)} bytes")
    if here != there:
        print(f"  the replies DIFFER: {here[:300]!r} / {there[:300]!r}", file=sys.stderr)
        return False
    print("  the replies are the same, byte for byte")
    return True


def _build_function(function: Function, folder: Path) -> str:
    """The function's own layer, its code and packages, as Nuclio makes it; then the local server, which takes Nuclio's place."""
    assert function.directory is not None
    image = f"try-{function.name}"
    shutil.copytree(function.directory, folder / "function", ignore=shutil.ignore_patterns("__pycache__"))
    packages = (function.directory / "requirements.txt").is_file()
    install = "RUN python -m pip install --no-deps -r"
    _build(
        image,
        folder,
        f"FROM {function.base}",
        "COPY function /opt/nuclio",
        f"{install} /opt/nuclio/requirements.txt" if packages else "",
        "RUN chmod -R a+rX /opt/nuclio",
    )
    for name in ("tools", "deploy"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "serverless").mkdir()
    shutil.copyfile(COLLECTION / "collection.py", folder / "serverless/collection.py")
    copies = [f"COPY {name} /srv/{name}" for name in ("tools", "deploy", "serverless")]
    _build(
        f"{image}-served", folder, f"FROM {image}", *copies, f"{install} /srv/tools/requirements.txt", "WORKDIR /srv"
    )
    return image


def _build(image: str, folder: Path, *lines: str) -> None:
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _run("docker", "build", "--network", "host", "-q", "-t", image, str(folder))


def _sample(kind: str) -> bytes:
    path = ROOT / f"deploy/samples/{kind}.json"
    return (path if path.is_file() else path.with_name(f"{kind}-rectangle.json")).read_bytes()


def _model_path(weights: Path | None, name: str) -> Path | None:
    """What is mounted: the only file of DIR/<name>, or that folder."""
    if weights is None or not (weights / name).is_dir():
        return None
    files = list((weights / name).iterdir())
    return (files[0] if len(files) == 1 else weights / name).resolve()


def _serve_options(function: Function, model_path: str) -> list[str]:
    values = [f"ENGINE={_ENGINE}"] if function.framework == "onnx" else []
    values += [f"MODEL_PATH={model_path}"] if model_path else []
    return ["--workers", "1", *(word for value in values for word in ("--env", value))]


@contextlib.contextmanager
def _served_here(function: Function, weights: Path | None, log: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    model = _model_path(weights, function.name)
    command = [sys.executable, "-m", "tools.serve", "--port", str(port), *_serve_options(function, str(model or ""))]
    with log.open("wb") as output:
        server = subprocess.Popen([*command, str(function.directory)], stdout=output, stderr=output, cwd=ROOT)
    try:
        yield port
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def _served_from(image: str, function: Function, weights: Path | None) -> Iterator[tuple[str, int]]:
    """As the deployment runs it: not as root, and here with a file system that can't be written."""
    options = ["--user", "1000:1000", "--read-only", "--tmpfs", "/tmp", "--publish", "127.0.0.1::8070"]  # noqa: S108
    model = _model_path(weights, function.name)
    inside = f"/weights/{model.name}" if model else ""
    if model:
        options += ["--volume", f"{model}:{inside}:ro"]
    serve = ["python", "-m", "tools.serve", "--host", "0.0.0.0", "--port", "8070", *_serve_options(function, inside)]  # noqa: S104
    container = _run("docker", "run", "--detach", *options, image, *serve, "/opt/nuclio")
    try:
        address = _run("docker", "port", container, "8070/tcp").splitlines()[0]
        yield container, int(address.rpartition(":")[2])
    finally:
        _run("docker", "rm", "--force", container)


def _answer(name: str, port: int, body: bytes, log: Path | str) -> tuple[bytes, float]:
    """The reply to a request and the seconds until it came, which include the start."""
    headers = {"x-nuclio-function-name": name, "x-nuclio-path": "/", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/function_invocations", body, headers)
    start = time.monotonic()
    while time.monotonic() - start < _START_SECONDS:
        try:
            with _DIRECT.open(request, timeout=60) as reply:
                return reply.read(), time.monotonic() - start
        except (OSError, urllib.error.URLError) as error:
            problem = error
            time.sleep(0.2)
    if isinstance(log, Path):
        said = log.read_text(encoding="utf-8", errors="replace")
    else:
        said = subprocess.run(
            ["docker", "logs", log], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ).stdout
    raise DeploymentError(f"{name}: no reply within {_START_SECONDS} s: {problem}", said[-3000:])


if __name__ == "__main__":
    sys.exit(main())
