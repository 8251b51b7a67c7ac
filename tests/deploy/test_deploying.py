"""A first deployment: what is built and deployed, with which options, on which port."""

from __future__ import annotations

import json
import re
import socket
import tarfile

import pytest

from tests.deploy.host import REPOSITORY


def test_first_deployment(host):
    run = host.deploy(str(host.function()))
    assert run.status == 0, run.output
    run.order(
        r"^nuctl get projects cvat ",
        r"^nuctl create project cvat --platform local --namespace nuclio$",
        r"^docker build .*-t cvat\.onnx\.base:latest .*--build-arg DEVICE=cpu.* -$",
        r"^nuctl build finder ",
        r"^nuctl deploy --project-name cvat ",
        r"^http GET http://127\.0\.0\.1:8070/api/functions/finder$",
        r"^http POST http://127\.0\.0\.1:28\d\d\d/$",
        r"^http POST http://127\.0\.0\.1:8070/api/function_invocations$",
        r"^docker run --rm -i --network none --user 1000:1000 --entrypoint sh cvat\.finder:\S+ ",
        r"^docker tag cvat\.finder:\S+ cvat\.finder:latest$",
    )
    built = run.call("^nuctl build")
    assert "--base-image cvat.onnx.base:latest" in built
    image = re.search(r"--image (cvat\.finder:[0-9]{8}-[0-9]{6}) ", built)[1]
    deployed = host.deployed()
    assert deployed.image == image
    assert deployed.spec["build"] == {"codeEntryType": "image"}
    assert deployed.spec["handler"] == "main:handler"
    assert deployed.spec["description"] == "Finds things"
    assert deployed.network == "cvat_cvat"
    assert deployed.env == {
        "VARIANT": "small",
        "CVAT_FUNCTIONS_REDIS_HOST": "cvat_redis_ondisk",
        "CVAT_FUNCTIONS_REDIS_PORT": "6666",
    }
    assert deployed.spec["securityContext"] == {"runAsUser": 1000, "runAsGroup": 1000}
    assert "nvidia.com/gpu" not in str(deployed.spec.get("resources"))
    port = deployed.port
    assert deployed.triggers == {
        "web": {"kind": "http", "numWorkers": 3, "attributes": {"maxRequestBodySize": 33554432, "port": port}}
    }
    assert 28000 <= port < 29000
    assert re.search(rf"finder +detector +{port} +ready +\d\.\d\d s, 1 shape +812 MB", run.output)
    assert host.facts.image("cvat.finder:latest")["Id"] == host.container_fact("finder", "image_id")
    assert host.leftovers() == []


def test_nuclios_dashboard_can_change_a_function(host):
    """It needs the code entry type, and no annotation may be empty."""
    directory = host.function(kind="interactor", annotations='\n    spec: ""')
    run = host.deploy(str(directory), "--no-verify")
    assert run.status == 0, run.output
    record = host.record("finder")
    assert record["metadata"]["annotations"]["spec"] == "[]"
    assert record["spec"]["build"]["codeEntryType"] == "image"


def test_what_a_base_image_is_built_from(host):
    host.deploy(str(host.function()), "--no-verify")
    context = host.fact("context").splitlines()
    assert "common/networks/weights.py" in context
    assert "Dockerfile" in context
    assert {name.split("/")[0] for name in context} == {"common", "base", "Dockerfile", "base_packages.py"}
    assert not any("__pycache__" in name for name in context)


def test_through_the_dashboard_it_sends_what_cvat_sends(host):
    host.deploy(str(host.function()))
    (request,) = host.requests("function_invocations")
    sent = {
        "x-nuclio-function-name": "finder",
        "x-nuclio-path": "/",
        "x-nuclio-function-namespace": "nuclio",
        "x-nuclio-project-name": "cvat",
        "x-nuclio-invoke-via": "domain-name",
        "x-nuclio-invoke-timeout": "120s",
        "content-type": "application/json",
    }
    assert sent.items() <= request.headers.items()


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
    (request,) = host.requests(r"POST http://127\.0\.0\.1:28")
    assert json.loads(request.body) == json.loads((REPOSITORY / "deploy/samples" / sample).read_text())
    assert found in run.output


def test_ports_are_different_and_those_of_stopped_containers_are_left_alone(host):
    host.deployed_function("one")
    alone = host.deployed("one").port
    host.facts.remove_record("one")
    host.remove_container("one")
    host.container("stranger", port=alone, running=False)
    run = host.deploy("one", "--no-verify")
    assert host.deployed("one").port == (alone - 28000 + 1) % 1000 + 28000, run.output


