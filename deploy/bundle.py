"""A bundle: one tar file with everything that a machine without a network needs to deploy functions.

It holds the images of functions with their weights, the image in which nuctl keeps its records, that of Nuclio's dashboard
where one runs, nuctl itself, and these scripts:

    manifest         a line for each fact: "format 2", "device cpu", "function NAME IMAGE DEVICE", ...
    nuctl            for the platform of the machine that made the bundle
    functions/NAME/  function.yaml of each function, in JSON, which is read without PyYAML
    cvat-functions/  the scripts, for a machine that has none
    images.tar.gz    docker save
    SHA256SUMS       of nuctl and images.tar.gz

`deploy.packing` makes it.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from deploy.checksum import pieces, sha256
from deploy.commands import Commands, Interrupted
from deploy.console import Console, DeploymentError, count, quoted
from deploy.definition import function_file
from deploy.definition.function_file import GPU_NAME, NAME
from deploy.definition.functions import Function, load
from deploy.host.packages import ROOT

SCRIPTS = "cvat-functions"
"""The folder of the scripts in a bundle."""
IMAGES, SUMS, NUCTL, MANIFEST = "images.tar.gz", "SHA256SUMS", "nuctl", "manifest"
"""The other files in it."""
_FORMAT = "2"
_KEPT_NUCTL = ROOT / "out" / "nuctl"


@dataclass(frozen=True)
class Packed:
    """A function in a bundle."""

    image: str
    """The name of its image, with the tag."""
    device: str
    """"gpu" when it gets a GPU."""


@dataclass(frozen=True)
class Manifest:
    """What a bundle is, and what it holds."""

    device: str
    """"cpu" or "gpu": which script deploys from it."""
    architecture: str
    """Of the images, as Docker calls it, such as x86_64."""
    nuctl: str
    """The version of nuctl."""
    dashboard: str = ""
    """The image of Nuclio's dashboard; "" when the bundle holds none."""
    functions: Mapping[str, Packed] = field(default_factory=dict)
    """The functions by name."""
    made: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    """When, in UTC."""

    def as_text(self) -> str:
        """The lines of the file."""
        facts = [f"format {_FORMAT}", f"made {self.made}", f"device {self.device}"]
        facts += [f"architecture {self.architecture}", f"nuctl {self.nuctl}"]
        facts += [f"dashboard {self.dashboard}"] if self.dashboard else []
        facts += [f"function {name} {packed.image} {packed.device}" for name, packed in self.functions.items()]
        return "\n".join(facts) + "\n"


def read_manifest(text: str) -> Manifest:
    """The inverse of `Manifest.as_text`.

    Args:
        text: The lines of the file.

    Raises:
        ValueError: It is of another format, which the message names, or incomplete.
    """
    facts: dict[str, str] = {}
    functions: dict[str, Packed] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        facts[name] = value
        if facts.get("format") != _FORMAT:
            raise ValueError(facts.get("format", "none"))
        if name == "function":
            function, image, device = value.split()
            functions[function] = Packed(image, device)
    try:
        return Manifest(
            device=facts["device"],
            architecture=facts["architecture"],
            nuctl=facts["nuctl"],
            dashboard=facts.get("dashboard", ""),
            functions=functions,
            made=facts["made"],
        )
    except KeyError as error:
        raise ValueError(f"{_FORMAT} without {error}") from error


@dataclass(frozen=True)
class Bundle:
    """An open bundle: everything but the images is unpacked."""

    path: Path
    """The file."""
    folder: Path
    """Where it is unpacked."""
    manifest: Manifest
    images_sha256: str
    """What the images must be, in hexadecimal digits."""

    @property
    def nuctl(self) -> Path:
        """The bundle's nuctl."""
        return self.folder / NUCTL

    @property
    def start_dashboard(self) -> str:
        """The command that starts Nuclio's dashboard from the image in the bundle; "" without such an image."""
        match = re.search(r":([0-9]+(?:\.[0-9]+)+)-(\w+)$", self.manifest.dashboard)
        if not match:
            return ""
        return f"NUCLIO_VERSION={match[1]} NUCLIO_ARCH={match[2]} docker compose -f {quoted([str(ROOT / 'compose.yaml')])} up -d"

    def keep_nuctl(self) -> None:
        """Copies nuctl beside these scripts, so that --list and --remove find it later; does nothing in a read-only folder."""
        try:
            _KEPT_NUCTL.parent.mkdir(parents=True, exist_ok=True)
            part = _KEPT_NUCTL.with_name("nuctl.part")
            shutil.copy(self.nuctl, part)
            part.replace(_KEPT_NUCTL)
        except OSError:
            return

    def functions(self, names: Sequence[str]) -> list[Function]:
        """The functions to deploy.

        Args:
            names: Their names, or directories of the same functions; none for all of the bundle.

        Raises:
            DeploymentError: One is not in the bundle; status 2.
        """
        chosen = [
            load(Path(name), self.manifest.device).name if (Path(name) / NAME).is_file() else name for name in names
        ]
        return [self._function(name) for name in dict.fromkeys(chosen or self.manifest.functions)]

    def _function(self, name: str) -> Function:
        packed = self.manifest.functions.get(name)
        if packed is None:
            cause = f"{name} is not in the bundle"
            raise DeploymentError(cause, f"in it: {' '.join(self.manifest.functions)}", status=2)
        function = load(self.folder / "functions" / name, self.manifest.device)
        # Its image is complete: no base image is built.
        function.image, function.device, function.framework = packed.image, packed.device, ""
        return function

    def load_images(self, commands: Commands, console: Console) -> None:
        """Loads the images into Docker, after verifying their checksum.

        Args:
            commands: Runs docker.
            console: Where it is printed.

        Raises:
            DeploymentError: They are damaged, or for another kind of machine, or Docker can't load them.
            Interrupted: The run was interrupted.
        """
        wanted, here = self.manifest.architecture, docker_architecture(commands)
        if wanted != here and not console.dry_run:
            cause = f"the bundle's images are for {wanted}, this machine is {here}"
            raise DeploymentError(cause, "make the bundle on a machine of the same kind")
        console.heading("Loading images")
        source = quoted(["tar", "-xOf", str(self.path), IMAGES])
        if console.dry_run:
            commands.change("docker", "load", source=source)
            return
        if sha256(_until_stopped(self._images(), commands)) != self.images_sha256:
            raise DeploymentError(f"{self.path} is damaged: its images are not what {SUMS} says", "copy it again")
        done = commands.change("docker", "load", data=self._images(), source=source)
        if not done.ok:
            raise DeploymentError(f"Docker can't load the images: {done.last_words}", "docker system df shows its disk")
        console.line(f"  {count(len(re.findall('(?m)^Loaded', done.output)), 'image')}")

    def _images(self) -> Iterator[bytes]:
        with tarfile.open(self.path, "r:") as archive:
            yield from pieces(_member(archive, IMAGES))


