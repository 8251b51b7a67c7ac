"""tools.serve as a real process: what CVAT sends and reads, deaths and restarts, limits, and a clean stop."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import requests

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.runtime import available_cores
from tests.file_server import CUT, FileServer, file_server
from tests.tools.serving import Server
from tools.collection import COLLECTION, ROOT
from tools.serve.pool import Limits
from tools.serve.settings import parse_settings

MAIN = """
import json, os, subprocess, sys, time

def init_context(context):
    if os.environ.get("BROKEN"):
        raise RuntimeError("weights are broken")
    context.user_data.count = 0

def handler(context, event):
    body = event.body if isinstance(event.body, dict) else {}
    context.user_data.count += 1
    if body.get("do") == "die":
        os._exit(3)
    if body.get("do") == "raise":
        raise KeyError("secret detail")
    if body.get("do") == "sleep":
        time.sleep(body["seconds"])
    if body.get("do") == "start":
        subprocess.Popen(["sleep", "600"])
    if body.get("do") == "print":
        print("x" * body["length"])
    facts = {
        "pid": os.getpid(), "count": context.user_data.count, "cwd": os.getcwd(), "path": event.path,
        "method": event.method, "option": os.environ.get("OPTION"), "level": os.environ.get("LEVEL"),
        "threads": os.environ.get("THREADS"), "name": os.environ.get("NUCLIO_FUNCTION_NAME"),
        "worker": context.worker_id, "type": type(event.body).__name__,
        "target": event.headers.get("x-nuclio-target"), "path_header": event.headers.get("x-nuclio-path"),
    }
    return context.Response(body=json.dumps(facts), headers={"X-Mark": "1"}, content_type="application/json", status_code=200)
"""

YAML = """
metadata:
  name: {name}
  namespace: cvat
  annotations: {{name: "{name}", type: detector, spec: "[]"}}
spec:
  description: A function of the tests
  runtime: python:3.11
  handler: main:handler
  eventTimeout: 2s
  env: [{{name: OPTION, value: "from yaml"}}]
  triggers:
    http:
      kind: http
      numWorkers: {workers}
      workerAvailabilityTimeoutMilliseconds: 700
      attributes: {{maxRequestBodySize: 100000}}
