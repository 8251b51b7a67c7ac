"""What a failed build or start is said to be, from logs of a real Nuclio 1.14.1 and from words of Docker and pip."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.cause import explain, explain_no_answer, log_end
from deploy.console import DeploymentError
from deploy.host.containers import Container

LOGS = Path(__file__).parent / "logs"
ENDED = Container("nuclio-nuclio-finder", image="cvat.finder:1", status="exited", exit_code=2)
RUNNING = Container("nuclio-nuclio-finder", status="running", running=True)
EXITED = "Error - Container exited with status: 2\n"


def log(name: str) -> str:
    return (LOGS / f"{name}.log").read_text()


def of_build(text: str) -> DeploymentError:
    return explain(text, "", container=None)


def of_start(
    container_log: str, nuctl_log: str = EXITED, container: Container = ENDED, *, mounted: bool = False
) -> DeploymentError:
    return explain(nuctl_log, container_log, container=container, mounted=mounted)


def startup_error(message: str) -> str:
    return f'26.11.21 02:34:56.9 (E) -manager.event connection The function can\'t start {{"error": "StartupError: {message}", "worker_id": "0"}}\n'


@pytest.mark.parametrize("name", ["import", "init", "exit", "abort", "late", "kill"])
def test_a_processor_that_died_is_not_called_slow(name: str) -> None:
    found = of_start(log(f"{name}.container"))
    assert "slow disk" not in found.remedy
    assert "in time" not in found.cause


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("import", "No module named 'cv3'"),
        ("init", 'RuntimeError: no model "here"'),
        ("exit", "the function's Python process ended with status 3 while main.py was imported"),
        ("abort", "the function's Python process was ended by a signal (aborted) while main.py was imported"),
        ("late", "the function's Python process ended with status 5 in init_context"),
        ("kill", "the function's Python process was ended by a signal (killed) in init_context"),
    ],
)
def test_how_a_real_function_ended(name: str, cause: str) -> None:
    assert of_start(log(f"{name}.container")).cause == cause


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("segv", "the function's Python process was ended by a signal (segmentation fault) in init_context"),
        ("exit", "the function's Python process ended with status 3 while main.py was imported"),
    ],
)
@pytest.mark.parametrize("container", [None, ENDED])
def test_nuctls_log_holds_that_of_the_container(name: str, cause: str, container: Container | None) -> None:
    assert explain(log(f"{name}.nuctl"), "", container=container).cause == cause


def test_remedies_of_a_process_that_ended() -> None:
    assert of_start(log("exit.container")).remedy.startswith(
        "docker run --rm --workdir /opt/nuclio --entrypoint python cvat.finder:1 -c 'import main'"
    )
    assert "--memory" in of_start(log("kill.container")).remedy
    assert "native code" in of_start(log("abort.container")).remedy
    newer = log("abort.container").replace("signal: aborted", "signal: illegal instruction")
    assert "a newer CPU" in of_start(newer).remedy


def test_the_last_words_of_a_process_that_ended() -> None:
    text = log("exit.container").replace("26.11.21 18:29:17.648 ", "free(): invalid pointer\n26.11.21 18:29:17.648 ", 1)
    cause = of_start(text).cause
    assert cause == (
        "the function's Python process ended with status 3 while main.py was imported: free(): invalid pointer"
    )


@pytest.mark.parametrize(
    ("container", "cause"),
    [
        (ENDED, "the processor ended with status 2 before init_context: exec format error"),
        (
            Container("finder", status="restarting", restarts=3, exit_code=1),
            "the processor ended with status 1 before init_context, 4 times: exec format error",
        ),
        (
            # It was stopped, so that nuctl gives up.
            Container("finder", status="exited", restarts=1, exit_code=137),
            "the processor ended before init_context, 2 times: exec format error",
        ),
        (
            # It has begun again.
            Container("finder", status="running", running=True, restarts=1, memory_limit=268435456),
            "the processor ended before init_context, 2 times: exec format error",
        ),
    ],
)
def test_a_processor_that_dies_at_once(container: Container, cause: str) -> None:
    found = explain("Error - Container wasn't healthy in time\n", "exec format error\n", container=container)
    assert found.cause == cause
    assert found.remedy == ""


def test_a_processor_that_may_have_lacked_memory() -> None:
    container = Container("finder", status="running", running=True, restarts=1, memory_limit=268435456)
    found = explain("Error - Container exited with status: 137\n", log("slow.container"), container=container)
    assert found.cause == "the processor ended in init_context, 2 times"
    assert found.remedy.startswith("if it lacked memory, give it more than 256Mi: --memory AMOUNT")


@pytest.mark.parametrize(
    ("container", "cause", "remedy"),
    [
        (
            Container("finder", status="running", restarts=1, out_of_memory=True, memory_limit=104857600),
            "out of memory: the function took more than its limit of 100Mi while it answered",
            "give it more than 100Mi: --memory AMOUNT",
        ),
        (None, "the function's Python process was ended by a signal (killed) while it answered", "most often"),
    ],
)
def test_a_function_that_ends_while_it_answers(container: Container | None, cause: str, remedy: str) -> None:
    found = explain_no_answer(DeploymentError("port 28001: 500: EOF"), log("kill.container"), container)
    assert found.cause == cause
    assert found.remedy.startswith(remedy)


def test_a_function_that_fails_and_lives() -> None:
    error = DeploymentError("port 28001: 500: no model")
    container = Container("finder", status="running", running=True)
    assert explain_no_answer(error, log("slow.container"), container) is error


def test_a_processor_that_was_killed() -> None:
    container = Container("finder", status="exited", exit_code=137)
    found = explain("Error - Container exited with status: 137\n", log("slow.container"), container=container)
    assert found.cause == "the processor ended with status 137 in init_context"
    assert "--memory" in found.remedy


def test_a_container_that_docker_cannot_start() -> None:
    container = Container("finder", status="created", error="mounts denied")
    assert explain("Error - exit status 125\n", "", container=container).cause == "Docker can't start it: mounts denied"


def test_only_a_function_that_still_runs_may_be_slow() -> None:
    for container_log in (log("slow.container"), ""):
        found = explain(log("slow.nuctl"), container_log, container=RUNNING)
        assert found.cause == "it was not ready in time, and its log does not say why"
        assert "readinessTimeoutSeconds" in found.remedy


def test_a_function_without_a_container_here_that_has_ended() -> None:
    assert explain(EXITED, "", container=None).cause == "the processor ended with status 2"


@pytest.mark.parametrize(
    ("container_log", "cause", "remedy"),
    [
        (startup_error("DEVICE: no CUDA device"), "DEVICE: no CUDA device", "nvidia-smi on this machine"),
        (startup_error('THRESHOLD: expected a number, got \\"x\\"'), 'THRESHOLD: expected a number, got "x"', "--env"),
        (
            '{"level": "error", "message": "Caught unhandled exception while initializing", '
            '"with": {"err": "No module named \'cv3\'", "traceback": "..."}}',
            "No module named 'cv3'",
            "requirements.txt",
        ),
        ("Traceback (most recent call last):\n  File x\nRuntimeError: no CUDA device\n", "RuntimeError: no CUDA device", "GPU"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory\n", "torch.cuda.OutOfMemoryError: CUDA out of memory", "GPU"),
    ],
)  # fmt: skip
def test_an_exception_at_the_start(container_log: str, cause: str, remedy: str) -> None:
    found = of_start(container_log)
    assert found.cause == cause
    assert remedy in found.remedy


def test_weights_that_are_missing() -> None:
    cause = "no weights for small: model.onnx is missing in /opt/nuclio/weights/small"
    text = startup_error(f"{cause}; fetch: python -m common.networks.weights /opt/nuclio --variant small")
    found = of_start(text)
    assert found.cause == cause
    assert "mount them with --weights DIR" in found.remedy
    mounted = of_start(text, mounted=True)
    assert mounted.cause == cause
    assert "mount them with --weights" not in mounted.remedy
    assert "DIR/<function's name>/small/model.onnx" in mounted.remedy
    assert "one file, which MODEL_PATH then names" in mounted.remedy
    several = startup_error("no weights for b: config.json, model.bin are missing in /opt/nuclio/weights/b")
    assert "DIR/<function's name>/b/config.json" in of_start(several, mounted=True).remedy
    wrong = startup_error("/opt/nuclio/weights/best.onnx: ONNX Runtime can't load it: No graph was found")
    for is_mounted in (False, True):
        assert of_start(wrong, mounted=is_mounted).remedy.startswith("the file is damaged")
    absent = of_start(startup_error("MODEL_PATH: there is no /opt/nuclio/weights/x.onnx"), mounted=True)
    assert "DIR/<function's name>/<variant>/<file of weights.yaml>" in absent.remedy


@pytest.mark.parametrize("limit", [0, 268435456, 1610612736])
def test_out_of_memory(limit: int) -> None:
    container = Container("finder", status="exited", exit_code=2, out_of_memory=True, memory_limit=limit)
    found = explain(EXITED, log("kill.container"), container=container)
    assert found.cause.startswith("out of memory: the ")
    assert "--memory" in found.remedy
    assert ("limit of 256Mi" in found.cause) == (limit == 268435456)
    assert ("limit of 1.5Gi" in found.cause) == (limit == 1610612736)
    assert ("resources.limits.memory" in found.remedy) == bool(limit)


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        (
            "docker: Error response from daemon: driver failed programming external connectivity on endpoint: "
            "Bind for 0.0.0.0:31000 failed: port is already allocated.",
            "its port is taken: 0.0.0.0:31000 failed: port is already allocated",
            "attributes.port",
        ),
        (
            "listen tcp4 0.0.0.0:31000: bind: address already in use",
            "its port is taken: listen tcp4 0.0.0.0:31000: bind: address already in use",
            "--first-port",
        ),
        (
            'docker: Error response from daemon: invalid mount config for type "bind": bind source path does not exist: '
            "/srv/my models.",
            "a folder that it mounts is missing on this machine: /srv/my models",
            "--weights DIR",
        ),
        ("write /x: no space left on device", "the disk is full", "docker system df"),
        ("OSError: [Errno 28] No space left on device: '/x'", "the disk is full", "docker system df"),
        (
            'could not select device driver "" with capabilities: [[gpu]]',
            'Docker can\'t give the function a GPU: could not select device driver "" with capabilities: [[gpu]]',
            "./deploy_cpu.sh",
        ),
        (
            'stderr: "nvidia-container-cli: initialization error: nvml error: driver not loaded"',
            "Docker can't give the function a GPU: nvidia-container-cli: initialization error: nvml error: driver not loaded",
            "toolkit",
        ),
        (
            "ERROR: No matching distribution found for rapidocr==9.9.9",
            "pip finds no rapidocr==9.9.9 for this platform",
            "PIP_INDEX_URL",
        ),
        (
            "urllib3: Failed to resolve 'x' ([Errno -3] Temporary failure in name resolution)",
            "the network: urllib3: Failed to resolve 'x' ([Errno -3] Temporary failure in name resolution",
            "make bundle",
        ),
        ("dial tcp 1.2.3.4:443: i/o timeout", "the network: dial tcp 1.2.3.4:443: i/o timeout", "HTTPS_PROXY"),
        ("net/http: TLS handshake timeout", "the network: net/http: TLS handshake timeout", "--offline FILE"),
        ("connect: Network is unreachable", "the network: connect: Network is unreachable", "--offline FILE"),
        (
            "dial tcp 1.2.3.4:443: connect: connection refused\nimage can't be pulled",
            "the network: dial tcp 1.2.3.4:443: connect: connection refused",
            "HTTPS_PROXY",
        ),
        (
            "pull access denied for cvat.mine.base, repository does not exist",
            "an image can't be pulled: pull access denied for cvat.mine.base",
            "must be built first",
        ),
        (
            "manifest for python:3.99 not found: manifest unknown",
            "an image can't be pulled: manifest for python:3.99",
            "registry",
        ),
        (
            "SSLError(certificate verify failed: unable to get local issuer)",
            "a certificate of the network is not trusted in the build",
            "--python IMAGE",
        ),
        ("x509: certificate signed by unknown authority", "a certificate of the network is not trusted in the build", ""),
        (
            "Function cannot be updated when existing function is being provisioned",
            "Nuclio is still deploying it, from an earlier or another run",
            "nuctl delete function NAME --force",
        ),
        ("/bin/sh: line 1: 7 Killed pip", "out of memory while it was built or started", "--jobs 1"),
        ("The command 'x' returned a non-zero code: 137", "out of memory while it was built or started", "memory"),
        ("Error - exit status 137\n", "out of memory while it was built or started", "memory"),
    ],
)  # fmt: skip
def test_failures_that_their_words_give_away(text: str, cause: str, remedy: str) -> None:
    found = of_build(f"before\n{text}\nafter\n")
    assert found.cause == cause
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("build-nobase", "the network: dial tcp: lookup registry-1.docker.io on 10.0.0.53:53: no such host"),
        ("build-pip", "pip finds no rapidocr==9.9.9 for this platform"),
        ("build-false", "a command of the build failed with status 4: echo something went wrong >&2; exit 4: something went wrong"),
    ],
)  # fmt: skip
def test_real_builds_that_fail(name: str, cause: str) -> None:
    assert of_build(log(f"{name}.nuctl")).cause == cause


def test_a_command_that_buildkit_could_not_run() -> None:
    text = 'ERROR: failed to solve: process "/bin/sh -c make it" did not complete successfully: exit code: 3\n'
    assert of_build(text).cause == "a command of the build failed with status 3: make it"


def test_nuctls_store_image_that_cannot_be_pulled() -> None:
    text = (
        "Error - exit status 125\n    .../shellrunner.go:114\n\nCall stack:\nstdout:\n\nstderr:\n"
        "Unable to find image 'gcr.io/iguazio/alpine:3.20' locally\n"
        'docker: Error response from daemon: Get "https://gcr.io/v2/": dial tcp: lookup gcr.io on 10.0.0.53:53: no such host\n'
        "\n    .../shellrunner.go:114\nFailed to run container with storage volume\n    .../client.go:1\n"
        "Failed to run cat command\n    .../client.go:2\nFailed to get projects\n"
    )
    found = explain(text, "", container=None)
    assert found.cause == "nuctl can't start the container in which it keeps its records"
    assert "docker pull gcr.io/iguazio/alpine:3.20" in found.remedy
    other = text.replace("Failed to run container with storage volume", "Failed to build")
    assert explain(other, "", container=None).cause.startswith("the network: ")


def test_what_the_function_is_configured_with_is_no_cause() -> None:
    """The processor logs its whole configuration, and nuctl repeats it."""
    text = log("slow.nuctl").replace("nuclio.io/project-name", "no space left on device")
    assert text.count("no space left on device") > 1
    assert explain(text, "", container=RUNNING).cause == "it was not ready in time, and its log does not say why"


def test_other_failures_are_quoted() -> None:
    assert of_build("x\nfoo: error: unknown flag\nCall stack:\n...\n").cause == "foo: error: unknown flag"
    assert of_build("Error - Project does not exist\n    .../x.go:1\n\nCall stack:\nFailed to deploy function\n    .../x.go:2\n").cause == "Project does not exist"  # fmt: skip
    assert of_build("\x1b[31mlast words\x1b[0m\n\n").cause == "last words"
    assert of_build("").cause == "nuctl failed without a message"


def test_a_long_cause_is_cut_with_a_sign() -> None:
    cause = of_start(startup_error("x" * 5000)).cause
    assert len(cause) == 600
    assert cause.endswith("x ...")
    assert of_build("ERROR: " + "y" * 5000).cause.endswith("y ...")


def test_the_end_of_a_log() -> None:
    lines = log_end(log("init.container"))
    assert len(lines) <= 12
    assert 'RuntimeError: no model "here"' in lines
    assert not any("goroutine" in line or "(D)" in line or "socket" in line or not line for line in lines)
    lines = log_end(log("import.container"))
    assert lines[-2] == "ModuleNotFoundError: No module named 'cv3'"
    assert any('File "/opt/nuclio/main.py", line' in line for line in lines)
    assert log_end('{"level": "x"}\n{"with": 3}\n{not JSON\n') == ['{"level": "x"}', '{"with": 3}', "{not JSON"]
    (cut,) = log_end("z" * 900 + "\n")
    assert len(cut) == 200
    assert cut.endswith("z ...")
