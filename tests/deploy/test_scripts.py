"""deploy_cpu.sh and deploy_gpu.sh: all that they decide, against stand-ins that record the calls and fail on order."""

from __future__ import annotations

import json
import re
import socket
import subprocess

import pytest

from tests.deploy.host import REPOSITORY, SHAPE

STARTUP_LOG = (
    '26.11.21 02:34:56.9 (E) -manager.event connection The function can\'t start {"error": "StartupError: '
    'no weights for small: model.onnx is missing in /opt/nuclio/weights/small; fetch: python -m common.networks.weights", '
    '"worker_id": "0"}\npanic: Wrapper process for worker 0 exited unexpectedly with: exit status 1\n'
)


def triggers_of(call: str) -> dict:
    return json.loads(re.search(r"--triggers (\{.*?\}\}\}?) ", call + " ").group(1))


def test_first_deployment(host):
    run = host.deploy(str(host.function()))
    assert run.status == 0, run.output
    run.order(
        r"^nuctl get projects cvat ",
        r"^nuctl create project cvat --platform local --namespace nuclio$",
        r"^docker build .*-t cvat\.onnx\.base:latest .*--build-arg DEVICE=cpu -$",
        r"^nuctl deploy --project-name cvat ",
        r"^curl .*/api/functions/finder$",
        r"^curl .* http://127\.0\.0\.1:28\d\d\d/$",
        r"^curl .*/api/function_invocations$",
        r"^docker run --rm -i --network none --user 1000:1000 --entrypoint sh cvat\.finder:latest ",
    )
    call = run.call("^nuctl deploy")
    assert "--base-image cvat.onnx.base:latest" in call
    assert "--image cvat.finder:latest" in call
    assert '--platform-config {"attributes":{"network":"cvat_cvat"}}' in call
    assert "--env CVAT_FUNCTIONS_REDIS_HOST=cvat_redis_ondisk --env CVAT_FUNCTIONS_REDIS_PORT=6666" in call
    assert "--run-as-user 1000 --run-as-group 1000" in call
    assert "--resource-limit" not in call
    port = triggers_of(call)["web"]["attributes"].pop("port")
    assert triggers_of(call)["web"] == {
        "kind": "http",
        "numWorkers": 3,
        "attributes": {"maxRequestBodySize": 33554432, "port": port},
    }
    assert 28000 <= port < 29000
    assert re.search(rf"finder +detector +{port} +ready +0\.42 s, 1 shape +812 MB", run.output)


def test_what_a_base_image_is_built_from(host):
    host.deploy(str(host.function()))
    context = host.fact("context").splitlines()
    assert "common/networks/weights.py" in context
    assert "Dockerfile" in context
    assert {name.split("/")[0] for name in context} == {"common", "base", "Dockerfile", "base_packages.py"}
    assert not any("__pycache__" in name for name in context)


def test_through_the_dashboard_it_sends_what_cvat_sends(host):
    run = host.deploy(str(host.function()))
    call = run.call("function_invocations")
    for header in (
        "x-nuclio-function-name: finder",
        "x-nuclio-path: /",
        "x-nuclio-function-namespace: nuclio",
        "x-nuclio-invoke-via: domain-name",
        "X-Nuclio-Invoke-Timeout: 120s",
        "Content-Type: application/json",
    ):
        assert f"-H {header} " in call