"""


def make_function(folder: Path, name: str, workers: int = 1) -> Path:
    directory = folder / name
    directory.mkdir()
    (directory / "main.py").write_text(MAIN)
    (directory / "function.yaml").write_text(YAML.format(name=name, workers=workers))
    return directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("functions")


@pytest.fixture(scope="module")
def server(folder: Path):
    make_function(folder, "one")
    make_function(folder, "two", workers=2)
    running = Server(
        *(str(folder / "one"), str(folder / "two"), "opencv-grabcut"),
        *("--env", "two:OPTION=from env", "--env", "LEVEL=2"),
    )
    running.wait_for("Ctrl-C stops everything")
    yield running
    assert running.stop() == 0, running.output


def test_lists_functions_as_cvat_reads_them(server: Server) -> None:
    functions = server.functions()
    assert sorted(functions) == ["one", "opencv-grabcut", "two"]
    for name, function in functions.items():
        assert function["metadata"]["name"] == name
        assert function["metadata"]["annotations"]["type"] in ("detector", "interactor")
        assert function["spec"]["description"]
        assert function["status"]["state"] == "ready"
        assert isinstance(function["status"]["httpPort"], int)
        one = server.client.get(f"/api/functions/{name}").raise_for_status().json()
        assert one == function
    assert len({f["status"]["httpPort"] for f in functions.values()}) == 3


def test_unknown_names_and_paths(server: Server) -> None:
    assert server.client.get("/api/functions/nope").status_code == 404
    assert server.client.get("/api/nope").status_code == 404
    assert server.client.get("/api/nope").json() == {"error": "Not Found"}
    assert server.client.get("/api/functions", headers={"x-nuclio-project-name": "other"}).json() == {}
    reply = server.invoke("nope", {})
    assert reply.status_code == 404
    assert reply.json()["error"] == "Failed to invoke function: Function not found: nope @ nuclio"
    reply = server.client.post("/api/function_invocations", json={})
    assert reply.status_code == 400
    assert reply.json()["error"] == "Function name must be provided"


def test_direct_and_dashboard_reach_the_same_function(server: Server, folder: Path) -> None:
    direct, dashboard = server.direct("one", {"a": 1}), server.invoke("one", {"a": 1})
    assert direct.status_code == dashboard.status_code == 200
    assert direct.headers["content-type"] == dashboard.headers["content-type"] == "application/json"
    assert direct.headers["x-mark"] == "1"
    a, b = direct.json(), dashboard.json()
    assert a["pid"] == b["pid"] == server_pid(server, "one")
    assert b["count"] == a["count"] + 1
    assert a["cwd"] == str((folder / "one").resolve())
    assert a["name"] == "one"
    assert a["type"] == "dict"
    assert (a["target"], b["target"]) == (None, "one")
    assert b["path_header"] == "/"  # Nuclio's dashboard hands on the headers that it was given


def test_environment_comes_from_function_yaml_and_options(server: Server) -> None:
    assert server.direct("one", {}).json()["option"] == "from yaml"
    assert server.direct("two", {}).json()["option"] == "from env"
    assert server.direct("one", {}).json()["level"] == server.direct("two", {}).json()["level"] == "2"


def test_path_method_and_odd_content_types_reach_the_handler(server: Server) -> None:
    port = server.functions()["one"]["status"]["httpPort"]
    reply = server.client.put(
        f"http://127.0.0.1:{port}/some/path", content=b"{}", headers={"content-type": "text/plain"}
    )
    assert (reply.json()["path"], reply.json()["method"], reply.json()["type"]) == ("/some/path", "PUT", "bytes")
    assert server.client.get(f"http://127.0.0.1:{port}/__internal/health").status_code == 200


def test_as_many_workers_as_function_yaml_says(server: Server) -> None:
    with httpx.Client(timeout=30, trust_env=False) as client:
        port = server.functions()["two"]["status"]["httpPort"]
        replies: list[dict] = []
        threads = [
            threading.Thread(
                target=lambda: replies.append(
                    client.post(f"http://127.0.0.1:{port}/", json={"do": "sleep", "seconds": 0.4}).json()
                )
            )
            for _ in range(2)
        ]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {r["worker"] for r in replies} == {0, 1}
    assert len({r["pid"] for r in replies}) == 2
    assert time.monotonic() - begin < 0.79  # side by side, not one after the other


def test_no_free_worker_is_503(server: Server) -> None:
    with httpx.Client(timeout=30, trust_env=False) as client:
        port = server.functions()["one"]["status"]["httpPort"]
        busy = threading.Thread(
            target=lambda: client.post(f"http://127.0.0.1:{port}/", json={"do": "sleep", "seconds": 1.5})
        )
        busy.start()
        time.sleep(0.2)
        reply = server.direct("one", {})
        busy.join()
    assert reply.status_code == 503
    assert "no worker was free within 0.7 s" in reply.json()["error"]
    assert server.direct("one", {}).status_code == 200


def test_a_body_over_the_limit_is_400_and_reaches_no_worker(server: Server) -> None:
    before = server.direct("one", {}).json()["count"]
    reply = server.direct("one", {"image": "A" * 100000})
    assert reply.status_code == 400
    assert "larger than 100000 bytes" in reply.json()["error"]
    assert server.direct("one", {}).json()["count"] == before + 1


@pytest.mark.parametrize("route", ["the function's own port", "the dashboard API"])
def test_the_text_of_an_error_is_the_reason_phrase(server: Server, route: str) -> None:
    headers = {"Content-Type": "application/json"}
    if route == "the dashboard API":
        port, path = server.port, "/api/function_invocations"
        headers |= {"x-nuclio-function-name": "opencv-grabcut", "x-nuclio-path": "/"}
    else:
        port, path = server.functions()["opencv-grabcut"]["status"]["httpPort"], "/"
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("POST", path, b'{"image": 5}', headers)
    response = client.getresponse()
    error = json.loads(response.read())["error"]
    assert (response.status, response.reason) == (400, error)
    client.request("GET", "/__internal/health" if path == "/" else "/health")
    assert client.getresponse().reason == "OK"
    client.close()
    # CVAT calls raise_for_status of `requests` and shows its text.
    with requests.Session() as session:
        session.trust_env = False
        refused = session.post(f"http://127.0.0.1:{port}{path}", data=b'{"image": 5}', headers=headers, timeout=30)
    with pytest.raises(requests.HTTPError, match=re.escape(f"400 Client Error: {error} for url: ")):
        refused.raise_for_status()


def test_what_is_meant_for_another_function_is_421(server: Server) -> None:
    port = server.functions()["opencv-grabcut"]["status"]["httpPort"]
    reply = server.client.post(f"http://127.0.0.1:{port}/", json={}, headers={"X-Nuclio-Target": "one"})
    assert reply.status_code == 421
    assert reply.json()["error"].startswith("this is opencv-grabcut, and the request is for one: ")


def test_a_handler_that_raises_keeps_its_process_and_its_secrets(server: Server) -> None:
    before = server.direct("one", {}).json()["pid"]
    reply = server.direct("one", {"do": "raise"})
    assert reply.status_code == 500
    assert "KeyError" in reply.json()["error"]
    assert "secret detail" not in reply.text
    assert server.direct("one", {}).json()["pid"] == before


def test_a_worker_that_dies_is_replaced_and_the_others_never_notice(server: Server) -> None:
    others = server.direct("two", {}).json()["pid"], server_pid(server, "opencv-grabcut")
    before = server.direct("one", {}).json()["pid"]
    reply = server.direct("one", {"do": "die"})
    assert reply.status_code == 502
    assert "died during the request" in reply.json()["error"]
    after = retry(lambda: server.direct("one", {}))
    assert after.json()["pid"] != before
    assert after.json()["count"] == 1
    assert psutil.pid_exists(others[0])
    assert server_pid(server, "opencv-grabcut") == others[1]


def test_a_worker_that_dies_is_replaced_though_what_it_has_started_holds_its_output_open(server: Server) -> None:
    before = server.direct("one", {"do": "start"}).json()["pid"]
    assert server.direct("one", {"do": "die"}).status_code == 502
    assert retry(lambda: server.direct("one", {})).json()["pid"] != before


def test_a_worker_killed_from_outside_while_it_serves(server: Server) -> None:
    pid = server.direct("one", {}).json()["pid"]
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    reply = server.invoke("one", {"do": "sleep", "seconds": 1.5})
    assert reply.status_code == 502
    assert set(reply.json()) == {"error"}
    assert retry(lambda: server.direct("one", {})).json()["pid"] != pid


def test_a_worker_that_died_while_idle_gets_one_request_at_a_time(server: Server) -> None:
    before = server.direct("one", {}).json()["pid"]
    os.kill(before, signal.SIGKILL)
    port = server.functions()["one"]["status"]["httpPort"]
    # Restarted before anyone asks for it: its place among the idle ones is still there then.
    server.wait_for(f"worker process {before} ended")
    deadline = time.monotonic() + 30
    while server.functions()["one"]["status"]["state"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    replies: list[httpx.Response] = []

    def ask() -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            replies.append(client.post(f"http://127.0.0.1:{port}/", json={"do": "sleep", "seconds": 0.2}))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reply.status_code for reply in replies] == [200, 200, 200], [reply.text for reply in replies]
    assert sorted(reply.json()["count"] for reply in replies) == [1, 2, 3]


def test_a_request_over_its_time_is_408_and_the_worker_starts_again(server: Server) -> None:
    pid = server.direct("one", {}).json()["pid"]
    reply = server.direct("one", {"do": "sleep", "seconds": 30})
    assert reply.status_code == 408
    assert "no answer within 2 s" in reply.json()["error"]
    assert retry(lambda: server.direct("one", {})).json()["pid"] != pid


def test_long_lines_in_the_log_block_nothing(server: Server) -> None:
    assert server.direct("one", {"do": "print", "length": 3_000_000}).status_code == 200
    assert server.direct("one", {}).status_code == 200


def test_a_thousand_bad_requests_leave_the_worker_as_it_is(server: Server) -> None:
    pid = server_pid(server, "opencv-grabcut")
    port = server.functions()["opencv-grabcut"]["status"]["httpPort"]
    url = f"http://127.0.0.1:{port}/"
    picture = base64.b64encode((ROOT / "tools/demo/cat_mug.jpg").read_bytes()).decode()
    bad = [
        b"",
        b"not json",
        b"[1, 2]",
        b"{}",
        b'{"image": 5}',
        b'{"image": "#"}',
        json.dumps({"image": base64.b64encode(b"no image").decode(), "pos_points": [[1, 1]]}).encode(),
        json.dumps({"image": picture[:20000], "pos_points": [[1, 1]]}).encode(),
        json.dumps({"image": picture, "pos_points": [[1, "x"]]}).encode(),
        json.dumps({"image": picture[:400]}).encode(),
    ]
    for i in range(1000):
        body = bad[i % len(bad)]
        reply = server.client.post(url, content=body, headers={"content-type": "application/json"})
        assert reply.status_code == 400, (body[:80], reply.text)
        assert list(reply.json()) == ["error"]
    good = server.client.post(url, json={"image": picture, "obj_bbox": [[58, 180], [308, 355]], "pos_points": []})
    assert good.status_code == 200
    assert server_pid(server, "opencv-grabcut") == pid
    assert picture[100:200] not in server.output


def test_health_and_page(server: Server) -> None:
    assert server.client.get("/health").json() == {
        "healthy": True,
        "functions": {"one": "ready", "two": "ready", "opencv-grabcut": "ready"},
    }
    page = server.client.get("/").text
    assert "opencv-grabcut" in page
    assert "GrabCut" in page


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_leaves_no_process(tmp_path: Path, number: int) -> None:
    server = Server(str(make_function(tmp_path, "two", workers=2)))
    server.wait_for("Ctrl-C stops everything")
    server.direct("two", {"do": "start"})
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert len(children) == 3  # two workers, and what one of them has started
    busy = threading.Thread(target=lambda: suppressed_post(server, "two", {"do": "sleep", "seconds": 1.5}))
    busy.start()
    time.sleep(0.2)
    assert server.stop(number) == 0
    busy.join()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert server.output.rstrip().endswith("Stopped.")


def test_workers_end_when_the_server_is_killed(tmp_path: Path) -> None:
    server = Server(str(make_function(tmp_path, "one")))
    server.wait_for("Ctrl-C stops everything")
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert len(gone) == 1
    assert not alive


def test_a_function_that_cannot_start_says_so_and_the_others_serve(tmp_path: Path) -> None:
    one, bad = make_function(tmp_path, "one"), make_function(tmp_path, "bad")
    server = Server(str(one), str(bad), "--env", "bad:BROKEN=1")
    try:
        server.wait_for("bad could not start: RuntimeError: weights are broken")
        assert server.functions()["bad"]["status"]["state"] == "error"
        reply = server.direct("bad", {})
        assert reply.status_code == 503
        assert "weights are broken" in reply.json()["error"]
        assert server.direct("one", {}).status_code == 200
        assert server.client.get("/health").status_code == 503
    finally:
        server.stop()


def test_a_port_in_use_is_a_clear_message(tmp_path: Path) -> None:
    directory = make_function(tmp_path, "one")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "tools.serve", str(directory), "--port", str(port)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert f"port {port} is in use on 127.0.0.1" in ended.stderr
    assert "--port NUMBER" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such/function"], "no/such/function: there is no such function"),
        (["opencv-grabcut", "--env", "OPTION"], "--env: expected NAME=VALUE"),
        (["opencv-grabcut", "--workers", "0"], "expected 1 or more"),
        (["opencv-grabcut", "--port", "99999"], "argument --port: expected 0 to 65535, got 99999"),
        (["opencv-grabcut", "--first-port", "-1"], "argument --first-port: expected 0 to 65535, got -1"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "tools.serve", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def serve(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command with arguments that it refuses."""
    command = [sys.executable, "-m", "tools.serve", "--port", "0", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("function", ["opencv/grabcut", "opencv-grabcut", str(ROOT / "serverless/opencv/grabcut")])
def test_an_option_of_one_function_is_set_by_its_name_and_by_its_path(function: str) -> None:
    wrong = serve("opencv/grabcut", "--env", f"{function}:ITERATIONZ=3")
    assert wrong.returncode == 2
    assert "--env: opencv-grabcut does not know the option ITERATIONZ; did you mean ITERATIONS?" in wrong.stderr
    server = Server("opencv/grabcut", "--env", f"{function}:ITERATIONS=none")
    try:
        server.wait_for("opencv-grabcut could not start: ITERATIONS: expected a whole number, got the text 'none'")
    finally:
        server.stop()


def test_a_function_set_by_its_path_outside_the_collection(tmp_path: Path) -> None:
    one, two = make_function(tmp_path, "one"), make_function(tmp_path, "two")
    server = Server(str(one), str(two), "--env", f"{two}:OPTION=by path")
    try:
        server.wait_for("Ctrl-C stops everything")
        assert server.direct("two", {}).json()["option"] == "by path"
        assert server.direct("one", {}).json()["option"] == "from yaml"
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("TRESHOLD=0.4", "no function here knows the option TRESHOLD; did you mean THRESHOLD?"),
        ("threshold=0.4", "no function here knows the option threshold; did you mean THRESHOLD?"),
        ("THREAD=2", "no function here knows the option THREAD; did you mean THREADS?"),
        ("SEARCH_RANGES=3", "no function here knows the option SEARCH_RANGES; did you mean SEARCH_RANGE?"),
        ("OVERLAP=1", "no function here knows the option OVERLAP"),
        ("opencv-grabcat:MAX_SIDE=3", "opencv-grabcat is not among the functions to be served; did you mean opencv-grabcut?"),
        ("opencv/grabcat:MAX_SIDE=3", "opencv/grabcat is not among the functions to be served; did you mean opencv/grabcut?"),
        ("nothing:MAX_SIDE=3", "nothing is not among the functions to be served: expected one of opencv-grabcut, "),
        ("onnx/yolo/shapes:THRESHOLD=3", "onnx/yolo/shapes is not among the functions to be served"),
        ("opencv-grabcut:SEARCH_RANGE=3", "opencv-grabcut does not know the option SEARCH_RANGE"),
    ],
)  # fmt: skip
def test_wrong_settings_are_errors_with_the_nearest_right_name(setting: str, message: str) -> None:
    functions = [
        FunctionConfig.load(COLLECTION / f"opencv/{name}") for name in ("grabcut", "opticalflow", "appearance")
    ]
    with pytest.raises(StartupError, match=re.escape(f"--env: {message}")):
        parse_settings([setting], functions)


