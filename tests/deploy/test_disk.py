"""How much room images need, and what is said of the disk."""

from __future__ import annotations

import pytest

from deploy.base_image import of_framework
from deploy.host.disk import Need, check_disk, need_of_build, need_of_bundle
from tests.deploy.programs import Programs

ONNX, OPENCV, TORCH = (of_framework(name, "cpu") for name in ("onnx", "opencv", "pytorch"))


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Programs:
    programs = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{programs.bin}:/usr/bin:/bin")
    programs.write("docker", "exit 1")
    return programs


def need(programs, *bases, index="https://index.example"):
    return need_of_build(bases, index, programs.commands)


def test_torch_needs_more_than_onnx_and_cuda_more_than_both(programs):
    gpu = of_framework("pytorch", "gpu")
    needs = [need(programs, ONNX), need(programs, TORCH), need(programs, TORCH, index=""), need(programs, gpu)]
    assert needs == sorted(needs, key=lambda each: each.enough)
    assert need(programs, TORCH).enough > 5
    assert need(programs, ONNX, TORCH).enough > need(programs, TORCH).enough


def test_images_that_are_here_take_little(programs):
    programs.write("docker", "echo '[{}]'")
    assert need(programs, ONNX, OPENCV, TORCH) == Need(2, 2)


def test_a_bundle_takes_its_size_and_more(tmp_path):
    bundle = tmp_path / "bundle.tar"
    with bundle.open("wb") as file:
        file.truncate(4_000_000_000)  # no block of it is written
    assert need_of_bundle(bundle) == Need(4, 12)


@pytest.mark.parametrize(
    ("asked", "said", "missing"),
    [
        (Need(0, 0), "ok      disk: ", 0),
        (Need(0, 1e6), "; the images may take 1000000 GB and more", 0),
        (Need(1e6, 2e6), "MISSING the disk of Docker", 1),
    ],
)
def test_the_disk(programs, tmp_path, capsys, asked, said, missing):
    programs.write("docker", f"echo '{tmp_path}'")
    check_disk(asked, programs.commands, programs.console)
    assert said in capsys.readouterr().out
    assert programs.console.missing == missing


@pytest.mark.parametrize("answer", ["exit 1", "echo /nowhere/on/this/machine"])
def test_a_disk_that_cannot_be_seen_from_here(programs, capsys, answer):
    programs.write("docker", answer)
    check_disk(Need(1e6, 1e6), programs.commands, programs.console)
    assert capsys.readouterr().out == ""
