"""Makes a bundle: builds functions and packs them with everything needed to deploy them without a network.

Images take gigabytes: they are streamed, and written to the disk once.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from deploy.bundle import IMAGES, MANIFEST, NUCTL, SCRIPTS, SUMS, Manifest, Packed, docker_architecture
from deploy.checksum import pieces, sha256
from deploy.console import DeploymentError, count, human_size, quoted
from deploy.definition.function_file import GPU_NAME, NAME, set_environment
from deploy.definition.functions import Function
from deploy.function import FunctionDeployment, Run
from deploy.host.containers import DockerError, find_container
from deploy.host.local_images import find_image
from deploy.host.packages import ROOT
from deploy.nuclio import STORE
from deploy.verify import CHECK_FILES

_PACKED = (
    *("deploy_cpu.sh", "deploy_gpu.sh", "deploy", "compose.yaml", "LICENSE"),
    *("docs/deploy.md", "docs/nuctl.md", "docs/scaling.md", "docs/troubleshooting.md"),
    *CHECK_FILES,
)
_NOT_PACKED = (
    *("__pycache__", "deploy/ci", "deploy/try_images", "deploy/samples/make.py"),
    *("deploy/Dockerfile", "deploy/base_packages.py"),
)


def make(run: Run, target: Path) -> None:
    """Builds the functions of a run and packs them; deploys nothing.

    Args:
        run: The run; the base images of its functions are built.
        target: The file to write.

    Raises:
        DeploymentError: There is no function, one can't be built, or the file can't be written.
        Interrupted: The run was interrupted.
    """
    if not run.functions:
        raise DeploymentError("there is nothing to pack: see above for what each function lacks")
    _build(run)
    dashboard = _dashboard_image(run)
    images = [*(function.image for function in run.functions), _store_image(run), dashboard]
    save = ["docker", "save", *dict.fromkeys(image for image in images if image)]
    run.console.heading(f"Packing {count(len(save) - 2, 'image')}")
    if run.console.dry_run:
        run.console.command(f"{quoted(save)} | gzip -1 > {IMAGES}")
        run.console.command(f"tar -c {MANIFEST} {NUCTL} functions {SCRIPTS} {IMAGES} {SUMS} > {quoted([str(target)])}")
        return
    manifest = Manifest(
        device=run.options.device,
        architecture=docker_architecture(run.commands),
        nuctl=run.host.nuctl_version,
        dashboard=dashboard,
        functions={function.name: Packed(function.image, function.device) for function in run.functions},
    )
    part = target.with_name(f"{target.name}.part")
    try:
        with tarfile.open(part, "w:", format=tarfile.GNU_FORMAT) as archive:
            _write(archive, manifest, run.functions, Path(run.nuclio.nuctl), run.commands.stream(*save))
        part.replace(target)
    except OSError as error:
        cause = f"{target} can't be written: {error.strerror or error}"
        raise DeploymentError(cause, "is there room on its disk?") from error
    finally:
        part.unlink(missing_ok=True)
    run.console.good(f"{target}: {human_size(target.stat().st_size)}, {count(len(run.functions), 'function')}")
    run.console.line("  On the machine without a network:")
    again = f"{SCRIPTS}/{run.console.script} --offline {target.name}"
    run.console.line(f"    tar -xf {target.name} {SCRIPTS} && {again}")


def _build(run: Run) -> None:
    run.console.heading(f"Building {count(len(run.functions), 'function')}")
    for number, function in enumerate(run.functions, 1):
        if not run.console.dry_run:
            run.console.line(f"  [{number}/{len(run.functions)}] {function.name}: building {function.image}")
        log = run.logs / f"{function.name}.log"
        log.write_text("")
        try:
            FunctionDeployment(run, function).build_as(function.image)
        except DeploymentError as error:
            cause = f"{function.name} can't be built: {error.cause}"
            raise DeploymentError(cause, error.remedy or f"the whole log: {log}") from error


def _dashboard_image(run: Run) -> str:
    """The image of Nuclio's dashboard, where one is here."""
    dashboard = run.host.docker.dashboard
    if dashboard is None:
        return ""
    if find_image(dashboard.image, run.commands) is None:
        run.console.note(f"Nuclio's dashboard is not packed: its image {dashboard.image} is no longer here")
        return ""
    return dashboard.image


def _store_image(run: Run) -> str:
    """The image of nuctl's store, which nuctl starts when it is asked anything: whatever this version of nuctl calls it."""
    run.nuclio.ask("get", "projects")
    try:
        container = find_container(STORE)
    except DockerError as error:
        raise DeploymentError(str(error), "docker info shows more") from error
    if container is None and not run.console.dry_run:
        raise DeploymentError(f"nuctl's store ({STORE}) does not run: its image is needed too", f"docker start {STORE}")
    return container.image if container else ""


def _write(
    archive: tarfile.TarFile, manifest: Manifest, functions: Sequence[Function], nuctl: Path, images: Iterable[bytes]
) -> None:
    # What is read first comes first.
    _add_text(archive, MANIFEST, manifest.as_text())
    archive.add(nuctl.resolve(), NUCTL, filter=_anonymous)
    for function in functions:
        content = copy.deepcopy(function.content)
        set_environment(content, function.deployment.environment)  # the variant whose weights are in the image
        for name in [NAME, *([GPU_NAME] if function.has_own_gpu_file else [])]:
            _add_text(archive, f"functions/{function.name}/{name}", json.dumps(content, indent=2) + "\n")
    for path in _PACKED:
        if (ROOT / path).exists():
            archive.add(ROOT / path, f"{SCRIPTS}/{path}", filter=_packed_script)
    with nuctl.open("rb") as file:
        sums = {NUCTL: sha256(pieces(file))}
    sums[IMAGES] = _add_compressed(archive, IMAGES, images)
    _add_text(archive, SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def _add_compressed(archive: tarfile.TarFile, name: str, content: Iterable[bytes]) -> str:
    """Compresses a stream straight into the archive; its header is written once the size is known.

    Returns:
        The SHA-256 of what was written.
    """
    assert archive.fileobj is not None
    file: IO[bytes] = archive.fileobj  # type: ignore[assignment]
    header = _info(name, 0)
    start = file.tell()
    file.write(header.tobuf(archive.format))
    begin = file.tell()
    output = _Summed(file)
    with gzip.GzipFile("", "wb", compresslevel=1, fileobj=output, mtime=0) as compressed:
        for piece in content:
            compressed.write(piece)
    header.size = file.tell() - begin
    file.write(bytes(-header.size % tarfile.BLOCKSIZE))
    archive.offset = file.tell()
    file.seek(start)
    file.write(header.tobuf(archive.format))
    file.seek(archive.offset)
    return output.digest.hexdigest()


class _Summed(io.RawIOBase):
    """Writes to a file and sums up what is written."""

    def __init__(self, file: IO[bytes]):
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.digest.update(data)
        return self._file.write(data)


def _packed_script(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    path = info.name[len(SCRIPTS) + 1 :]
    is_left_out = any(path.startswith(name) or name in path.split("/") for name in _NOT_PACKED)
    return None if is_left_out else _anonymous(info)


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = size, int(time.time())
    return info


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    archive.addfile(_info(name, len(data)), io.BytesIO(data))