@pytest.mark.parametrize(
    ("kind", "annotations", "reply", "sample", "found"),
    [
        (
            "interactor",
            "",
            {"mask": [[1, 1, 0]], "bounds": [128, 140, 130, 140]},
            "interactor.json",
            "2 pixels of mask",
        ),
        ("reid", "", [1, 3, -1, -1], "reid.json", "2 matches"),
        ("tracker", "", {"shapes": [[85, 95, 175, 185]], "states": [{}]}, "tracker-legacy.json", "1 shape"),
        (
            "tracker",
            '\n    supported_shape_types: "ellipse, polygon"',
            {"shapes": [{"type": "polygon", "points": [85, 95, 175, 185, 85, 185]}], "states": [{}]},
            "tracker-polygon.json",
            "1 shape",
        ),
    ],
)
def test_each_kind_has_a_sample(host, kind, annotations, reply, sample, found):
    run = host.deploy(str(host.function(kind=kind, annotations=annotations, reply=reply)))
    assert run.status == 0, run.output
    assert f"--data-binary @{REPOSITORY}/deploy/samples/{sample} http://127.0.0.1" in run.call("127.0.0.1:28")
    assert found in run.output


def test_redeploying_keeps_project_port_and_function(host):
    directory = host.function()
    first = triggers_of(host.deploy(str(directory)).call("^nuctl deploy"))["web"]["attributes"]["port"]
    host.forget()
    # Something else now follows from the name, as after a change of the range: the container's own port goes first.
    run = host.deploy(str(directory), "--first-port", "20000")
    assert triggers_of(run.call("^nuctl deploy"))["web"]["attributes"]["port"] == first
    assert not run.made("create project")
    assert not run.made("delete")


def test_ports_are_different_and_those_of_stopped_containers_are_left_alone(host):
    host.function("one")
    alone = triggers_of(host.deploy("one", "--no-verify").call("deploy"))["web"]["attributes"]["port"]
    host.forget()
    subprocess.run(["rm", "-r", str(host.world / "containers" / "nuclio-nuclio-one")], check=True)
    host.container("stranger", port=alone)
    moved = triggers_of(host.deploy("one", "--no-verify").call("deploy"))["web"]["attributes"]["port"]
    assert moved == (alone - 28000 + 1) % 1000 + 28000


def test_a_port_on_which_a_program_listens_is_not_given_away(host):
    host.function("one")
    port = triggers_of(host.deploy("one", "--no-verify").call("deploy"))["web"]["attributes"]["port"]
    subprocess.run(["rm", "-r", str(host.world / "containers" / "nuclio-nuclio-one")], check=True)
    host.forget()
    with socket.create_server(("127.0.0.1", port)):
        run = host.deploy("one", "--no-verify")
    assert triggers_of(run.call("deploy"))["web"]["attributes"]["port"] != port


def test_a_random_port_of_before_becomes_a_fixed_one(host):
    host.container("finder", port=0)
    run = host.deploy(str(host.function()))
    assert 28000 <= triggers_of(run.call("^nuctl deploy"))["web"]["attributes"]["port"] < 29000


def test_a_port_in_function_yaml_is_obeyed(host):
    run = host.deploy(str(host.function(trigger="\n        port: 31000")))
    assert triggers_of(run.call("^nuctl deploy"))["web"]["attributes"]["port"] == 31000


def test_a_port_in_function_yaml_that_is_taken_is_said_before_anything_is_built(host):
    directory = host.function(trigger="\n        port: 31000")
    host.container("stranger", port=31000)
    run = host.deploy(str(directory))
    assert run.status == 1
    assert "port 31000, which the function.yaml of finder asks for, is taken" in run.output
    assert not run.made("nuctl deploy")


def test_gpu(host):
    run = host.deploy(str(host.function(base="cvat.pytorch.base")), device="gpu")
    has_gpu_packages = (REPOSITORY / "serverless/pytorch/base/requirements-gpu.txt").is_file()
    if not has_gpu_packages:
        pytest.skip("the framework has no GPU packages")
    assert run.status == 0, run.output
    run.order(
        "docker run --rm --gpus all --entrypoint nvidia-smi",
        "docker build .*-t cvat.pytorch.base:latest-gpu .*DEVICE=gpu",
    )
    call = run.call("^nuctl deploy")
    assert "--base-image cvat.pytorch.base:latest-gpu" in call
    assert "--image cvat.finder:latest-gpu" in call
    assert "--resource-limit nvidia.com/gpu=1 --env DEVICE=cuda" in call
    assert triggers_of(call)["web"]["numWorkers"] == 1