@pytest.mark.parametrize(
    "setting",
    ["THREADS=1", "MAX_IMAGE_PIXELS=1000000", "OMP_NUM_THREADS=1", "PYTHONPATH=/x", "CVAT_FUNCTIONS_REDIS_HOST=",
     "DEVICE=cpu", "MAX_DISTANCE=3", "THRESHOLD=a=b:c", "ITERATIONS=2"],
)  # fmt: skip
def test_options_of_handlers_kinds_libraries_and_the_runtime_are_known(setting: str) -> None:
    functions = [FunctionConfig.load(COLLECTION / f"opencv/{name}") for name in ("grabcut", "appearance")]
    name, _, value = setting.partition("=")
    assert parse_settings([setting], functions).of(functions[0].directory) == {name: value}


def test_options_of_a_function_without_common_are_those_that_its_files_name(tmp_path: Path) -> None:
    function = FunctionConfig.load(make_function(tmp_path, "one"))
    assert parse_settings(["one:BROKEN=1"], [function]).of(function.directory) == {"BROKEN": "1"}
    with pytest.raises(StartupError, match=r"one does not know the option BROKE; did you mean BROKEN\?"):
        parse_settings(["one:BROKE=1"], [function])
    style = FunctionConfig.load(ROOT / "tests/sample_functions/cvat_style")
    with pytest.raises(StartupError, match=r"cvat-style does not know the option SOMETHING$"):
        parse_settings(["cvat-style:SOMETHING=1"], [style])


