"""What keeps a function from being deployed without further files or another machine: weights of one's own, or a GPU."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.definition import function_file

FUNCTION_FOLDER = "/opt/nuclio"
"""Where Nuclio puts a function's directory in its image."""

_BASE_IMAGES = "cvat."  # those of the collection; any other image may hold weights that can't be seen from here


def lacks(
    directory: Path,
    function: Mapping[str, Any],
    weights: Mapping[str, Any] | None,
    device: str,
    environment: Mapping[str, str],
    mounted: bool,
) -> str:
    """What a function needs that a deployment can't get by itself.

    Files that the build fetches are not reported. What can't be known is not reported either: whether weights come with a
    base image from outside the collection, or with a volume.

    Args:
        directory: The function's.
        function: The content of its function.yaml.
        weights: The content of its weights.yaml; None when it has none.
        device: "cpu" or "gpu": what it is to be deployed for.
        environment: Variables of the deployment, which take precedence over those of function.yaml.
        mounted: Whether a folder with its weights is mounted.

    Returns:
        A phrase with the remedy; "" when nothing is known to be missing.
    """
    spec = _mapping(function.get("spec"))
    if device == "cpu" and needs_gpu(function):
        return "a GPU: ./deploy_gpu.sh"
    if mounted:
        return ""
    settings = {**function_file.environment(function), **environment}
    model_path = settings.get("MODEL_PATH", "").strip()
    if model_path:
        return (
            ""
            if _is_provided(model_path, directory, spec)
            else "weights of your own (MODEL_PATH): mount them with --weights DIR"
        )
    absent = list(_absent(directory, weights, settings.get("VARIANT", "").strip()))
    if absent:
        return f"{', '.join(absent)}: part of the function's directory, copy it again"
    return ""


def needs_gpu(function: Mapping[str, Any]) -> bool:
    """Whether a function.yaml asks for a GPU, whichever script deploys it.

    Args:
        function: The content of the file.
    """
    limits = _mapping(_mapping(_mapping(function.get("spec")).get("resources")).get("limits"))
    return any(str(name).endswith("/gpu") and str(count).strip() not in ("", "0") for name, count in limits.items())


def _is_provided(model_path: str, directory: Path, spec: Mapping[str, Any]) -> bool:
    build = _mapping(spec.get("build"))
    if not str(build.get("baseImage") or "").startswith(_BASE_IMAGES):
        return True
    path = posixpath.join(FUNCTION_FOLDER, model_path)
    inside = posixpath.relpath(path, FUNCTION_FOLDER)
    if not inside.startswith("..") and (directory / inside).exists():
        return True
    if any(posixpath.basename(path) in line for line in _build_lines(build)):
        return True
    return any(_is_below(path, folder) for folder in _mounted_folders(spec))


def _build_lines(build: Mapping[str, Any]) -> Iterator[str]:
    for line in _list(build.get("commands")):
        yield str(line)
    for directives in _mapping(build.get("directives")).values():
        for directive in _list(directives):
            yield str(_mapping(directive).get("value"))


def _mounted_folders(spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in _list(spec.get("volumes")):
        folder = _mapping(_mapping(volume).get("volumeMount")).get("mountPath")
        if isinstance(folder, str):
            yield folder


def _is_below(path: str, folder: str) -> bool:
    return posixpath.normpath(path).startswith(posixpath.normpath(folder).rstrip("/") + "/")


def _absent(directory: Path, weights: Mapping[str, Any] | None, variant: str) -> Iterator[str]:
    """The files of a variant that have no address to be fetched from and are not in the function's directory."""
    content = _mapping(weights)
    variants = _mapping(content.get("variants"))
    chosen = variant or str(content.get("default") or next(iter(variants), ""))
    for file in _list(_mapping(variants.get(chosen)).get("files")):
        path = _mapping(file).get("path")
        if not isinstance(path, str) or _mapping(file).get("url"):
            continue
        if not any((folder / path).is_file() for folder in (directory, directory / "weights" / chosen)):
            yield path


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