def test_on_a_gpu_a_framework_without_gpu_packages_is_deployed_as_for_the_cpu(host):
    run = host.deploy(str(host.function(base="cvat.opencv.base")), device="gpu")
    assert run.status == 0, run.output
    call = run.call("^nuctl deploy")
    assert "--base-image cvat.opencv.base:latest " in call
    assert "nvidia.com" not in call


@pytest.mark.parametrize(
    ("message", "cause", "cure"),
    [
        (
            'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].',
            "the NVIDIA container toolkit is not set up",
            "nvidia-ctk runtime configure",
        ),
        (
            "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown.",
            "the NVIDIA driver of this machine does not answer",
            "./deploy_cpu.sh",
        ),
    ],
)
def test_no_gpu(host, message, cause, cure):
    host.set("gpu_fails", message)
    run = host.deploy(str(host.function()), device="gpu")
    assert run.status == 1
    assert cause in run.output
    assert cure in run.output
    assert not run.made("docker build |nuctl create|nuctl deploy")


def test_everything_that_is_missing_is_said_at_once(host):
    (host.world / "bin" / "nuctl").unlink()
    host.set("docker_root", str(host.world))
    run = host.deploy(str(host.function()), "--network", "elsewhere")
    assert run.status == 1
    assert "nuctl is not installed" in run.output
    # The version of the dashboard that runs, for this platform.
    assert re.search(
        r"https://github.com/nuclio/nuclio/releases/download/1\.15\.9/nuctl-1\.15\.9-linux-(amd64|arm64)", run.output
    )
    assert "there is no Docker network elsewhere" in run.output
    assert "2 things missing" in run.output


@pytest.mark.parametrize(
    ("message", "cause", "cure"),
    [
        (
            "permission denied while trying to connect to the Docker daemon socket",
            "may not use it",
            "usermod -aG docker",
        ),
        (
            "Cannot connect to the Docker daemon. Is the docker daemon running?",
            "does not answer",
            "systemctl start docker",
        ),
    ],
)
def test_docker_does_not_answer(host, message, cause, cure):
    host.set("docker_fails", message)
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert cause in run.output
    assert cure in run.output


@pytest.mark.parametrize(
    ("version", "said"), [("1.9.2", "is too old"), ("1.14.1", "a nuctl of the same version is safer")]
)
def test_other_versions_of_nuctl(host, version, said):
    host.set("nuctl_version", version)
    run = host.deploy(str(host.function()), "--no-verify")
    assert said in run.output
    assert run.status == (1 if version == "1.9.2" else 0)


def test_a_newer_nuctl_is_said_to_be_unread(host):
    host.set("nuctl_version", "1.19.0")
    assert (
        "newer than the versions that these scripts know of" in host.deploy(str(host.function()), "--no-verify").output
    )


def test_without_cvats_network_functions_get_a_port_and_no_network(host):
    (host.world / "networks" / "cvat_cvat").unlink()
    (host.world / "dashboard").unlink()
    run = host.deploy(str(host.function()))
    assert run.status == 0, run.output
    assert "there is no network cvat_cvat" in run.output
    assert "compose.yaml up -d" in run.output
    call = run.call("^nuctl deploy")
    assert "--platform-config" not in call
    assert "REDIS" not in call
    assert run.made("curl .*http://127.0.0.1:28")
    assert not run.made("function_invocations")


def test_the_network_of_a_cvat_of_another_name(host):
    (host.world / "networks" / "cvat_cvat").unlink()
    (host.world / "dashboard").unlink()
    host.set("networks/labels_cvat", "")
    host.set("other_network", "labels_cvat\n")
    run = host.deploy(str(host.function()))
    assert '{"attributes":{"network":"labels_cvat"}}' in run.call("^nuctl deploy")