@pytest.mark.parametrize("workers", [1, 2])
def test_threads_are_the_cores_divided_by_the_workers_asked_for(tmp_path: Path, workers: int) -> None:
    directory = make_function(tmp_path, "two", workers=2)
    cores = int(available_cores())
    environment = {name: value for name, value in os.environ.items() if name != "THREADS"}
    server = Server(str(directory), "--workers", str(workers), environment=environment)
    try:
        server.wait_for("Ctrl-C stops everything")
        assert server.direct("two", {}).json()["threads"] == str(max(1, cores // workers))
    finally:
        server.stop()


def test_a_table_names_what_functions_lack(tmp_path: Path) -> None:
    directory = make_function(tmp_path, "one")
    (directory / "requirements.txt").write_text("# a comment\nno-such-package==1.0\nnumpy==1.0\n")
    ended = serve(str(directory))
    assert ended.returncode == 2
    assert (
        "Not served:\nFUNCTION  LACKS                     TO DOWNLOAD\none       packages no-such-package\n"
        in ended.stderr
    )
    assert f"-m pip install --no-deps -r {directory}/requirements.txt" in ended.stderr


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ([], 'With weights of your own: make serve FUNCTIONS=one ARGS="--env MODEL_PATH=/path/to/them"'),
        (["--env", "MODEL_PATH=models"], "one/models (a relative path starts at the function's directory); mount"),
        (["--env", "MODEL_PATH=/models"], "one: MODEL_PATH: there is no /models; mount"),
    ],
    ids=str,
)
def test_a_path_that_does_not_exist_is_named(tmp_path: Path, given: list[str], reported: str) -> None:
    directory = make_function(tmp_path, "one")
    file = directory / "function.yaml"
    option = '{name: OPTION, value: "from yaml"}'
    text = file.read_text()
    assert option in text
    file.write_text(text.replace(option, "{name: MODEL_PATH, value: /nowhere/weights}"))
    ended = serve(str(directory), *given)
    assert ended.returncode == 2 and reported in ended.stderr
    assert ("weights of your own (MODEL_PATH)" in ended.stderr) == (not given)


