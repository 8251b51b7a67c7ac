"""Files with TransT's parameters: read as published and as the trainer saves them; others are refused, and run no code."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from common.errors import StartupError
from common.networks.transt.checkpoint import load_network
from tests.common.networks.transt.plain_transt import State, save_tiny, tiny_state


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture
def trainers_classes(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """The classes of what the trainer pickles, while a file is written; they are gone when it is read."""
    names = {
        "model_constructor": "NetConstructor",
        "settings": "Settings",
        "local": "EnvironmentSettings",
        "stats": "AverageMeter",
    }
    made = {}
    for package in ("ltr", "ltr.admin"):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    for module, name in names.items():
        made[name] = type(name, (), {"__module__": f"ltr.admin.{module}"})
        monkeypatch.setitem(sys.modules, f"ltr.admin.{module}", types.SimpleNamespace(**{name: made[name]}))  # type: ignore[arg-type]
    return made


def test_forms_of_a_file(tmp_path: Path) -> None:
    state = tiny_state()
    network, key = load_network(saved(tmp_path / "plain.pth", state))
    for name, value in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state[name])
    assert not network.training
    wrapped = saved(tmp_path / "wrapped.pth.tar", {"net": state, "epoch": 500})
    old = tmp_path / "old.pth"  # as torch wrote files up to 1.5, with which TransT was trained
    torch.save({"net": state}, old, _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "own.safetensors")
    without = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    counters = saved(tmp_path / "without.pth", without)
    for path in (wrapped, old, tmp_path / "own.safetensors", counters):
        assert load_network(path)[1] == key
    assert load_network(save_tiny(tmp_path / "other.pth", seed=1))[1] != key


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_halved_parameters_are_read(tmp_path: Path, kind: torch.dtype) -> None:
    state = {name: value.to(kind) if value.is_floating_point() else value for name, value in tiny_state().items()}
    save_file(state, tmp_path / "half.safetensors")
    network, _ = load_network(tmp_path / "half.safetensors")
    assert all(value.dtype == torch.float32 for value in network.parameters())


@pytest.mark.parametrize("zipped", [True, False])
def test_what_the_trainer_saves(tmp_path: Path, trainers_classes: dict[str, type], zipped: bool) -> None:
    objects = {name: made() for name, made in trainers_classes.items()}
    objects["Settings"].__dict__.update(env=objects["EnvironmentSettings"], device="cuda")
    objects["NetConstructor"].__dict__.update(
        fun_name="transt_resnet50", fun_module="ltr.models.tracking.transt", args=(), kwds={}
    )
    content = {
        "epoch": 500,
        "actor_type": "TranstActor",
        "net": tiny_state(),
        "constructor": objects["NetConstructor"],
        "stats": {"train": {"Loss/total": objects["AverageMeter"]}},
        "settings": objects["Settings"],
    }
    path = tmp_path / "TransT_ep0500.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for module in [name for name in sys.modules if name.split(".")[0] == "ltr"]:
        del sys.modules[module]
    load_network(path)
    assert not any(name.startswith("ltr") for name in sys.modules)


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_of_a_file_runs(tmp_path: Path, zipped: bool) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"net": tiny_state(), "constructor": Command(trace)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(StartupError, match=r"evil.pth: can't be read: .*; .*save its parameters alone"):
        load_network(path)
    assert not trace.exists()


def without(name: str) -> Callable[[State], None]:
    return lambda state: state.__delitem__(name)


def renamed(name: str, other: str) -> Callable[[State], None]:
    return lambda state: state.__setitem__(other, state.pop(name))


def with_value(name: str, value: torch.Tensor) -> Callable[[State], None]:
    return lambda state: state.__setitem__(name, value)


ENCODER = "featurefusion_network.encoder.layers"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("class_embed.layers.2.bias"), r"missing: class_embed.layers.2.bias"),
        (without("input_proj.weight"), r"there is no input_proj.weight"),
        (without(f"{ENCODER}.1.norm21.weight"), r"missing: .*norm21.weight"),
        (renamed("input_proj.bias", "input_projection.bias"), r"missing: input_proj.bias"),
        (with_value("mask_head.weight", torch.zeros(3)), r"of no layer: mask_head.weight"),
        (with_value(f"{ENCODER}.7.linear11.weight", torch.zeros(3)), r"missing: .*layers.2."),
        (with_value("bbox_embed.layers.2.weight", torch.zeros(5, 32)), r"bbox_embed.layers.2.weight \(5, 32\), expected \(4, 32\)"),
        (with_value("input_proj.weight", torch.zeros(30, 64, 1, 1)), r"not the parameters of a TransT"),
        (with_value("input_proj.weight", torch.zeros(())), r"not the parameters of a TransT"),
        (with_value("class_embed.layers.0.bias", torch.full((32,), torch.nan)), r"not finite: class_embed.layers.0.bias"),
    ],
)  # fmt: skip
def test_other_parameters_are_refused(tmp_path: Path, change: Callable[[State], None], message: str) -> None:
    state = tiny_state()
    change(state)
    with pytest.raises(StartupError, match=message) as caught:
        load_network(saved(tmp_path / "changed.pth", state))
    assert "changed.pth" in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("content", [[], {}, 7, "text", {"net": 3}, {"epoch": 5}, {"net": {"a": "b"}}, torch.zeros(3)])
def test_other_content_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(StartupError, match=r"other\.pth: "):
        load_network(saved(tmp_path / "other.pth", content))


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("pth"):
        save_tiny(path)
    else:
        save_file(tiny_state(), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StartupError, match="can't be read"):
        load_network(path)
    path.write_bytes(b"<html>Google Drive can't scan this file for viruses</html>")
    with pytest.raises(StartupError, match="can't be read"):
        load_network(path)