def test_a_port_on_which_a_program_listens_is_not_given_away(host):
    host.deployed_function("one")
    port = host.deployed("one").port
    host.facts.remove_record("one")
    host.remove_container("one")
    with socket.create_server(("127.0.0.1", port)):
        host.deploy("one", "--no-verify")
    assert host.deployed("one").port != port


def test_a_random_port_of_before_becomes_a_fixed_one(host):
    host.container("finder", port=0)
    host.deploy(str(host.function()), "--no-verify")
    assert 28000 <= host.deployed().port < 29000


def test_a_port_in_function_yaml_is_obeyed(host):
    host.deploy(str(host.function(trigger="\n        port: 31000")), "--no-verify")
    assert host.deployed().port == 31000


def test_a_port_in_function_yaml_that_is_taken_is_said_before_anything_is_deployed(host):
    directory = host.function(trigger="\n        port: 31000")
    host.container("stranger", port=31000)
    run = host.deploy(str(directory))
    assert run.status == 1
    assert "port 31000, which the function.yaml of finder asks for, is taken" in run.output
    assert not run.made("nuctl deploy")


def test_what_a_trigger_holds_stays_as_it_is(host):
    run = host.deploy(
        str(host.function(trigger="\n        cors:\n          enabled: true\n          allowOrigins: [a, b]"))
    )
    assert run.status == 0, run.output
    cors = host.deployed().triggers["web"]["attributes"]["cors"]
    assert cors == {"enabled": True, "allowOrigins": ["a", "b"]}


def test_a_function_without_a_trigger_gets_one(host):
    directory = host.function()
    text = (directory / "function.yaml").read_text()
    (directory / "function.yaml").write_text(re.sub(r"  triggers:.*?(?=  platform:)", "", text, flags=re.DOTALL))
    run = host.deploy(str(directory), "--no-verify")
    assert run.status == 0, run.output
    (trigger,) = host.deployed().triggers.values()
    assert trigger["kind"] == "http"
    assert trigger["attributes"]["maxRequestBodySize"] == 33554432
    assert 28000 <= trigger["attributes"]["port"] < 29000


