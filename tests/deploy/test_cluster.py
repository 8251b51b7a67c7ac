"""Functions in a cluster of Kubernetes."""

from __future__ import annotations

import re


def test_kubernetes(host):
    host.set("cluster_dashboard")
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
        "nuctl build finder .*--platform kube --namespace labels$",
        "nuctl deploy .*--platform kube --namespace labels$",
        "function_invocations",
    )
    built = run.call("^nuctl build")
    assert "--base-image registry.example/team/cvat.onnx.base:latest" in built
    assert "--registry registry.example/team" in built
    assert re.search(r"--image cvat\.finder:\S+ ", built)
    deployed = host.deployed()
    assert re.fullmatch(r"registry\.example/team/cvat\.finder:\d{8}-\d{6}", deployed.image)
    assert deployed.spec["minReplicas"] == 0
    assert deployed.spec["maxReplicas"] == 8
    assert deployed.spec["targetCPU"] == 60
    assert deployed.spec["nodeSelector"] == {"pool": "cpu"}
    assert "network" not in str(deployed.spec.get("platform"))
    # A port there would be one of every node.
    assert deployed.port is None
    assert not run.made(r"http .*127\.0\.0\.1:28")
    assert re.search(r"finder +detector +- +ready +\d\.\d\d s, 1 shape", run.output)


def test_several_node_selectors(host):
    run = host.deploy(
        str(host.function()), "--platform=kube", "--registry=r.example", "--no-verify",
        "--node-selector", "pool=cpu", "--node-selector", "zone=a",
    )  # fmt: skip
    assert run.status == 0, run.output
    assert host.deployed().spec["nodeSelector"] == {"pool": "cpu", "zone": "a"}


def test_with_a_gpu_no_gpu_is_looked_for_here(host):
    host.set("gpu_fails", "none")
    run = host.deploy(
        str(host.function(base="cvat.pytorch.base")), "--platform=kube", "--registry=r.example", "--gpus=2",
        "--no-verify", device="gpu",
    )  # fmt: skip
    assert run.status == 0, run.output
    assert not run.made("nvidia-smi")
    deployed = host.deployed()
    assert deployed.image.endswith("-gpu")
    assert deployed.spec["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert deployed.triggers == {
        "web": {"kind": "http", "numWorkers": 1, "attributes": {"maxRequestBodySize": 33554432}}
    }


def test_without_a_way_to_the_dashboard(host):
    host.set("unreachable")
    run = host.deploy(str(host.function()), "--platform", "kube", "--registry", "r.example")
    assert run.status == 1
    assert "kubectl -n nuclio port-forward service/nuclio-dashboard 8070:8070" in run.output


def test_a_cluster_that_does_not_answer(host):
    host.set("cluster_fails", "dial tcp 10.0.0.1:6443: connect: no route to host")
    run = host.deploy(str(host.function()), "--platform", "kube", "--registry", "r.example", "--no-verify")
    assert run.status == 1
    assert "Nuclio in the cluster does not answer nuctl" in run.output
    assert "no route to host" in run.output


def test_a_registry_that_refuses(host):
    host.set("push_fails", "denied: requested access to the resource is denied\n")
    run = host.deploy(str(host.function()), "--platform", "kube", "--registry", "r.example/team", "--no-verify")
    assert run.status == 1
    assert "r.example/team/cvat.onnx.base:latest can't be pushed: denied" in run.output
    assert "docker login r.example" in run.output


def test_another_name_of_the_registry_in_the_cluster_without_a_build(host):
    places = ("--platform", "kube", "--registry", "push.example/team", "--run-registry", "pull.example")
    directory = host.function()
    assert host.deploy(str(directory), *places, "--no-verify").status == 0
    image = host.record("finder")["spec"]["image"]
    assert re.fullmatch(r"pull\.example/cvat\.finder:\S+", image)
    for again in ((str(directory), "--no-build", "--no-verify", *places), ("--no-build", "--no-verify", *places[:2])):
        run = host.deploy(*again)
        assert run.status == 0, run.output
        assert host.record("finder")["spec"]["image"] == image


def test_the_registry_is_remembered(host):
    directory = host.function()
    places = ("--platform", "kube", "--registry", "r.example/team", "--max-replicas", "8")
    assert host.deploy(str(directory), *places, "--no-verify").status == 0
    run = host.deploy(str(directory), "--platform", "kube", "--no-verify")
    assert run.status == 0, run.output
    assert host.deployed().image.startswith("r.example/team/cvat.finder:")
    assert host.deployed().spec["maxReplicas"] == 8
