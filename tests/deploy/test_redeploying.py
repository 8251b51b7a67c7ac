"""Deploying a function again: what it keeps, what is built, and what happens when the new version fails."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests.deploy.host import SHAPE


def test_project_port_and_function_stay(host):
    directory = host.deployed_function()
    first = host.deployed().port
    # Something else now follows from the name, as after a change of the range: the container's own port takes precedence.
    run = host.deploy(str(directory), "--no-verify", "--first-port", "20000")
    assert run.status == 0, run.output
    assert host.deployed().port == first
    assert not run.made("create project")
    assert not run.made("delete")


def test_a_function_whose_container_is_gone_keeps_its_port(host):
    directory = host.deployed_function()
    host.remove_container("finder")
    run = host.deploy(str(directory), "--no-verify", "--first-port", "20000")
    assert run.status == 0, run.output
    assert host.deployed().port == host.deployed(number=1).port


def test_options_are_kept_without_flags(host):
    weights = host.home / "weights"
    weights.mkdir()
    (weights / "best.onnx").write_bytes(b"x")
    host.set("networks/other")
    given = ("--env", "A=1", "--env", "VARIANT=big", "--user", "1234:4321", "--cpu", "2", "--memory", "3Gi")
    more = ("--network", "other", "--weights", str(weights), "--python", "python:3.10-slim")
    directory = host.deployed_function("finder", *given, *more)
    before = host.snapshot()
    run = host.deploy(str(directory), "--no-verify")
    assert run.status == 0, run.output
    after = host.snapshot()
    assert after.pop("image") != before.pop("image")
    assert after == before
    deployed = host.deployed()
    assert deployed.env["A"] == "1"
    assert deployed.env["VARIANT"] == "big"
    assert deployed.env["MODEL_PATH"] == "/opt/nuclio/weights/best.onnx"
    assert deployed.mounts == {"/opt/nuclio/weights": str(weights)}
    assert deployed.network == "other"
    assert deployed.spec["securityContext"] == {"runAsUser": 1234, "runAsGroup": 4321}
    assert deployed.spec["resources"]["limits"] == {"cpu": "2", "memory": "3Gi"}
    assert "PYTHON_IMAGE=python:3.10-slim" in run.call("^docker build ")
    assert re.search("finder: .*--env A=1 .*--weights", run.output)


def test_variables_are_merged_by_name(host):
    directory = host.deployed_function("finder", "--env", "A=1", "--env", "B=1")
    host.deploy(str(directory), "--no-verify", "--env", "B=2", "--env", "C=3")
    host.deploy(str(directory), "--no-verify")
    assert {"A": "1", "B": "2", "C": "3"}.items() <= host.deployed().env.items()


def test_forget_drops_what_it_was_deployed_with(host):
    directory = host.deployed_function("finder", "--env", "A=1", "--user", "1234:4321", "--memory", "3Gi")
    port = host.deployed().port
    run = host.deploy(str(directory), "--no-verify", "--forget", "--env", "B=2")
    assert run.status == 0, run.output
    host.deploy(str(directory), "--no-verify")
    deployed = host.deployed()
    assert "A" not in deployed.env
    assert deployed.env["B"] == "2"
    assert deployed.spec["securityContext"] == {"runAsUser": 1000, "runAsGroup": 1000}
    assert "3Gi" not in str(deployed.spec.get("resources"))
    assert deployed.port == port


def test_a_change_of_function_yaml_is_deployed(host):
    directory = host.deployed_function("finder", "--env", "A=1")
    file = directory / "function.yaml"
    file.write_text(file.read_text().replace("value: small", "value: medium").replace("numWorkers: 3", "numWorkers: 1"))
    run = host.deploy(str(directory), "--no-verify")
    assert run.status == 0, run.output
    assert host.deployed().env["VARIANT"] == "medium"
    assert host.deployed().triggers["web"]["numWorkers"] == 1


def test_a_weights_folder_that_is_gone_is_said_before_anything_is_built(host):
    weights = host.home / "weights"
    weights.mkdir()
    (weights / "best.onnx").write_bytes(b"x")
    directory = host.deployed_function("finder", "--weights", str(weights))
    shutil.rmtree(weights)
    run = host.deploy(str(directory))
    assert run.status == 1
    assert str(weights) in run.output
    assert "--weights DIR" in run.output
    assert not run.made("docker build |nuctl build")


class TestWithoutBuild:
    def test_the_images_that_are_here(self, host):
        directory = host.function()
        run = host.deploy(str(directory), "--no-verify", "--no-build")
        assert run.status == 1
        assert "there is no image cvat.finder:latest here" in run.output
        host.deploy(str(directory), "--no-verify")
        image = host.deployed().image
        host.forget()
        run = host.deploy(str(directory), "--no-verify", "--no-build")
        assert run.status == 0, run.output
        assert not run.made("docker build |common.networks.weights|nuctl build")
        assert host.deployed().image == image

    def test_without_names_it_takes_what_nuclio_has_as_it_was_deployed(self, host):
        weights = host.home / "weights"
        weights.mkdir()
        (weights / "best.onnx").write_bytes(b"x")
        host.deployed_function("one", "--env", "A=1", "--weights", str(weights))
        host.deployed_function("two", trigger="\n        port: 31000")
        before = {name: host.snapshot(name) for name in ("one", "two")}
        shutil.rmtree(host.home / "one")  # its record is enough
        for name in ("one", "two"):
            # Docker has restarted, and another function has the address that Nuclio knows.
            host.facts.set_container(f"nuclio-nuclio-{name}", id=f"restarted-{name}")
        run = host.deploy("--no-build")
        assert run.status == 0, run.output
        assert {name: host.snapshot(name) for name in ("one", "two")} == before
        assert sorted(record["metadata"]["name"] for record in host.facts.records()) == ["one", "two"]
        assert not run.made("docker build |nuctl build")
        assert len([call for call in run.calls if call.startswith("nuctl deploy")]) == 2
        assert host.container_fact("one", "id") != "restarted-one"
        assert re.search(r"one +detector +\d+ +ready", run.output)

    def test_a_function_that_others_have_deployed_is_kept_as_it_is(self, host):
        host.deployed_function()
        record = host.record("finder")
        del record["metadata"]["annotations"]["cvat-functions/deployment"]
        record["spec"]["env"] = [{"name": "BY_HAND", "value": "1"}]
        host.facts.set_record(record)
        run = host.deploy("--no-build", "--no-verify")
        assert run.status == 0, run.output
        assert host.deployed().env["BY_HAND"] == "1"
        assert host.deployed().port == host.deployed(number=1).port

    def test_a_function_of_ones_own_by_its_name(self, host):
        for name in ("one", "two"):
            host.deployed_function(name, "--env", "A=1")
        before = host.snapshot("one")
        shutil.rmtree(host.home / "one")
        run = host.deploy("--no-build", "one", "--no-verify")
        assert run.status == 0, run.output
        assert host.snapshot("one") == before
        assert (host.deployments("one"), host.deployments("two")) == (2, 1)

    def test_a_function_with_a_gpu_keeps_it_by_either_script(self, host):
        host.deployed_function("finder", base="cvat.pytorch.base", device="gpu")
        before = host.snapshot()
        run = host.deploy("--no-build", "--no-verify")
        assert run.status == 0, run.output
        assert host.snapshot() == before
        assert before["spec"]["resources"]["limits"] == {"nvidia.com/gpu": 1}

    def test_nothing_is_deployed(self, host):
        host.set("projects/cvat")
        run = host.deploy("--no-build")
        assert run.status == 1
        assert "there is no deployed function to deploy again" in run.output

    def test_an_option_changes_all_that_nuclio_has(self, host):
        host.deployed_function("one", "--env", "A=1")
        run = host.deploy("--no-build", "--no-verify", "--env", "B=2")
        assert run.status == 0, run.output
        assert {"A": "1", "B": "2", "VARIANT": "small"}.items() <= host.deployed("one").env.items()


class TestFailedBuild:
    @pytest.fixture
    def directory(self, host):
        directory = host.deployed_function("finder", "--env", "A=1")
        host.container("finder", log="the log of the old container")
        return directory

    def test_nothing_changes(self, host, directory):
        before, latest = host.snapshot(), host.facts.image("cvat.finder:latest")
        record, images = host.record("finder"), host.facts.images().keys()
        host.set("on_build/finder", 'fail("ERROR: No matching distribution found for rapidocr==9.9.9")')
        run = host.deploy(str(directory), "--env", "B=2")
        assert run.status == 1
        assert "pip finds no rapidocr==9.9.9 for this platform" in run.output
        assert not run.made("nuctl (deploy|delete)")
        assert host.record("finder") == record
        assert host.snapshot() == before
        assert host.facts.image("cvat.finder:latest") == latest
        assert host.facts.images().keys() == images
        assert host.container_fact("finder", "id") == "new-finder-1"

    def test_the_log_is_that_of_the_build(self, host, directory):
        host.set("on_build/finder", 'print("the log of the build"); fail("it fails")')
        run = host.deploy(str(directory))
        assert "the log of the build" in run.output
        assert "the log of the old container" not in run.output
        assert not run.made("docker logs")

    def test_a_failed_base_image_changes_nothing(self, host, directory):
        before = host.record("finder")
        host.set("build_fails", "ERROR: No matching distribution found for numpy==0.0.1")
        run = host.deploy(str(directory))
        assert run.status == 1
        assert host.record("finder") == before


class TestFailedStart:
    @pytest.fixture
    def directory(self, host):
        return host.deployed_function("finder", "--env", "A=1")

    def test_the_old_version_comes_back(self, host, directory):
        before, latest = host.snapshot(), host.facts.image("cvat.finder:latest")["Id"]
        host.set("on_deploy/finder", 'if times == 2: fail("Function wasn\'t ready in time")')
        run = host.deploy(str(directory), "--env", "A=2", "--no-verify")
        assert run.status == 1
        assert host.snapshot() == before
        assert host.facts.image("cvat.finder:latest")["Id"] == latest
        assert run.output.count("the old version is running again") == 1
        assert re.search(r"finder +detector +28\d+ +failed", run.output)
        # What it was deployed with comes back too.
        host.deploy(str(directory), "--no-verify")
        assert host.deployed().env["A"] == "1"

    def test_not_when_it_is_not_wanted(self, host, directory):
        host.set("on_deploy/finder", 'if times == 2: fail("Function wasn\'t ready in time")')
        run = host.deploy(str(directory), "--no-rollback")
        assert run.status == 1
        assert host.deployments() == 2
        assert host.record("finder")["status"]["state"] == "error"
        assert "the old version" not in run.output

    @pytest.mark.parametrize("moment", ["on_building", "on_deleted"])
    def test_whenever_it_fails(self, host, directory, moment):
        before = host.snapshot()
        host.set(f"{moment}/finder", 'if times == 2: fail("exit status 125")')
        run = host.deploy(str(directory))
        assert run.status == 1
        assert host.snapshot() == before

    def test_a_disk_without_room_for_the_way_back_is_found_before_anything_is_touched(self, host, directory):
        before, identifier = host.snapshot(), host.container_fact("finder", "id")
        # A folder in the place of the file can't be written either.
        path = host.world / "logs" / "finder.before.yaml"
        path.unlink(missing_ok=True)
        path.mkdir()
        run = host.deploy(str(directory))
        assert run.status == 1
        assert "finder.before.yaml can't be written" in run.output
        assert host.snapshot() == before
        assert host.container_fact("finder", "id") == identifier

    def test_nuctl_refuses_before_it_has_touched_anything(self, host, directory):
        before, identifier = host.snapshot(), host.container_fact("finder", "id")
        host.set("before_deploy/finder", 'if times == 2: fail("something is wrong with the function")')
        run = host.deploy(str(directory))
        assert run.status == 1
        assert host.snapshot() == before
        assert host.container_fact("finder", "id") == identifier
        assert host.deployments() == 2
        assert "the old version is still running" in run.output

    def test_a_reply_that_cvat_would_not_take(self, host, directory):
        before = host.snapshot()
        host.set("replies/finder", json.dumps({"shapes": []}))
        run = host.deploy(str(directory))
        assert run.status == 1
        assert "CVAT would not accept the reply" in run.output
        assert host.snapshot() == before

    def test_a_new_version_that_runs_but_answers_wrong_is_not_latest(self, host, directory):
        latest = host.facts.image("cvat.finder:latest")["Id"]
        host.set("replies/finder", json.dumps([{**SHAPE, "label": "other"}]))
        host.deploy(str(directory), "--no-rollback")
        assert host.facts.image("cvat.finder:latest")["Id"] == latest

    def test_an_old_image_without_a_tag_comes_back_too(self, host, directory):
        # As after `docker tag`, or a deployment by hand: the container runs an image that no tag of its record means any more.
        before = host.snapshot()
        host.facts.add_image(host.record("finder")["spec"]["image"])
        host.facts.tag({"Id": before["image"], "Size": 1, "Config": {"Labels": {}}}, "cvat.kept:1")
        host.set("on_deploy/finder", 'if times == 2: fail("it does not start")')
        run = host.deploy(str(directory))
        assert run.status == 1
        assert host.snapshot() == before, run.output

    def test_an_old_version_that_does_not_start_again_is_said_with_the_command(self, host, directory):
        host.set("on_deploy/finder", 'fail("no version starts")')
        run = host.deploy(str(directory))
        assert run.status == 1
        assert "the old version does not start again" in run.output
        assert re.search(r"nuctl deploy --project-name cvat --file \S+ --run-image cvat\.finder:\S+", run.output)

    def test_a_first_deployment_has_nothing_to_bring_back(self, host):
        host.set("on_deploy/other", 'fail("it does not start")')
        run = host.deploy(str(host.function("other")))
        assert run.status == 1
        assert host.deployments("other") == 1
        assert "the old version" not in run.output


class TestImages:
    def test_each_deployment_has_an_image_of_its_own_and_the_one_before_is_kept(self, host):
        directory = host.deployed_function()
        images = [host.deployed().image]
        for _ in range(2):
            assert host.deploy(str(directory), "--no-verify").status == 0
            images.append(host.deployed().image)
        assert len(set(images)) == 3
        here = {name for name in host.facts.images() if name.startswith("cvat.finder:")}
        assert here == {*images[1:], "cvat.finder:latest"}
        assert host.facts.image("cvat.finder:latest")["Id"] == host.container_fact("finder", "image_id")

    def test_that_of_a_version_that_failed_goes_once_the_old_one_runs_again(self, host):
        directory = host.deployed_function()
        host.set("on_deploy/finder", 'if times == 2: fail("it does not start")')
        assert host.deploy(str(directory), "--no-verify").status == 1
        assert host.deployed(number=2).image not in host.facts.images()
        assert host.deployed().image in host.facts.images()


class TestPython:
    def test_a_base_image_remembers_the_image_that_it_was_built_from(self, host):
        directory = host.function()
        host.deploy(str(directory), "--no-verify", "--python", "company/python:3.11")
        host.forget()
        run = host.deploy(str(directory), "--no-verify")
        assert "PYTHON_IMAGE=company/python:3.11" in run.call("^docker build ")
        # Also for another function on it, and where the function is forgotten.
        host.forget()
        run = host.deploy(str(host.function("other")), "--no-verify", "--forget")
        assert "PYTHON_IMAGE=company/python:3.11" in run.call("^docker build ")

    def test_from_the_environment(self, host):
        run = host.deploy(str(host.function()), "--no-verify", env={"PYTHON_IMAGE": "company/python:3.11"})
        assert "PYTHON_IMAGE=company/python:3.11" in run.call("^docker build ")


def test_a_container_that_was_restarted_before_is_not_taken_for_a_failure(host):
    directory = host.deployed_function(base="somebody/image")
    host.container("finder", restarts=7)
    host.set("on_building/finder", "sleep(0.3)")
    run = host.deploy(str(directory), "--no-verify")
    assert run.status == 0, run.output
    assert not run.made("docker stop")


def test_what_a_killed_run_has_left_is_cleared_and_its_port_and_options_stay(host):
    directory = host.deployed_function("finder", "--env", "A=1", "--memory", "3Gi")
    port = host.deployed().port
    host.remove_container("finder")
    host.set_state("finder", "building")
    run = host.deploy(str(directory), "--no-verify")
    assert run.status == 0, run.output
    run.order("^nuctl build", "^nuctl delete function finder --force", "^nuctl deploy")
    assert "clearing what an interrupted deployment left" in run.output
    assert host.deployed().port == port
    assert host.deployed().env["A"] == "1"
    assert host.deployed().spec["resources"]["limits"] == {"memory": "3Gi"}


def test_without_names_and_build_a_killed_run_is_mended(host):
    host.deployed_function("finder", "--env", "A=1")
    port = host.deployed().port
    host.set_state("finder", "building")
    run = host.deploy("--no-build", "--no-verify")
    assert run.status == 0, run.output
    assert host.deployed().port == port
    assert host.deployed().env["A"] == "1"
    assert host.record("finder")["status"] == {"state": "ready", "httpPort": port}
