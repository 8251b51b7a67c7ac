"""A bundle, and deployments from it on a machine without a network, nuctl or this repository."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile

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


def test_no_build_after_an_offline_deployment_takes_what_nuclio_has(host, bundle, other_machine):
    assert host.deploy("--offline", "bundle.tar", "--env", "A=1", "--no-verify", root=other_machine).status == 0
    before = host.deployed()
    for names in ([], ["finder"]):
        host.forget()
        run = host.deploy("--no-build", "--no-verify", *names, root=other_machine)
        assert run.status == 0, run.output
        assert run.made("^nuctl deploy")
        assert (host.deployed().env["A"], host.deployed().port) == ("1", before.port)
    run = host.deploy("--no-build", "--no-verify", "nobody", root=other_machine)
    assert run.status == 2
    assert "nobody: there is no such function" in run.output


def test_the_scripts_of_a_bundle_without_it(host, bundle, other_machine):
    run = host.deploy(root=other_machine)
    assert run.status == 2
    assert "there are no functions beside these scripts\n  from a bundle: --offline FILE; " in run.output
    run = host.deploy("--list", root=other_machine)
    assert run.status == 1
    assert "nuctl is not installed" in run.output
    assert host.deploy("--offline", "bundle.tar", "--no-verify", root=other_machine).status == 0
    run = host.deploy("--list", root=other_machine)
    assert run.status == 0, run.output
    assert "finder" in run.output


def test_nuctl_is_asked_once_the_image_of_its_store_is_loaded(host, bundle, other_machine):
    run = host.deploy("--offline", "bundle.tar", "--no-verify", root=other_machine)
    assert run.status == 0, run.output
    run.order("^docker load", "^nuctl get ")
    first = next(call for call in run.calls if call.startswith("nuctl get"))
    assert run.calls.index(first) > next(i for i, call in enumerate(run.calls) if call.startswith("docker load"))


def test_what_a_function_was_deployed_with_here_does_not_go_into_a_bundle(host):
    directory = host.deployed_function("finder", "--env", "SECRET=1")
    made = host.deploy("--bundle", str(host.home / "bundle.tar"), str(directory), "--env", "VARIANT=large")
    assert made.status == 0, made.output
    with tarfile.open(host.home / "bundle.tar") as archive:
        content = json.load(archive.extractfile("functions/finder/function.yaml"))
    assert content["spec"]["env"] == [{"name": "VARIANT", "value": "large"}]


def test_a_bundle_leaves_out_what_can_not_start(host):
    spec = "\n  env:\n    - name: MODEL_PATH\n      value: weights/model.onnx\n"
    host.function("finder")
    host.function("empty")
    path = host.home / "empty" / "function.yaml"
    path.write_text(path.read_text().replace("    - name: VARIANT\n      value: small\n", spec.split("env:\n")[1]))
    made = host.deploy("--bundle", str(host.home / "bundle.tar"), str(host.home))
    assert made.status == 0, made.output
    assert "empty lacks weights of your own (MODEL_PATH)" in made.output
    with tarfile.open(host.home / "bundle.tar") as archive:
        assert {name for name in archive.getnames() if name.startswith("functions/")} == {
            "functions/finder/function.yaml"
        }
    shutil.rmtree(host.home / "finder")
    made = host.deploy("--bundle", str(host.home / "nothing.tar"), str(host.home))
    assert made.status == 1, made.output
    assert not (host.home / "nothing.tar").exists()


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


def test_the_dashboard_that_it_tells_to_start_is_the_one_of_the_bundle(host, bundle, other_machine):
    host.unset("dashboard")
    run = host.deploy("--offline", "bundle.tar", root=other_machine)
    assert run.status == 0, run.output
    assert re.search(r"NUCLIO_VERSION=1\.15\.9 .*docker compose -f \S+compose.yaml up -d", run.output)