def test_a_dashboard_without_a_published_port_is_reached_at_its_own_address(host):
    host.set("unpublished")
    run = host.deploy(str(host.function()))
    assert "http://172.30.0.5:8070/api/function_invocations" in run.call("function_invocations")


def test_a_buildx_builder_that_sees_no_local_images_is_not_used(host):
    host.set("builder", "docker-container")
    assert "building with the daemon's own (default)" in host.deploy(str(host.function())).output


def test_a_port_that_is_taken(host):
    host.set(
        "on_deploy/finder",
        'echo error >"$here/functions/$name"; rm -r "$container"\n'
        'fail "docker: Error response from daemon: driver failed programming external connectivity on endpoint: '
        'Bind for 0.0.0.0:31000 failed: port is already allocated."',
    )
    run = host.deploy(str(host.function(trigger="\n        port: 31000")))
    assert run.status == 1
    assert "its port is taken: 0.0.0.0:31000 failed: port is already allocated" in run.output
    assert "attributes.port" in run.output


def test_a_build_that_fails(host):
    host.set("on_deploy/finder", 'fail "ERROR: No matching distribution found for rapidocr==9.9.9"')
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert "pip finds no rapidocr==9.9.9 for this platform" in run.output
    assert "PIP_INDEX_URL" in run.output
    assert re.search(r"finder +detector +28\d+ +failed", run.output)


def test_a_base_image_that_cannot_be_built(host):
    host.set("build_fails", "ERROR: Could not find a version\nERROR: No matching distribution found for numpy==0.0.1")
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert "the base image cvat.onnx.base:latest can't be built: pip finds no numpy==0.0.1" in run.output
    assert not run.made("nuctl deploy")


def test_a_function_that_dies_in_init_context_is_stopped_at_once_and_says_why(host):
    # nuctl would wait for readinessTimeoutSeconds; the restart policy starts the container again and again.
    host.set("log", STARTUP_LOG)
    host.set(
        "on_deploy/finder",
        'cp "$here/log" "$container/log"; echo 2 >"$container/restarts"\n'
        'for _ in $(seq 500); do [ "$(cat "$container/running")" = true ] || break; sleep 0.02; done\n'
        'echo error >"$here/functions/$name"; fail "Function wasn\'t ready in time. Logs: ..."',
    )
    run = host.deploy(str(host.function()))
    assert run.status == 1
    run.order("^nuctl deploy", "docker update --restart=no nuclio-nuclio-finder", "docker stop .*nuclio-nuclio-finder")
    assert "FAILED: no weights for small: model.onnx is missing in /opt/nuclio/weights/small" in run.output
    assert "mount them with --weights DIR" in run.output
    assert "the end of its log:" in run.output


def test_a_redeployment_that_fails_says_the_way_back(host):
    host.container("finder", port=28500)
    host.set("containers/nuclio-nuclio-finder/image_id", "sha256:old")
    host.set("on_deploy/finder", 'echo new >"$container/id"; fail "Function wasn\'t ready in time"')
    directory = host.function()
    run = host.deploy(str(directory))
    assert run.status == 1
    assert "back to what ran before" not in run.output  # that image was pruned
    host.container("finder", port=28500)
    host.set("containers/nuclio-nuclio-finder/image_id", "sha256:old")
    host.set("images/sha256:old")
    run = host.deploy(str(directory))
    assert run.status == 1
    back = f"docker tag sha256:old {{}} && ./deploy_cpu.sh --no-build {directory}"
    assert back.format("cvat.finder:latest") in run.output
    # A build that fails leaves the old container as it is.
    host.container("finder", port=28500)
    host.set("containers/nuclio-nuclio-finder/image_id", "sha256:old")
    host.set("on_deploy/finder", 'echo old >"$container/id"; fail "the build failed"')
    assert "back to what ran before" not in host.deploy(str(directory)).output


