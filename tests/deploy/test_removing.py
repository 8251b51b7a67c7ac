"""--list and --remove."""

from __future__ import annotations

from tests.deploy.test_missing import STORE_PULL


def test_removing_by_directory(host):
    directory = host.deployed_function()
    run = host.deploy("--remove", str(directory))
    assert run.status == 0, run.output
    assert run.call("delete") == "nuctl delete function finder --force --platform local --namespace nuclio"
    assert "finder removed" in run.output
    assert host.record("finder") is None
    run = host.deploy("--remove", str(directory))
    assert run.status == 0
    assert "finder is not deployed" in run.output


def test_removing_a_function_of_ones_own_by_name(host):
    directory = host.deployed_function("my-finder")
    directory.rename(host.home / "elsewhere")
    run = host.deploy("--remove", "my-finder")
    assert run.status == 0, run.output
    assert "my-finder removed" in run.output
    assert host.record("my-finder") is None


def test_what_happens_to_the_images_is_said(host):
    host.deployed_function()
    before = host.facts.images()
    run = host.deploy("--remove", "finder")
    assert "the images are kept" in run.output
    # By tag: by its id Docker does not remove an image that has tags of another function too.
    remove = """docker image rm $(docker images --format '{{.Repository}}:{{.Tag}}' "$name"); done"""
    assert f"for name in cvat.finder; do {remove}" in run.output
    assert host.facts.images() == before


def test_removing_nothing_that_is_known(host):
    host.set("projects/cvat")
    run = host.deploy("--remove", "nonsense")
    assert run.status == 2
    assert "nonsense: there is no such function" in run.errors


def test_removing_in_a_dry_run(host):
    host.deployed_function()
    run = host.deploy("--remove", "finder", "--dry-run")
    assert run.status == 0, run.output
    assert "+ nuctl delete function finder --force" in run.output.replace(str(host.world / "bin") + "/", "")
    assert host.record("finder")


def test_a_store_that_can_not_be_reached_is_not_taken_for_a_function_that_is_not_deployed(host):
    host.deployed_function()
    host.set("store_fails", STORE_PULL)
    run = host.deploy("--remove", "finder")
    assert run.status == 1
    assert "is not deployed" not in run.output
    assert "gcr.io/iguazio/alpine:3.20" in run.output
    assert host.record("finder")


def test_listing(host):
    host.deployed_function()
    run = host.deploy("--list")
    assert run.status == 0
    assert "finder" in run.output
    assert not run.made(" (deploy|build|create) ")


def test_listing_where_nothing_is_deployed(host):
    run = host.deploy("--list")
    assert run.status == 0, run.output


def test_listing_without_nuctl(host):
    (host.world / "bin" / "nuctl").unlink()
    run = host.deploy("--list")
    assert run.status == 1
    assert "nuctl is not installed" in run.output