def test_gpu(host):
    run = host.deploy(str(host.function(base="cvat.pytorch.base")), device="gpu")
    assert run.status == 0, run.output
    run.order(
        "docker run --rm --gpus all --entrypoint nvidia-smi",
        "docker build .*-t cvat.pytorch.base:latest-gpu .*DEVICE=gpu",
        "docker tag .* cvat.finder:latest-gpu",
    )
    built = run.call("^nuctl build")
    assert "--base-image cvat.pytorch.base:latest-gpu" in built
    assert re.search(r"--image cvat\.finder:\S+-gpu ", built)
    deployed = host.deployed()
    assert deployed.spec["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert deployed.env["DEVICE"] == "cuda"
    assert deployed.triggers["web"]["numWorkers"] == 1


def test_on_a_gpu_a_framework_without_gpu_packages_is_deployed_as_for_the_cpu(host):
    run = host.deploy(str(host.function(base="cvat.opencv.base")), "--no-verify", device="gpu")
    assert run.status == 0, run.output
    assert "--base-image cvat.opencv.base:latest " in run.call("^nuctl build") + " "
    assert "nvidia.com" not in str(host.deployed().content)


def test_on_a_gpu_a_function_of_openvino_is_deployed_as_for_the_cpu(host):
    run = host.deploy(str(host.function(base="cvat.onnx.base")), "--no-verify", device="gpu")
    assert run.status == 0, run.output
    assert "--base-image cvat.onnx.base:latest " in run.call("^nuctl build") + " "
    assert "DEVICE" not in host.deployed().env and "nvidia.com" not in str(host.deployed().content)


def test_a_function_yaml_for_the_gpu_of_its_own_is_taken_by_deploy_gpu_alone(host):
    directory = host.function(base="somebody/base:1")
    text = (directory / "function.yaml").read_text()
    (directory / "function-gpu.yaml").write_text(
        text.replace("somebody/base:1", "somebody/base:1-gpu").replace("numWorkers: 3", "numWorkers: 7")
    )
    host.facts.add_image("somebody/base:1-gpu")
    run = host.deploy(str(directory), "--no-verify", device="gpu")
    assert run.status == 0, run.output
    assert (host.world / "built/finder/function.yaml").read_text() == (directory / "function-gpu.yaml").read_text()
    assert "baseImage" not in (directory / "main.py").read_text()
    host.forget()
    (host.world / "built/finder/function.yaml").unlink()
    run = host.deploy(str(directory), "--no-verify")
    assert run.status == 0, run.output
    assert (host.world / "built/finder/function.yaml").read_text() == text
    assert host.deployed().triggers["web"]["numWorkers"] == 3


def test_cpu_and_memory(host):
    spec = "  resources:\n    requests:\n      memory: 3Gi\n    limits:\n      memory: 3Gi\n      cpu: 4"
    run = host.deploy(str(host.function(spec=spec)), "--no-verify", "--cpu", "500m", "--memory", "1.5Gi")
    assert run.status == 0, run.output
    resources = host.deployed().spec["resources"]
    assert resources["limits"] == {"cpu": "500m", "memory": "1.5Gi"}
    # A request above its limit is refused.
    assert resources["requests"]["memory"] == "1.5Gi"


def test_resources_and_volumes_of_function_yaml_stay(host):
    spec = (
        "  resources:\n    limits:\n      memory: 3Gi\n  volumes:\n    - volume:\n        name: data\n        hostPath:\n"
        f"          path: {host.home}\n      volumeMount:\n        name: data\n        mountPath: /data"
    )
    run = host.deploy(str(host.function(spec=spec)), "--no-verify")
    assert run.status == 0, run.output
    assert host.deployed().spec["resources"]["limits"] == {"memory": "3Gi"}
    assert host.deployed().mounts == {"/data": str(host.home)}


def test_without_cvats_network_functions_get_a_port_and_no_network(host):
    host.unset("networks/cvat_cvat", "dashboard")
    run = host.deploy(str(host.function()))
    assert run.status == 0, run.output
    assert "there is no network cvat_cvat" in run.output
    assert "compose.yaml up -d" in run.output
    assert host.deployed().network is None
    assert not any("REDIS" in name for name in host.deployed().env)
    assert run.made(r"^http POST http://127\.0\.0\.1:28")
    assert not run.made("function_invocations")


def test_the_network_of_a_cvat_of_another_name(host):
    host.unset("networks/cvat_cvat", "dashboard")
    host.set("networks/labels_cvat")
    host.set("other_network", "labels_cvat\n")
    run = host.deploy(str(host.function()), "--no-verify")
    assert run.status == 0, run.output
    assert host.deployed().network == "labels_cvat"


def test_a_dashboard_without_a_published_port_is_reached_at_its_own_address(host):
    host.set("unpublished")
    run = host.deploy(str(host.function()))
    assert run.call("function_invocations") == "http POST http://172.30.0.5:8070/api/function_invocations"


def test_requests_do_not_go_through_the_proxy_of_the_environment(host):
    proxy = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"), "http://proxy.invalid:3128")
    run = host.deploy(str(host.function()), env=proxy)
    assert run.status == 0, run.output
    assert "1 shape" in run.output


def test_a_buildx_builder_that_sees_no_local_images_is_not_used(host):
    host.set("builder", "docker-container")
    host.set("on_build/finder", "import os; world.set('builder_of_build', os.environ['BUILDX_BUILDER'])")
    run = host.deploy(str(host.function()), "--no-verify")
    assert "building with the daemon's own (default)" in run.output
    assert host.fact("builder_of_build") == "default"


def test_a_function_on_an_image_without_common_is_still_tried(host):
    host.set("no_common")
    run = host.deploy(str(host.function(base="somebody/image:1")))
    assert run.status == 0, run.output
    assert "an answer in JSON" in run.output
    assert not run.made("docker build ")
    assert "--base-image" not in run.call("^nuctl build")


def test_several_functions_a_failure_of_one_is_not_one_of_all(host):
    for name in ("one", "two", "three"):
        host.function(name)
    host.set("on_build/two", 'fail("no space left on device")')
    run = host.deploy(str(host.home), "--no-verify", "--jobs", "2")
    assert run.status == 1
    assert len([call for call in run.calls if call.startswith("docker build ")]) == 1
    assert len([call for call in run.calls if call.startswith("nuctl build")]) == 3
    assert "the disk is full" in run.output
    assert "1 of 3 failed" in run.output
    ports = re.findall(r"^  (?:one|two|three) +detector +(\d+)", run.output, re.MULTILINE)
    assert len(set(ports)) == 3
    assert [name for name in ("one", "two", "three") if host.record(name)] == ["one", "three"]


def test_weights_are_fetched_before_the_build(host):
    directory = host.function()
    (directory / "weights.yaml").write_text(WEIGHTS)
    run = host.deploy(str(directory), "--no-verify")
    assert run.status == 0, run.output
    run.order(
        "docker build",
        r"docker run .*source=.*/finder,destination=/function .*common.networks.weights /function --variant small",
        "nuctl build",
    )
    assert "model.onnx: fetched, 12.2 MB" in run.output


def test_weights_that_cannot_be_fetched(host):
    directory = host.function()
    (directory / "weights.yaml").write_text(WEIGHTS)
    host.set("weights_fail", "https://x/m: the server answers 404 Not Found\n")
    run = host.deploy(str(directory))
    assert run.status == 1
    assert "its weights can't be fetched: https://x/m: the server answers 404 Not Found" in run.output
    assert not run.made("nuctl (build|deploy)")


def test_mounted_weights(host):
    directory = host.function()
    (directory / "weights.yaml").write_text(WEIGHTS)
    weights = host.home / "my weights" / "finder"
    weights.mkdir(parents=True)
    (weights / "best.onnx").write_bytes(b"x")
    run = host.deploy(str(directory), "--no-verify", "--weights", str(weights.parent))
    assert run.status == 0, run.output
    assert host.deployed().mounts == {"/opt/nuclio/weights": str(weights)}
    assert host.deployed().env["MODEL_PATH"] == "/opt/nuclio/weights/best.onnx"
    assert not run.made("common.networks.weights")
    # The build must find a mark there, and leave the fetching.
    assert (host.world / "built/finder/weights/.mounted").is_file()
    assert (host.world / "built/finder/main.py").is_file()
    assert not (directory / "weights").exists()


def test_weights_that_the_function_cannot_read(host):
    (host.home / "weights").mkdir(mode=0o700)
    run = host.deploy(str(host.function()), "--weights", str(host.home / "weights"))
    assert run.status == 1
    assert "chmod -R o+rX" in run.output


def test_options_of_the_user_take_precedence(host):
    run = host.deploy(
        str(host.function(base="cvat.pytorch.base")), "--env", "DEVICE=cuda:1", "--env", "A=b c", "--env", "VARIANT=big",
        device="gpu",
    )  # fmt: skip
    assert run.status == 0, run.output
    wanted = {"DEVICE": "cuda:1", "A": "b c", "VARIANT": "big"}
    assert wanted.items() <= host.deployed().env.items()


def test_the_user_of_the_functions(host):
    run = host.deploy(str(host.function()), "--user", "1234:4321")
    assert host.deployed().spec["securityContext"] == {"runAsUser": 1234, "runAsGroup": 4321}
    assert run.made("^docker run .*--user 1234:4321 .*check")


def test_a_dry_run_prints_all_and_changes_nothing(host):
    run = host.deploy(str(host.function()), "--dry-run", "--network", "cvat_cvat")
    assert run.status == 0, run.output
    assert not run.made(r"docker (build|run|tag|push|image rm) |nuctl (deploy|create|delete|build)|^http POST")
    printed = [line for line in run.output.splitlines() if line.startswith("+ ")]
    assert any("nuctl create project cvat" in line for line in printed)
    assert any("| docker build --network host -t cvat.onnx.base:latest" in line for line in printed)
    assert any("nuctl build finder --path" in line for line in printed)
    assert any("nuctl deploy --project-name cvat --file" in line for line in printed)
    assert host.leftovers() == []


def test_a_dry_run_where_nothing_is_installed(host):
    for tool in ("docker", "nuctl"):
        (host.world / "bin" / tool).unlink()
    run = host.deploy(str(host.function()), "--dry-run")
    assert run.status == 0, run.output
    assert "+ nuctl deploy" in run.output


def test_the_whole_collection_is_the_default_without_what_can_not_start(host):
    run = host.deploy("--dry-run")
    assert run.status == 0, run.output
    names = {re.search(r"--path (\S+)", line).group(1) for line in run.output.splitlines() if "nuctl build" in line}
    expected = {str(path.parent) for path in (REPOSITORY / "serverless").rglob("function.yaml")}
    left_out = {
        path: re.search(rf"{name_of(path)}.* lacks (.*)|{name_of(path)}: (.*)", run.output) for path in expected - names
    }
    assert names < expected
    assert len(names) > 20
    assert all(left_out.values()), run.output
    assert any("GPU" in match[0] and "./deploy_gpu.sh" in match[0] for match in left_out.values())
    assert any("--weights DIR" in match[0] for match in left_out.values())


def name_of(path: str) -> str:
    return re.search(r"^  name: (\S+)", open(f"{path}/function.yaml").read(), re.MULTILINE)[1]


def test_what_can_not_start_is_deployed_with_mounted_weights(host):
    directory = host.function(spec="  env:\n    - name: MODEL_PATH\n      value: /opt/nuclio/weights/own.onnx\n")
    text = (directory / "function.yaml").read_text().replace("  env:\n    - name: VARIANT\n      value: small\n", "", 1)
    (directory / "function.yaml").write_text(text)
    (host.home / "weights/finder").mkdir(parents=True)
    (host.home / "weights/finder/own.onnx").write_bytes(b"x")
    run = host.deploy(str(directory), "--no-verify")
    assert run.status == 1
    assert "finder lacks weights of your own (MODEL_PATH): mount them with --weights DIR" in run.output
    assert not run.made("nuctl (build|deploy)")
    run = host.deploy(str(directory), "--no-verify", "--weights", str(host.home / "weights"))
    assert run.status == 0, run.output


def test_what_is_not_named_and_can_not_start_is_left_out_and_no_failure(host):
    host.function("one")
    host.function("two", spec="  resources:\n    limits:\n      nvidia.com/gpu: 1")
    run = host.deploy(str(host.home), "--no-verify")
    assert run.status == 0, run.output
    assert "two lacks a GPU: ./deploy_gpu.sh" in run.output
    assert host.record("one")
    assert host.record("two") is None
    run = host.deploy("two")
    assert run.status == 1
    assert "two lacks a GPU" in run.output


def test_when_none_of_a_folder_can_start_that_is_said(host):
    for name in ("one", "two"):
        host.function(name, spec="  resources:\n    limits:\n      nvidia.com/gpu: 1")
    run = host.deploy(str(host.home))
    assert run.status == 1
    assert run.output.count(" lacks a GPU") == 2
    assert "none of these functions can start as it is" in run.output
    assert "Summary" not in run.output


def test_a_base_image_alone(host):
    run = host.deploy("--base-only", "onnx")
    assert run.status == 0, run.output
    assert "-t cvat.onnx.base:latest" in run.call("^docker build ")
    assert not run.made("nuctl (build|deploy|create)")
    assert "cvat.onnx.base:latest" in run.output
    run = host.deploy("--base-only", "pytorch", device="gpu")
    assert run.status == 0, run.output
    assert run.made("^docker build .*-t cvat.pytorch.base:latest-gpu .*DEVICE=gpu")
    run = host.deploy("--base-only", "tensorflow")
    assert run.status == 2
    assert "tensorflow" in run.errors
    assert "onnx, opencv" in run.errors


def test_pytorchs_cpu_wheels_are_said_when_their_index_can_not_be_reached(host):
    run = host.deploy(str(host.function(base="cvat.pytorch.base")), "--no-verify")
    assert run.status == 0, run.output
    assert re.search("index of CPU wheels .* can't be reached", run.output)
    host.forget()
    run = host.deploy(str(host.function("two")), "--no-verify")
    assert "CPU wheels" not in run.output  # onnx needs no torch


def test_no_curl_is_needed(host):
    run = host.deploy(str(host.function()))
    assert run.status == 0, run.output
    assert not (host.world / "bin/curl").exists()
    assert "curl" not in run.output


WEIGHTS = "default: small\nvariants:\n  small:\n    files:\n      - path: m\n        url: https://x/m\n"


def test_logs_of_each_function(host):
    host.set("on_build/finder", "print('building now')")
    host.deploy(str(host.function()), "--no-verify")
    assert "building now" in (host.world / "logs/finder.log").read_text()


def test_what_a_dry_run_pipes_into_docker_is_a_context(host, tmp_path):
    run = host.deploy(str(host.function()), "--dry-run")
    line = next(line for line in run.output.splitlines() if "| docker build" in line)
    command = line.removeprefix("+ ").partition(" | ")[0]
    import subprocess

    subprocess.run(["bash", "-c", f"{command} > {tmp_path}/context.tar"], check=True)
    with tarfile.open(tmp_path / "context.tar") as context:
        assert {"Dockerfile", "base", "common"} <= {name.split("/")[0] for name in context.getnames()}
