"""Ctrl-C, and other ways to end a deployment, at each of its moments: the function is as it was."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.deploy.test_deploying import WEIGHTS

# The moment: what makes the deployment wait there, as facts of the world, and the call after which the signal is sent.
WAITING = "sleep(20) if times == 2 else None"
MOMENTS = {
    "base image": ({"build_takes": "20"}, "docker build "),
    "weights": ({"weights_take": "20"}, "common.networks.weights"),
    "build": ({"on_build/finder": "world.set('reached'); sleep(20)"}, ""),
    "before the record is touched": ({"before_deploy/finder": f"world.set('reached'); {WAITING}"}, ""),
    "building, the old container runs": ({"on_building/finder": f"world.set('reached'); {WAITING}"}, ""),
    "the old container is removed": ({"on_deleted/finder": f"world.set('reached'); {WAITING}"}, ""),
    "the new container starts": ({"on_deploy/finder": f"world.set('reached'); {WAITING}"}, ""),
    "the port is tried": ({"replies/finder.takes": "20"}, "http POST http://127.0.0.1:28"),
}


def run_until(host, directory, moment, number=signal.SIGINT, *arguments):
    facts, call = MOMENTS[moment]
    for name, text in facts.items():
        host.set(name, text)
    process = host.start(str(directory), *arguments)
    return host.interrupt(process, call or (lambda: host.facts.has("reached")), number)


@pytest.fixture
def directory(host):
    directory = host.function()
    (directory / "weights.yaml").write_text(WEIGHTS)
    run = host.deploy(str(directory), "--no-verify", "--env", "A=1")
    assert run.status == 0, run.output
    host.forget()
    return directory


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_redeployment(host, directory, moment):
    before, images = host.snapshot(), host.facts.images()
    began = time.monotonic()
    run = run_until(host, directory, moment, signal.SIGINT, "--env", "A=2")
    assert run.status == 130, run.output
    assert host.snapshot() == before, run.output
    assert host.snapshot()["state"] == "ready"
    assert host.snapshot()["answers"]
    assert {name: image for name, image in host.facts.images().items() if "finder" in name} == {
        name: image for name, image in images.items() if "finder" in name
    }
    assert "interrupted" in run.output
    assert "FAILED" not in run.output
    assert host.leftovers() == []
    assert not host.programs()
    assert time.monotonic() - began < 15
    # The next one finds nothing to clear, and has the options of the first.
    host.set("weights_take", "0")
    host.set("build_takes", "0")
    for moment_facts, _ in MOMENTS.values():
        for name in moment_facts.keys() & {"replies/finder.takes", "on_build/finder", "on_deploy/finder"}:
            host.set(name, "")
    again = host.deploy(str(directory), "--no-verify")
    assert again.status == 0, again.output
    assert host.deployed().env["A"] == "1"


@pytest.mark.parametrize("moment", ["before the record is touched", "building, the old container runs"])
def test_the_old_container_is_not_restarted(host, directory, moment):
    container = host.container_fact("finder", "id")
    run = run_until(host, directory, moment)
    assert run.status == 130, run.output
    assert host.snapshot()["state"] == "ready"
    assert host.container_fact("finder", "id") == container, run.output + "\n".join(run.calls)
    assert host.deployments("finder") == 2


def test_the_function_stays_in_nuclios_list(host, directory):
    run = run_until(host, directory, "the old container is removed")
    assert host.snapshot()["state"] == "ready"
    assert host.deployments("finder") == 3
    assert not run.made("nuctl delete")


def test_a_record_that_cannot_be_written_is_removed(host, directory):
    before = host.snapshot()
    host.set("exec_fails", "OCI runtime exec failed")
    run = run_until(host, directory, "building, the old container runs")
    assert run.made("nuctl delete function finder --force")
    assert host.snapshot() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["base image", "build", "the new container starts", "the port is tried"])
def test_by_other_signals(host, directory, moment, number):
    before = host.snapshot()
    run = run_until(host, directory, moment, number)
    assert run.status == 130, run.output
    assert host.snapshot() == before
    assert host.leftovers() == []
    assert not host.programs()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_first_deployment_leaves_nothing(host, moment):
    directory = host.function()
    (directory / "weights.yaml").write_text(WEIGHTS)
    facts, call = MOMENTS[moment]
    for name, text in facts.items():
        host.set(name, text.replace("times == 2", "True"))
    run = host.interrupt(host.start(str(directory)), call or (lambda: host.facts.has("reached")))
    assert run.status == 130, run.output
    assert host.record("finder") is None
    assert host.container_fact("finder", "id") == ""
    assert not [name for name in host.facts.images() if "finder" in name]
    assert host.leftovers() == []
    assert not host.programs()
    again = "interrupted; nothing is deployed yet"
    assert (again in run.output) == (moment == "base image"), run.output
    assert "can't be built" not in run.output


def test_a_second_ctrl_c_does_not_end_the_restoration(host, directory):
    before = host.snapshot()
    facts, _ = MOMENTS["the new container starts"]
    code = "world.set(f'reached{times}'); sleep(20 if times == 2 else 0.5)"
    host.set("on_deploy/finder", code)
    process = host.start(str(directory), "--env", "A=2")
    host.send(process, lambda: host.facts.has("reached2"))
    host.send(process, lambda: host.facts.has("reached3"))
    host.send(process, lambda: host.facts.has("reached3"), signal.SIGTERM)
    run = host.end(process)
    assert run.status == 130, run.output
    assert host.snapshot() == before
    assert facts


def test_nuctl_does_not_go_on_after_an_error_here(host, directory):
    before = host.snapshot()
    host.set("on_deploy/finder", "sleep(20) if times == 2 else None")
    run = host.deploy(str(directory), env={"DEPLOY_POLL": "no number"})
    assert run.status == 1
    assert not host.programs()
    assert host.snapshot() == before, run.output
    assert "the deployment itself failed with ValueError" in run.output
    assert "Traceback" not in run.output
    assert "Summary" in run.output


def test_several_at_a_time(host):
    for name in ("one", "two", "three"):
        host.deployed_function(name)
    before = {name: host.snapshot(name) for name in ("one", "two", "three")}
    host.set("on_deploy/one", "world.set('reached-one'); sleep(20) if times == 2 else None")
    host.set("on_build/two", "world.set('reached-two'); sleep(20)")
    process = host.start(str(host.home), "--jobs", "2", "--no-verify")
    run = host.interrupt(process, lambda: host.facts.has("reached-one") and host.facts.has("reached-two"))
    assert run.status == 130, run.output
    assert {name: host.snapshot(name) for name in before} == before or host.deployments("three") == 2


def test_nothing_is_started_after_an_interruption(host):
    for name in ("one", "three"):
        host.function(name)
    host.set("on_build/one", "world.set('reached'); sleep(20)")
    run = host.interrupt(host.start(str(host.home)), lambda: host.facts.has("reached"))
    assert run.status == 130
    assert not run.made("nuctl build three")


@pytest.mark.parametrize(
    "moment",
    ["build", "building, the old container runs", "the old container is removed", "the new container starts"],
)
def test_what_a_killed_run_leaves_is_mended_by_the_next(host, directory, moment):
    port = host.deployed().port
    facts, _ = MOMENTS[moment]
    for name, text in facts.items():
        host.set(name, text.replace("sleep(20)", "sleep(600)") + "\nfail('killed')")
    process = host.start(str(directory), "--no-verify", "--env", "B=2")
    host.send(process, lambda: host.facts.has("reached"), signal.SIGKILL)
    host.end(process)
    # As on a machine that loses its power, what the deployment has started ends too.
    for identifier in host.programs():
        os.kill(identifier, signal.SIGKILL)
    for name in facts:
        host.set(name, "")
    if moment != "build":
        assert host.record("finder")["status"]["state"] == "building"
    run = host.deploy(str(directory))
    assert run.status == 0, run.output
    assert host.deployed().port == port
    assert host.deployed().env["A"] == "1"
    assert host.snapshot()["answers"]