def test_a_container_of_before_that_was_restarted_once_is_not_taken_for_a_failure(host):
    host.container("finder", port=28500, restarts=7)
    directory = host.function(base="somebody/image")  # no base image is built: the old container is there all the while
    host.set("build_takes", "0.5")
    run = host.deploy(str(directory))
    assert run.status == 0, run.output
    assert not run.made("docker stop")


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
    host.set("on_deploy/finder", 'cp "$here/log" "$container/log"; fail "Container exited with status: 2"')
    run = host.deploy(str(host.function()))
    assert f"FAILED: {cause}" in run.output


def test_out_of_memory(host):
    host.set("on_deploy/finder", 'echo true >"$container/oom"; fail "Container exited with status: 137"')
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
    assert "the reply is not what CVAT takes" in run.output
    assert finding in run.output
    assert "make check FUNCTION=" in run.output


def test_a_wrong_reply_through_the_dashboard_alone(host):
    directory = host.function()
    host.set("replies/finder.dashboard", "<html>502</html>")
    run = host.deploy(str(directory))
    assert run.status == 1
    assert "the reply is not what CVAT takes" in run.output


def test_an_error_status(host):
    directory = host.function(reply={"error": "finder failed: no model"})
    host.set("replies/finder.status", "500")
    run = host.deploy(str(directory))
    assert run.status == 1
    assert re.search(r'FAILED: port 28\d+: 500: \{"error": "finder failed: no model"\}', run.output)


def test_a_function_on_an_image_without_common_is_still_tried(host):
    host.set("no_common")
    run = host.deploy(str(host.function(base="somebody/image:1")))
    assert run.status == 0, run.output
    assert "an answer in JSON" in run.output
    assert not run.made("docker build ")
    assert "--base-image" not in run.call("^nuctl deploy")


def test_nuclio_says_another_state(host):
    host.set("on_deploy/finder", 'echo unhealthy >"$here/functions/$name"; exit 0')
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert "Nuclio says that its state is unhealthy" in run.output


def test_what_an_interrupted_deployment_left_is_cleared(host):
    host.set("functions/finder", "building")
    run = host.deploy(str(host.function()))
    assert run.status == 0, run.output
    run.order("^nuctl get function finder", "^nuctl delete function finder --force", "^nuctl deploy")
    assert "clearing what an interrupted deployment left" in run.output


def test_interrupting_removes_a_half_deployed_function(host):
    host.set("on_deploy/finder", "sleep 20")
    run = host.interrupt(host.start(str(host.function())), "nuctl deploy")
    assert run.status == 130
    assert run.made("^nuctl delete function finder --force")
    assert "interrupted" in run.output


def test_interrupting_the_build_of_a_base_image(host):
    host.set("build_takes", "20")
    run = host.interrupt(host.start(str(host.function())), "docker build ")
    assert run.status == 130
    assert "interrupted; nothing is deployed yet" in run.output
    assert "can't be built" not in run.output


def test_interrupting_a_redeployment_keeps_the_function_that_was_there(host):
    host.container("finder", port=28500)
    host.set("on_deploy/finder", "sleep 20")
    run = host.interrupt(host.start(str(host.function())), "nuctl deploy")
    assert run.status == 130
    assert not run.made("delete")


def test_several_functions_a_failure_of_one_is_not_one_of_all(host):
    for name in ("one", "two", "three"):
        host.function(name)
    host.set("on_deploy/two", 'fail "no space left on device"')
    run = host.deploy(str(host.home), "--jobs", "2")
    assert run.status == 1
    assert len([call for call in run.calls if call.startswith("docker build ")]) == 1
    assert len([call for call in run.calls if call.startswith("nuctl deploy")]) == 3
    assert "the disk is full" in run.output
    assert "1 of 3 failed" in run.output
    ports = re.findall(r"^  (?:one|two|three) +detector +(\d+)", run.output, re.MULTILINE)
    assert len(set(ports)) == 3


