"""The parameters of a TransT in a file: as published, as its trainer saves it, or as safetensors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from common.errors import StartupError, describe, listed
from common.networks.fingerprint import content_key
from common.networks.transt.network import Sizes, TransT

# What the trainer saves beside the parameters are objects of these classes. They are read as objects without any code.
_TRAINERS_CLASSES = (
    "ltr.admin.model_constructor.NetConstructor",
    "ltr.admin.settings.Settings",
    "ltr.admin.local.EnvironmentSettings",
    "ltr.admin.stats.AverageMeter",
    "ltr.admin.stats.StatValue",
)
_COUNTER = ".num_batches_tracked"  # of a batch normalization; only training needs it
_SHOWN = 4  # names in a message


class _Ignored:
    """Takes the place of an object that the trainer saved."""


def load_network(path: Path) -> tuple[TransT, str]:
    """A network with the parameters of a file.

    Args:
        path: .pth, .pt or .tar, read without running code in it, or .safetensors.

    Returns:
        The network, on the CPU, and a key that no network with other parameters has.

    Raises:
        StartupError: The file can't be read, or is not a TransT with all its parameters and no others.
    """
    state = {name: value for name, value in _parameters(path).items() if not name.endswith(_COUNTER)}
    try:
        network = TransT(Sizes.of(state))
    except (KeyError, IndexError, ValueError, ArithmeticError, RuntimeError, AssertionError) as error:
        problem = f"there is no {error.args[0]}" if isinstance(error, KeyError) else str(error)
        raise _refused(path, problem) from error
    expected = {name: value for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    if missing := expected.keys() - state.keys():
        raise _refused(path, f"missing: {_some(missing)}")
    if unknown := state.keys() - expected.keys():
        raise _refused(path, f"of no layer: {_some(unknown)}")
    if odd := [name for name in expected if expected[name].shape != state[name].shape]:
        shapes = [f"{name} {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}" for name in odd]
        raise _refused(path, f"of another shape: {listed(shapes, _SHOWN)}")
    if broken := [name for name in expected if not bool(torch.isfinite(state[name]).all())]:
        raise _refused(path, f"not finite: {_some(broken)}")
    network.load_state_dict(state, strict=False)  # but for the counters, all names have been compared
    return network.eval(), _key(state)


def _parameters(path: Path) -> dict[str, Any]:
    """The tensors of a file by name."""
    try:
        content = _read(path)
    except Exception as error:  # each kind of damage has a class of its own
        lines = " ".join(str(error).split())
        remedy = (
            "; it holds objects that are not read here: where you trust the file, save its parameters alone, "
            'torch.save(torch.load("old.pth", weights_only=False)["net"], "new.pth")'
            if "Unsupported" in lines or "GLOBAL" in lines
            else ""
        )
        raise StartupError(f"{path}: can't be read: {type(error).__name__}: {lines[:160]}{remedy}") from error
    if isinstance(content, dict) and isinstance(content.get("net"), dict):
        content = content["net"]
    if not isinstance(content, dict) or not content:
        raise StartupError(
            f"{path}: expected tensors by name, or what the trainer of TransT saves, got {describe(content)}"
        )
    if odd := [name for name, value in content.items() if not isinstance(value, torch.Tensor)]:
        raise _refused(path, f"not tensors: {_some(map(str, odd))}")
    return {str(name): value for name, value in content.items()}


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with torch.serialization.safe_globals([(_Ignored, name) for name in _TRAINERS_CLASSES]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _refused(path: Path, problem: str) -> StartupError:
    return StartupError(f"{path}: not the parameters of a TransT: {problem}")


def _some(names: Iterable[str]) -> str:
    return listed(sorted(names), _SHOWN)


def _key(state: dict[str, Any]) -> str:
    parts: list[str | bytes] = []
    for name in sorted(state):
        parts += [name, state[name].float().contiguous().numpy().tobytes()]  # NumPy has no bfloat16
    return content_key(*parts)