@pytest.fixture
def weights_server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def with_weights(directory: Path, url: str) -> Path:
    (directory / "weights.yaml").write_text(f"variants: {{small: {{files: [{{path: small.bin, url: '{url}'}}]}}}}")
    return directory


def test_a_function_that_is_named_fetches_its_weights_at_start(tmp_path: Path, weights_server: FileServer) -> None:
    directory = with_weights(make_function(tmp_path, "one"), weights_server.url)
    weights_server.cuts = 1
    server = Server(str(directory))
    try:
        server.wait_for("Ctrl-C stops everything")
        assert "Fetching the weights of one:" in server.output
        assert (directory / "weights/small/small.bin").read_bytes() == weights_server.content
        assert weights_server.asked == [None, f"bytes={CUT}-"]
    finally:
        assert server.stop() == 0


def test_offline_nothing_is_fetched_at_start(tmp_path: Path, weights_server: FileServer) -> None:
    directory = with_weights(make_function(tmp_path, "one"), weights_server.url)
    ended = serve(str(directory), OFFLINE="1")
    assert ended.returncode == 2
    assert "one       weights small  size unknown\n\nFetch the weights: make weights FUNCTIONS=" in ended.stderr
    assert "not all functions that were named can be served; OFFLINE is set: no weights were fetched" in ended.stderr
    assert weights_server.asked == []
    assert not (directory / "weights").exists()