def test_weights_are_fetched_before_the_build(host):
    directory = host.function()
    (directory / "weights.yaml").write_text(
        "default: small\nvariants:\n  small:\n    files:\n      - path: m\n        url: https://x/m\n"
    )
    run = host.deploy(str(directory))
    run.order(
        "docker build",
        r"docker run .*source=.*/finder,destination=/function .*common.networks.weights /function --variant small",
        "nuctl deploy",
    )
    assert "model.onnx: fetched, 12.2 MB" in run.output


def test_weights_that_cannot_be_fetched(host):
    directory = host.function()
    (directory / "weights.yaml").write_text("      - url: https://x/m\n")
    host.set("weights_fail", "https://x/m: the server answers 404 Not Found\n")
    run = host.deploy(str(directory))
    assert run.status == 1
    assert "its weights can't be fetched: https://x/m: the server answers 404 Not Found" in run.output
    assert not run.made("nuctl deploy")


def test_mounted_weights(host):
    directory = host.function()
    (directory / "weights.yaml").write_text("      - url: https://x/m\n")
    weights = host.home / "my weights" / "finder"
    weights.mkdir(parents=True)
    (weights / "best.onnx").write_bytes(b"x")
    host.set("on_deploy/finder", 'cp -r "$(option --path "$@")" "$here/staged"')
    run = host.deploy(str(directory), "--weights", str(weights.parent))
    assert run.status == 0, run.output
    call = run.call("^nuctl deploy")
    assert f"--volume {weights}:/opt/nuclio/weights " in call
    assert "--env MODEL_PATH=/opt/nuclio/weights/best.onnx" in call
    assert not run.made("common.networks.weights")
    # The build must find a mark there, and leave the fetching.
    assert (host.world / "staged" / "weights" / ".mounted").is_file()
    assert (host.world / "staged" / "main.py").is_file()


def test_weights_that_the_function_cannot_read(host):
    (host.home / "weights").mkdir(mode=0o700)
    run = host.deploy(str(host.function()), "--weights", str(host.home / "weights"))
    assert run.status == 1
    assert "chmod -R o+rX" in run.output


def test_options_of_the_user_come_last(host):
    run = host.deploy(
        str(host.function(base="cvat.pytorch.base")), "--env", "DEVICE=cuda:1", "--env", "A=b c", device="gpu"
    )
    assert run.call("^nuctl deploy").index("DEVICE=cuda:1") > 0
    assert run.call("^nuctl deploy").endswith("--env DEVICE=cuda:1 --env A=b c --platform local --namespace nuclio")


def test_a_bundle_and_a_deployment_from_it_without_any_network(host):
    made = host.deploy("--bundle", str(host.home / "bundle.tar"), str(host.function()))
    assert made.status == 0, made.output
    made.order(
        "docker build .*cvat.onnx.base",
        "nuctl build finder ",
        "docker save cvat.finder:latest gcr.io/iguazio/alpine:3.20",
    )
    assert not made.made("nuctl deploy")
    # Another machine: no images, no nuctl, no repository.
    host.forget()
    for path in [*(host.world / "images").iterdir(), host.world / "bin" / "nuctl", host.world / "projects" / "cvat"]:
        path.unlink()
    subprocess.run(["tar", "-xf", "bundle.tar", "cvat-functions"], cwd=host.home, check=True)
    done = subprocess.run(
        ["bash", "cvat-functions/deploy_cpu.sh", "--offline", "bundle.tar"],
        cwd=host.home,
        env=host._environment({}),
        capture_output=True,
        text=True,
    )
    calls = host.calls()
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(re.match(r"docker (build|pull|push) |nuctl build", call) for call in calls)
    deployed = next(call for call in calls if call.startswith("nuctl deploy"))
    assert "--run-image cvat.finder:latest" in deployed
    assert "--path" not in deployed
    assert "1 shape" in done.stdout


