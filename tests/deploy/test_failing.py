"""A function that fails: its cause and remedy, the end of its log, and the exit status."""

from __future__ import annotations

import re

import pytest

from tests.deploy.host import SHAPE

STARTUP_LOG = (
    '26.11.21 02:34:56.9 (E) -manager.event connection The function can\'t start {"error": "StartupError: '
    'no weights for small: model.onnx is missing in /opt/nuclio/weights/small; fetch: python -m common.networks.weights", '
    '"worker_id": "0"}\npanic: Wrapper process for worker 0 exited unexpectedly with: exit status 1\n'
)
DIES = """
set_container(log=world.fact("log"), restarts=2)
wait_until(lambda: world.fact(f"containers/{container}/running") == "false")
fail("Function wasn't ready in time. Logs: ...")
"""


def test_a_port_that_is_taken(host):
    host.set(
        "on_deploy/finder",
        'world.remove_container(container); fail("docker: Error response from daemon: driver failed programming external '
        'connectivity on endpoint: Bind for 0.0.0.0:31000 failed: port is already allocated.")',
    )
    run = host.deploy(str(host.function(trigger="\n        port: 31000")))
    assert run.status == 1
    assert "its port is taken: 0.0.0.0:31000 failed: port is already allocated" in run.output
    assert "attributes.port" in run.output


def test_a_build_that_fails(host):
    host.set("on_build/finder", 'fail("ERROR: No matching distribution found for rapidocr==9.9.9")')
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert "pip finds no rapidocr==9.9.9 for this platform" in run.output
    assert "PIP_INDEX_URL" in run.output
    assert re.search(r"finder +detector +28\d+ +failed", run.output)
    assert not run.made("nuctl deploy")


def test_a_base_image_that_cannot_be_built(host):
    host.set("build_fails", "ERROR: Could not find a version\nERROR: No matching distribution found for numpy==0.0.1")
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert "the base image cvat.onnx.base:latest can't be built: pip finds no numpy==0.0.1" in run.errors
    assert not run.made("nuctl (build|deploy)")


@pytest.mark.parametrize("said", ["no space left on device", "OSError: [Errno 28] No space left on device"])
def test_a_disk_that_fills_in_the_middle_of_a_build(host, said):
    host.set("build_fails", f"ERROR: Could not install packages: {said}")
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert "the disk is full" in run.output
    assert "docker system prune" in run.output


def test_a_function_that_dies_in_init_context_is_stopped_at_once_and_says_why(host):
    # nuctl would wait for readinessTimeoutSeconds; the restart policy starts the container again and again.
    host.set("log", STARTUP_LOG)
    host.set("on_deploy/finder", DIES)
    run = host.deploy(str(host.function()))
    assert run.status == 1
    run.order("^nuctl deploy", "docker update --restart=no nuclio-nuclio-finder", "docker stop .*nuclio-nuclio-finder")
    assert "FAILED: no weights for small: model.onnx is missing in /opt/nuclio/weights/small" in run.output
    assert "mount them with --weights DIR" in run.output
    assert "the end of its log:" in run.output


def test_mounted_weights_are_not_advised_to_be_mounted(host):
    (host.home / "weights/finder").mkdir(parents=True)
    (host.home / "weights/finder/other.onnx").write_bytes(b"x")
    host.set("log", STARTUP_LOG)
    host.set("on_deploy/finder", DIES)
    run = host.deploy(str(host.function()), "--weights", str(host.home / "weights"))
    assert run.status == 1
    assert "FAILED: no weights for small" in run.output
    assert "mount them with --weights" not in run.output


def test_a_processor_that_dies_at_once_is_not_called_a_slow_disk(host):
    host.set(
        "on_deploy/finder",
        'set_container(log="", running=False, exit_code=2); fail("Function wasn\'t ready in time. Logs: ...")',
    )
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert "slow disk" not in run.output


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (
            '{"level": "error", "message": "Caught unhandled exception while initializing", '
            '"with": {"err": "No module named \'cv3\'", "traceback": "..."}}',
            "No module named 'cv3'",
        ),
        (
            "Traceback (most recent call last):\n  File x\nRuntimeError: no CUDA device\n",
            "RuntimeError: no CUDA device",
        ),
    ],
)
def test_the_exception_of_functions_of_others(host, log, cause):
    host.set("log", log)
    host.set("on_deploy/finder", 'set_container(log=world.fact("log")); fail("Container exited with status: 2")')
    run = host.deploy(str(host.function()))
    assert f"FAILED: {cause}" in run.output


def test_out_of_memory(host):
    host.set("on_deploy/finder", 'set_container(oom=True); fail("Container exited with status: 137")')
    run = host.deploy(str(host.function()))
    assert "out of memory: the kernel ended the function" in run.output


@pytest.mark.parametrize(
    ("reply", "finding"),
    [
        ([{**SHAPE, "label": "other"}], "reply[0].label"),
        ({"shapes": []}, "expected a list"),
        ([{**SHAPE, "points": [10, 10, 50]}], "reply[0].points"),
    ],
)
def test_a_wrong_reply_is_a_failure(host, reply, finding):
    run = host.deploy(str(host.function(reply=reply)))
    assert run.status == 1
    assert "CVAT would not accept the reply" in run.output
    said = run.output[: run.output.index("Summary")]
    assert said.count(finding) == 1
    assert "make check FUNCTION=" in run.output


def test_a_wrong_reply_through_the_dashboard_alone(host):
    directory = host.function()
    host.set("replies/finder.dashboard", "<html>502</html>")
    run = host.deploy(str(directory))
    assert run.status == 1
    assert "CVAT would not accept the reply" in run.output


def test_an_error_status(host):
    directory = host.function(reply={"error": "finder failed: no model"})
    host.set("replies/finder.status", "500")
    run = host.deploy(str(directory))
    assert run.status == 1
    assert re.search(r'FAILED: port 28\d+: 500: \{"error": "finder failed: no model"\}', run.output)


def test_out_of_memory_while_it_answers(host):
    host.set("after_deploy/finder", "set_container(oom=True, restarts=1)")
    directory = host.function(reply={"error": "Failed to invoke function: EOF"})
    host.set("replies/finder.status", "500")
    run = host.deploy(str(directory))
    assert run.status == 1
    assert "FAILED: out of memory: the kernel ended the function while it answered" in run.output
    assert "--memory" in run.output


def test_what_becomes_of_a_new_function_that_fails_is_said(host):
    directory = host.function(reply={"error": "finder failed: no model"})
    host.set("replies/finder.status", "500")
    run = host.deploy(str(directory))
    assert "it is still deployed; deploy_cpu.sh --remove finder removes it" in run.output
    assert host.record("finder")


def test_nuclio_says_another_state(host):
    host.set("after_deploy/finder", "content['state'] = 'unhealthy'")
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert "Nuclio says that its state is unhealthy" in run.output


def test_a_cause_that_is_cut_in_the_table_ends_in_a_sign(host):
    long = "this cause is much too long for a table, as it goes on and on and on and on until its end"
    host.set("on_build/finder", f'fail("RuntimeError: {long}")')
    run = host.deploy(str(host.function()))
    row = next(line for line in run.output.splitlines() if re.match(" *finder +detector +28", line))
    assert "RuntimeError: this cause is much too long" in row
    assert " ..." in row
    assert "until its end" not in row
    assert f"RuntimeError: {long}" in run.output