@pytest.mark.parametrize(("text", "seconds"), [(".5s", "0.5"), ("+30s", "30"), ("100us", "0.0001")])
def test_event_timeouts_as_go_writes_them(text: str, seconds: str, tmp_path: Path) -> None:
    directory = make_function(tmp_path, "one")
    path = directory / "function.yaml"
    path.write_text(path.read_text().replace("eventTimeout: 2s", f"eventTimeout: {text}"))
    server = Server(str(directory))
    try:
        server.wait_for("Ctrl-C stops everything.")
        reply = server.direct("one", {"do": "sleep", "seconds": 1})
        if float(seconds) < 1:
            assert (reply.status_code, reply.json()["error"].partition(";")[0]) == (
                408,
                f"one: no answer within {seconds} s (eventTimeout)",
            )
        else:
            assert reply.status_code == 200
    finally:
        server.stop()


def test_a_limit_that_is_no_number_names_the_field(tmp_path: Path) -> None:
    directory = make_function(tmp_path, "one")
    path = directory / "function.yaml"
    path.write_text(path.read_text().replace("maxRequestBodySize: 100000", "maxRequestBodySize: 32 MB"))
    with pytest.raises(
        StartupError, match=r"maxRequestBodySize of the http trigger: expected a whole number, got .*32 MB"
    ):
        Limits.load(directory)


@pytest.mark.parametrize("text", ["30", "0s", "-1s", "300000000h"])
def test_event_timeouts_that_nuclio_refuses(text: str, tmp_path: Path) -> None:
    directory = make_function(tmp_path, "one")
    path = directory / "function.yaml"
    path.write_text(path.read_text().replace("eventTimeout: 2s", f"eventTimeout: {text}"))
    command = [sys.executable, "-m", "tools.serve", str(directory)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "spec.eventTimeout: expected a " in ended.stderr
    assert "Traceback" not in ended.stderr


def server_pid(server: Server, name: str) -> int:
    """The process of a function with one worker, or the first of several, by its command line."""
    for child in psutil.Process(server.process.pid).children(recursive=True):
        if child.cwd().endswith(name.removeprefix("opencv-")):
            return child.pid
    raise AssertionError(f"no worker of {name}")


def retry(call, seconds: float = 20) -> httpx.Response:
    deadline = time.monotonic() + seconds
    while True:
        reply = call()
        if reply.status_code == 200 or time.monotonic() > deadline:
            assert reply.status_code == 200, reply.text
            return reply
        time.sleep(0.05)


def suppressed_post(server: Server, name: str, body: object) -> None:
    with contextlib.suppress(httpx.HTTPError, RuntimeError):
        server.direct(name, body)