def test_deploying_the_images_that_are_here(host):
    directory = host.function()
    run = host.deploy(str(directory), "--no-build")
    assert run.status == 1
    assert "there is no image cvat.finder:latest here" in run.output
    host.deploy(str(directory))
    host.forget()
    run = host.deploy(str(directory), "--no-build")
    assert run.status == 0, run.output
    assert not run.made("docker build |common.networks.weights")
    call = run.call("^nuctl deploy")
    assert "--run-image cvat.finder:latest" in call
    assert "--path" not in call
    assert "--base-image" not in call


def test_a_damaged_bundle(host):
    host.deploy("--bundle", str(host.home / "bundle.tar"), str(host.function()))
    subprocess.run(["tar", "-xf", "bundle.tar"], cwd=host.home, check=True)
    (host.home / "nuctl").write_text("changed")
    subprocess.run(
        ["tar", "-cf", "bundle.tar", "manifest", "SHA256SUMS", "nuctl", "functions", "cvat-functions", "images.tar.gz"],
        cwd=host.home,
        check=True,
    )
    run = host.deploy("--offline", str(host.home / "bundle.tar"))
    assert run.status == 2
    assert "is damaged" in run.output
    assert (
        host.deploy("--offline", str(host.home / "bundle.tar"), device="gpu").output.count("was made for the cpu") == 1
    )


def test_kubernetes(host):
    run = host.deploy(
        str(host.function()), "--platform", "kube", "--namespace", "labels", "--registry", "registry.example/team",
        "--min-replicas", "0", "--max-replicas", "8", "--target-cpu", "60", "--node-selector", "pool=cpu",
    )  # fmt: skip
    assert run.status == 0, run.output
    run.order(
        "nuctl create project cvat --platform kube --namespace labels",
        "docker build .*-t cvat.onnx.base:latest",
        "docker tag cvat.onnx.base:latest registry.example/team/cvat.onnx.base:latest",
        "docker push registry.example/team/cvat.onnx.base:latest",
        "nuctl deploy .*--platform kube --namespace labels$",
        "function_invocations",
    )
    call = run.call("^nuctl deploy")
    assert "--base-image registry.example/team/cvat.onnx.base:latest" in call
    assert (
        "--registry registry.example/team --min-replicas 0 --max-replicas 8 --target-cpu 60 --nodeSelector pool=cpu"
        in call
    )
    assert "--platform-config" not in call
    # A port there would be one of every node.
    assert "port" not in call.replace("--project", "")
    assert not run.made("curl .*127.0.0.1")
    assert re.search(r"finder +detector +- +ready +0\.42 s, 1 shape", run.output)


def test_kubernetes_with_a_gpu_checks_no_gpu_here(host):
    host.set("gpu_fails", "none")
    run = host.deploy(
        str(host.function(base="cvat.pytorch.base")),
        "--platform=kube",
        "--registry=r.example",
        "--gpus=2",
        device="gpu",
    )
    assert run.status == 0, run.output
    assert not run.made("nvidia-smi")
    if "latest-gpu" in run.call("^nuctl deploy"):
        assert "--resource-limit nvidia.com/gpu=2" in run.call("^nuctl deploy")
        assert triggers_of(run.call("^nuctl deploy")) == {
            "web": {"kind": "http", "numWorkers": 1, "attributes": {"maxRequestBodySize": 33554432}}
        }


def test_kubernetes_without_a_way_to_the_dashboard(host):
    host.set("unreachable")
    run = host.deploy(str(host.function()), "--platform", "kube", "--registry", "r.example")
    assert run.status == 1
    assert "kubectl -n nuclio port-forward service/nuclio-dashboard 8070:8070" in run.output


def test_a_registry_that_refuses(host):
    host.set("push_fails", "denied: requested access to the resource is denied\n")
    run = host.deploy(str(host.function()), "--platform", "kube", "--registry", "r.example/team")
    assert run.status == 1
    assert "r.example/team/cvat.onnx.base:latest can't be pushed: denied" in run.output
    assert "docker login r.example" in run.output


