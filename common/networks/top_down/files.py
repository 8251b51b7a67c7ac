"""Where the two models of a top-down pose are: in one folder by their names, or each where its own option says."""

from __future__ import annotations

from pathlib import Path

from common.config import FunctionConfig
from common.errors import StartupError, listed
from common.networks.weights import locate

EXPORTED = (".onnx", ".xml")
_CONFIG = "config.json"  # of a folder of the Hugging Face hub
_WORDS = {"pose": "the top-down pose network", "detector": "the detector that finds the boxes for it"}


def locate_model(
    config: FunctionConfig,
    role: str,
    own_path: str | None,
    *,
    variant: str | None,
    model_path: str | None,
    exported: bool = True,
    folders: bool = False,
) -> Path:
    """The file or folder of one of the two models.

    Args:
        config: The function.
        role: pose or detector, which is also its name in the folder of the weights.
        own_path: The option POSE_PATH or DETECTOR_PATH; None or "" for the one in that folder.
        variant: The option VARIANT.
        model_path: The option MODEL_PATH.
        exported: Whether it may be an .onnx or .xml file.
        folders: Whether it may be a folder of the Hugging Face hub.

    Raises:
        StartupError: There is no such file or folder; with what is there, and the remedy.
    """
    option = f"{role.upper()}_PATH"
    if own_path:
        if not (config.directory / own_path).exists():
            raise StartupError(
                f"{option}: there is no {config.directory / own_path}; mount the folder of your weights into the container"
            )
        return locate(config, None, own_path)
    place = locate(config, variant, model_path)
    folder = place if place.is_dir() else place.parent
    names = [f"{role}{suffix}" for suffix in EXPORTED] if exported else []
    found = [folder / name for name in names if (folder / name).is_file()]
    if folders and (folder / role / _CONFIG).is_file():
        found.append(folder / role)
    elif folders and role == "pose" and (folder / _CONFIG).is_file():
        found.append(folder)
    if len(found) == 1:
        return found[0]
    expected = [*names, *([f"a folder {role} of the Hugging Face hub"] if folders else [])]
    there = sorted(each.name for each in folder.iterdir() if each.suffix in EXPORTED or (each / _CONFIG).is_file())
    raise StartupError(
        f"{folder}: expected {' or '.join(expected)}, {_WORDS[role]}, found {listed(there, 6)}; name it so, or set {option}"
    )
