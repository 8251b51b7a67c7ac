"""How a function's image is built: `spec.build` of a function.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from common.errors import describe
from tools.check.findings import Findings
from tools.check.values import as_text, mapping, nearest, runtime_minor

_BASE_PYTHON = re.compile(r"(?:.*/)?python:(3\.\d+)(?!\d)")
_IMAGE = re.compile(
    r"([a-z0-9]+([._-]+[a-z0-9]+)*/)*[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_REGISTRY_PORT = re.compile(r"[^/]+:\d+/.+")
_INSTRUCTIONS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip


def check_build(spec: Mapping[Any, Any], findings: Findings) -> None:
    """All rules on `spec.build`."""
    build = mapping(spec.get("build"))
    image = build.get("image")
    if isinstance(image, str) and image:
        if _REGISTRY_PORT.fullmatch(image):
            findings.error(
                "build.image",
                "spec.build.image",
                expected="a name without a registry's port, and nuctl's --registry",
                got=describe(image),
                why="Nuclio splits the name at its colon and takes the port for the tag",
            )
        elif not _IMAGE.fullmatch(image):
            findings.error(
                "build.image",
                "spec.build.image",
                expected="an image name: lower-case letters, digits and . _ - /, with an optional :tag",
                got=describe(image),
                why="Nuclio and Docker refuse other names",
            )
    directives, commands = mapping(build.get("directives")), build.get("commands")
    _check_base_image(spec, build, findings)
    if commands and directives:
        findings.error(
            "build.commands",
            "spec.build.commands",
            expected="either commands or directives",
            got="both",
            why="Nuclio builds with the commands alone and drops the directives without a word",
        )
    for stage, entries in directives.items():
        if stage not in ("preCopy", "postCopy"):
            meant = nearest(str(stage), ("preCopy", "postCopy"))
            findings.error(
                "build.directives",
                f"spec.build.directives.{stage}",
                expected=meant or "preCopy or postCopy",
                got=str(stage),
                why="Nuclio drops the directives under any other key without a word",
            )
        for i, entry in enumerate(entries if isinstance(entries, list) else ()):
            _check_directive(mapping(entry), f"spec.build.directives.{stage}[{i}]", findings)


def _check_base_image(spec: Mapping[Any, Any], build: Mapping[Any, Any], findings: Findings) -> None:
    base = build.get("baseImage")
    minor = runtime_minor(spec.get("runtime"))
    if not base and not any(build.get(key) for key in ("directives", "commands", "dependencies")):
        findings.warn(
            "build.base-image",
            "spec.build.baseImage",
            expected="an image that holds the function's packages, or directives that install them",
            got="nothing",
            why="the function runs in a bare Python image, without any package",
        )
        return
    python = _BASE_PYTHON.match(as_text(base))
    if minor is not None and python is not None and python.group(1) != f"3.{minor}":
        findings.error(
            "build.python",
            "spec.build.baseImage",
            expected=f"Python 3.{minor}, as spec.runtime says",
            got=describe(base),
            why="Nuclio installs its wrapper's wheels for the runtime's version into the base image's Python",
        )


def _check_directive(entry: Mapping[Any, Any], field: str, findings: Findings) -> None:
    kind, value = as_text(entry.get("kind")), entry.get("value")
    if kind.upper() not in _INSTRUCTIONS:
        meant = nearest(kind, _INSTRUCTIONS)
        findings.error(
            "build.directives",
            f"{field}.kind",
            expected=meant or "an instruction of a Dockerfile, such as RUN",
            got=describe(kind) if kind else "nothing",
            why="it goes into the Dockerfile as it stands, and the build fails",
        )
    if not as_text(value).strip():
        findings.error(
            "build.directives",
            f"{field}.value",
            expected=f"what {kind or 'the instruction'} is to do",
            got="nothing" if value is None else describe(value),
            why="it goes into the Dockerfile as it stands, and the build fails",
        )