def open_bundle(path: Path, device: str, scratch: Path) -> Bundle:
    """Opens a bundle, without reading its images.

    Args:
        path: The file.
        device: "cpu" or "gpu": the script that runs.
        scratch: A folder into which it is unpacked.

    Raises:
        DeploymentError: It is not a bundle, is damaged, or is for another device or of another format; status 2.
    """
    folder = scratch / "bundle"
    try:
        with tarfile.open(path, "r:") as archive:
            manifest = _manifest_of(archive, path)
            sums = _sums_of(archive)
            _unpack(archive, manifest, folder)
            archive.getmember(IMAGES)
    except (tarfile.TarError, KeyError, ValueError, OSError) as error:
        cause = f"{path} is not a bundle, or is incomplete"
        raise DeploymentError(
            cause, "copy it again, or make it again on a connected machine: make bundle", status=2
        ) from error
    if manifest.device != device:
        raise DeploymentError(
            f"{path} was made for the {manifest.device}", f"use deploy_{manifest.device}.sh", status=2
        )
    bundle = Bundle(path, folder, manifest, sums.get(IMAGES, ""))
    with bundle.nuctl.open("rb") as file:
        if sha256(pieces(file)) != sums.get(NUCTL):
            raise DeploymentError(f"{path} is damaged: nuctl in it is not what {SUMS} says", "copy it again", status=2)
    return bundle


def kept_nuctl() -> Path | None:
    """The nuctl of a bundle that was deployed with these scripts, or that was unpacked beside them."""
    beside = ROOT.parent / NUCTL
    for path in (_KEPT_NUCTL, *([beside] if (ROOT.parent / MANIFEST).is_file() else [])):
        if os.access(path, os.X_OK):
            return path
    return None


def docker_architecture(commands: Commands) -> str:
    """The kind of machine that Docker runs on, such as x86_64; "" when Docker does not answer.

    Args:
        commands: Runs docker.
    """
    return commands.ask("docker", "info", "--format", "{{.Architecture}}").output.strip()


def _manifest_of(archive: tarfile.TarFile, path: Path) -> Manifest:
    text = _member(archive, MANIFEST).read().decode()
    try:
        return read_manifest(text)
    except ValueError as error:
        cause = f"{path} has a format that this version does not know: {error}"
        remedy = f"use the scripts inside it: tar -xf {quoted([str(path)])} {SCRIPTS}"
        raise DeploymentError(cause, remedy, status=2) from error


def _sums_of(archive: tarfile.TarFile) -> dict[str, str]:
    """The SHA-256 of files, by name."""
    lines = (line.split() for line in _member(archive, SUMS).read().decode().splitlines())
    return {name: digest for digest, name in lines}


def _unpack(archive: tarfile.TarFile, manifest: Manifest, folder: Path) -> None:
    """Unpacks what the manifest names, and no other path that an archive may hold."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NUCTL).open("wb") as file:
        shutil.copyfileobj(_member(archive, NUCTL), file)
    (folder / NUCTL).chmod(0o755)
    present = archive.getnames()
    for name in manifest.functions:
        if not re.fullmatch(r"[-a-z0-9]+", name):
            raise ValueError(name)
        directory = folder / "functions" / name
        directory.mkdir(parents=True, exist_ok=True)
        for file_name in (NAME, GPU_NAME):
            if file_name == NAME or f"functions/{name}/{file_name}" in present:
                (directory / file_name).write_bytes(_member(archive, f"functions/{name}/{file_name}").read())
        function_file.read(directory / NAME)


def _until_stopped(content: Iterable[bytes], commands: Commands) -> Iterator[bytes]:
    for piece in content:
        if commands.stop.is_set():
            raise Interrupted
        yield piece


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file
