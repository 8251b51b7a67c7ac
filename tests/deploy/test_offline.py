"""A bundle, and deployments from it on a machine without a network, nuctl or this repository."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest


@pytest.fixture
def bundle(host):
    made = host.deploy("--bundle", str(host.home / "bundle.tar"), str(host.function()))
    assert made.status == 0, made.output
    made.order("docker build .*cvat.onnx.base", "nuctl build finder ", "docker save .*")
    assert "gcr.io/iguazio/alpine:3.20" in made.call("docker save")
    assert not made.made("nuctl deploy")
    return host.home / "bundle.tar"


@pytest.fixture
def other_machine(host, bundle):
    """No images, no nuctl, no repository: only the bundle, and the scripts in it."""
    host.forget()
    for path in [
        *(host.world / "images").iterdir(),
        host.world / "bin" / "nuctl",
        *(host.world / "projects").iterdir(),
    ]:
        path.unlink()
    host.unset("store_runs")
    shutil.rmtree(host.home / "finder")
    subprocess.run(["tar", "-xf", "bundle.tar", "cvat-functions"], cwd=host.home, check=True)
    return host.home / "cvat-functions"


def test_deploying_without_any_network(host, bundle, other_machine):
    run = host.deploy("--offline", "bundle.tar", root=other_machine)
    assert run.status == 0, run.output
    assert not run.made(r"^docker (build|pull|push) |^nuctl build")
    assert host.deployed().image.startswith("cvat.finder:")
    assert host.facts.image(host.deployed().image)
    assert "1 shape" in run.output
    assert 28000 <= host.deployed().port < 29000
    # Deploying again from the bundle keeps what it was deployed with.
    run = host.deploy("--offline", "bundle.tar", "--env", "A=1", root=other_machine)
    assert run.status == 0, run.output
    run = host.deploy("--offline", "bundle.tar", "finder", root=other_machine)
    assert run.status == 0, run.output
    assert host.deployed().env["A"] == "1"


def test_listing_and_removing_with_the_nuctl_of_the_bundle(host, bundle, other_machine):
    assert host.deploy("--offline", "bundle.tar", "--no-verify", root=other_machine).status == 0
    listed = host.deploy("--list", "--offline", "bundle.tar", root=other_machine)
    assert listed.status == 0, listed.output
    assert "finder" in listed.output
    removed = host.deploy("--remove", "finder", "--offline", "bundle.tar", root=other_machine)
    assert removed.status == 0, removed.output
    assert host.record("finder") is None


def test_no_build_without_the_bundle_says_what_is_missing(host, bundle, other_machine):
    assert host.deploy("--offline", "bundle.tar", "--no-verify", root=other_machine).status == 0
    run = host.deploy("--no-build", "--no-verify", root=other_machine)
    assert run.status in (0, 1)
    assert "find:" not in run.output
    if run.status == 1:
        assert "nuctl is not installed" in run.output


def test_a_damaged_bundle(host, bundle):
    subprocess.run(["tar", "-xf", "bundle.tar"], cwd=host.home, check=True)
    (host.home / "nuctl").write_text("changed")
    names = subprocess.run(["tar", "-tf", "bundle.tar"], cwd=host.home, capture_output=True, text=True).stdout
    tops = list(dict.fromkeys(name.split("/")[0] for name in names.split()))
    subprocess.run(["tar", "-cf", "bundle.tar", *tops], cwd=host.home, check=True)
    root = host.home / "cvat-functions"
    run = host.deploy("--offline", "bundle.tar", root=root)
    assert run.status == 2
    assert "is damaged" in run.output
    assert "was made for the cpu" in host.deploy("--offline", "bundle.tar", device="gpu", root=root).output


def test_what_is_not_in_the_bundle(host, bundle, other_machine):
    run = host.deploy("--offline", "bundle.tar", "onnx-rapidocr-text", root=other_machine)
    assert run.status == 2
    assert re.search("onnx-rapidocr-text is not in the bundle", run.output)
    assert "finder" in run.output


def test_a_bundle_in_a_dry_run(host):
    run = host.deploy("--bundle", str(host.home / "bundle.tar"), str(host.function()), "--dry-run")
    assert run.status == 0, run.output
    assert "+ docker save" in run.output
    assert not (host.home / "bundle.tar").exists()
    assert not run.made("docker save|nuctl build")