def test_a_dry_run_prints_all_and_changes_nothing(host):
    run = host.deploy(str(host.function()), "--dry-run")
    assert run.status == 0, run.output
    assert not run.made(r"docker (build|run|tag|push) |nuctl (deploy|create|delete|build)|curl .*--data-binary")
    printed = [line for line in run.output.splitlines() if line.startswith("+ ")]
    assert any("nuctl create project cvat" in line for line in printed)
    assert any("| docker build --network host -t cvat.onnx.base:latest" in line for line in printed)
    deployed = next(line for line in printed if "nuctl deploy" in line)
    # What is printed can be pasted: JSON stands in quotes.
    assert """--platform-config '{"attributes":{"network":"cvat_cvat"}}'""" in deployed


def test_a_dry_run_where_nothing_is_installed(host):
    for tool in ("docker", "nuctl"):
        (host.world / "bin" / tool).unlink()
    run = host.deploy(str(host.function()), "--dry-run")
    assert run.status == 0, run.output
    assert "+ nuctl deploy" in run.output


def test_removing(host):
    directory = host.function()
    host.deploy(str(directory))
    host.forget()
    run = host.deploy("--remove", str(directory))
    assert run.status == 0
    assert run.call("delete") == "nuctl delete function finder --force --platform local --namespace nuclio"
    assert "finder removed" in run.output
    assert "finder is not deployed" in host.deploy("--remove", str(directory)).output


def test_listing(host):
    host.deploy(str(host.function()))
    host.forget()
    run = host.deploy("--list")
    assert run.status == 0
    assert "finder" in run.output
    assert not run.made("deploy|build|create")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "--nonsense: no such option, or its value is missing"),
        (["--nonsense", "1"], "--nonsense: there is no such option"),
        (["--jobs", "many"], "--jobs: expected a whole number from 1 to 64, got many"),
        (["--jobs"], "--jobs: no such option, or its value is missing"),
        (["nowhere"], "nowhere: there is no such function"),
        (["--env", "no value"], "--env: expected NAME=VALUE"),
        (["--platform", "kube"], "--platform kube needs --registry"),
        (["--registry", "r"], "are for --platform kube"),
        (["--platform", "kube", "--registry", "r", "--min-replicas", "3", "--max-replicas", "2"], "is more than"),
        (["--offline", "nowhere.tar"], "there is no file nowhere.tar"),
        (["--weights", "nowhere"], "there is no folder nowhere"),
        (["--user", "root"], "expected UID:GID in numbers"),
    ],
)
def test_wrong_arguments(host, arguments, message):
    run = host.deploy(*arguments)
    assert run.status == 2
    assert message in run.output
    assert not run.calls


def test_two_functions_of_one_name(host):
    directory = host.function()
    (host.home / "copy").mkdir()
    (host.home / "copy" / "function.yaml").write_text((directory / "function.yaml").read_text())
    run = host.deploy(str(host.home))
    assert run.status == 2
    assert "two functions have the name finder" in run.output


def test_a_trigger_that_cannot_be_passed_on_says_so(host):
    run = host.deploy(str(host.function(trigger="\n        cors:\n          enabled: true")))
    assert run.status == 1
    assert "can't be passed on with a port" in run.output


def test_help_names_every_option():
    done = subprocess.run(["bash", str(REPOSITORY / "deploy_gpu.sh"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    options = re.findall(r"^ +(--[a-z-]+)\)", (REPOSITORY / "deploy/options.sh").read_text(), re.MULTILINE)
    assert len(options) > 20
    for option in options:
        assert option in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 120


def test_the_whole_collection_is_the_default(host):
    run = host.deploy("--dry-run")
    names = {re.search(r"--path (\S+)", line).group(1) for line in run.output.splitlines() if "nuctl deploy" in line}
    expected = {str(path.parent) for path in (REPOSITORY / "serverless").rglob("function.yaml")}
    assert names == expected
