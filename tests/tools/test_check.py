"""tools.check tries functions in a process of their own: good ones pass, and each way to fail has its finding."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tools.check import Finding, check_function, inspect_function
from tools.check import run as run_module
from tools.check.__main__ import main

CASES = Path(__file__).parent / "check_cases"
ROOT = Path(__file__).resolve().parents[2]
KINDS = ("detector", "interactor", "tracker", "reid")

# A handler that goes wrong in one place, between what Nuclio gives and what the shared code answers.
MAIN = """\
import json, os, signal, sys, time
from common.serving import nuclio


def init_context(context):
    nuclio.start(context, __file__)


def handler(context, event):
    response = nuclio.answer(context, event)
    good = response.status_code == 200
    {code}
    return response
"""


def copy_of(kind: str, folder: Path) -> Path:
    return Path(shutil.copytree(CASES / kind, folder / kind))


def with_code(code: str, folder: Path, kind: str = "detector") -> Path:
    directory = copy_of(kind, folder)
    (directory / "main.py").write_text(MAIN.format(code=textwrap.indent(textwrap.dedent(code), "    ").strip()))
    return directory


def with_main(source: str, folder: Path, kind: str = "detector") -> Path:
    directory = copy_of(kind, folder)
    (directory / "main.py").write_text(textwrap.dedent(source))
    return directory


def rules(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.severity, finding.rule) for finding in findings}


def find(findings: list[Finding], rule: str) -> Finding:
    return next(finding for finding in findings if finding.rule == rule)


# How many requests each kind is tried with: a change of this is a change of what is checked.
@pytest.mark.parametrize(("kind", "requests"), [("detector", 22), ("interactor", 27), ("tracker", 50), ("reid", 27)])
def test_a_good_function_has_no_findings(kind: str, requests: int) -> None:
    report = inspect_function(CASES / kind)
    assert report.findings == []
    assert report.trial is not None
    assert report.trial.finished
    assert report.trial.requests == requests
    assert (report.name, report.kind) == (f"check-{kind}", kind)


def test_the_grabcut_function_keeps_every_rule() -> None:
    assert check_function(ROOT / "serverless" / "opencv" / "grabcut") == []


def test_a_tracker_of_the_old_interface_is_good_too(tmp_path: Path) -> None:
    directory = copy_of("tracker", tmp_path)
    path = directory / "function.yaml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "supported_shape_types" not in line))
    report = inspect_function(directory)
    assert report.findings == []
    assert report.trial is not None
    assert report.trial.requests < 50


DETECTOR = [
    ("return json.loads(response.body) if good else response", {("error", "run.returns-list")}),
    ("response.body = json.loads(response.body) if good else response.body", {("error", "reply.json")}),
    ("response.content_type = 'text/plain'", {("warning", "reply.content-type")}),
    ("response.body = response.body.replace('disc', 'disk')", {("error", "reply.label")}),
    ("response.body = response.body.replace('\"0.7000\"', 'NaN')", {("error", "reply.json"), ("warning", "reply.confidence")}),
    ("response.status_code = 200", {("error", "refusal.status")}),
    ("response.status_code = 500 if not good else 200", {("error", "refusal.status")}),
    ("response.body = 'no' if not good else response.body", {("error", "refusal.form")}),
    ("context.logger.info('x' * 150_000)", {("error", "run.log-size")}),
    ("context.logger.info_with('asked', body=str(event.body))", {("error", "run.log-image")}),
    ("sys.exit(1) if not good else 0", {("error", "refusal.status"), ("error", "reply.traceback")}),
    (
        "response.body = json.dumps({'error': 'Traceback (most recent call last): x'}) if not good else response.body",
        {("error", "reply.traceback")},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), DETECTOR)
def test_a_detector_that_goes_wrong(code: str, expected: set[tuple[str, str]], tmp_path: Path) -> None:
    assert rules(check_function(with_code(code, tmp_path))) == expected


def test_an_exception_in_the_handler_is_seen_as_nuclio_answers_it(tmp_path: Path) -> None:
    report = inspect_function(with_code("raise RuntimeError('the disk is full')", tmp_path))
    assert rules(report.findings) == {
        ("error", "reply.status"),
        ("error", "reply.traceback"),
        ("error", "refusal.status"),
    }
    assert "the disk is full" in find(report.findings, "reply.status").got
    assert report.trial is not None
    assert report.trial.finished  # the worker lives on, as under Nuclio


def test_a_body_that_is_read_as_json_only_in_one_case(tmp_path: Path) -> None:
    source = """\
    from common.serving import nuclio

    def init_context(context):
        nuclio.start(context, __file__)

    def handler(context, event):
        event.body["image"]
        return nuclio.answer(context, event)
    """
    findings = check_function(with_main(source, tmp_path))
    assert find(findings, "reply.status").request == "a content type with a charset"


def test_a_function_that_breaks_on_bad_requests_is_seen(tmp_path: Path) -> None:
    code = """
    if not good:
        context.user_data.broken = True
    elif hasattr(context.user_data, "broken"):
        response.body = "[1]"
    """
    findings = check_function(with_code(code, tmp_path))
    assert [(finding.rule, finding.request) for finding in findings] == [
        ("reply.form", "an image, after the bad requests")
    ]


def test_the_same_finding_for_several_requests_is_one(tmp_path: Path) -> None:
    (finding,) = check_function(with_code("response.body = response.body.replace('disc', 'disk')", tmp_path))
    assert (
        finding.request
        == "an image; a threshold of 0.5; a content type with a charset; a PNG with transparency; and 6 more"
    )
    assert (finding.file, finding.field) == ("main.py", "reply[0].label")


def test_a_function_that_hangs_is_ended(tmp_path: Path) -> None:
    report = inspect_function(
        with_code("print('waiting for a lock', flush=True) or time.sleep(600)", tmp_path), timeout=0.5
    )
    (finding,) = report.findings
    assert (finding.rule, finding.field) == ("run.hangs", "a request with an image")
    assert "0.5 s" in finding.expected
    assert "waiting for a lock" in finding.remedy
    assert report.trial is not None
    assert not report.trial.finished


def test_the_time_limit_is_the_event_timeout(tmp_path: Path) -> None:
    directory = with_code("time.sleep(600)", tmp_path)
    path = directory / "function.yaml"
    path.write_text(path.read_text().replace("eventTimeout: 30s", "eventTimeout: 200ms"))
    assert "0.2 s (eventTimeout)" in find(check_function(directory), "run.hangs").expected


@pytest.mark.parametrize(
    ("code", "end"),
    [("os._exit(3)", "exit status 3"), ("os.kill(os.getpid(), signal.SIGSEGV)", "signal SIGSEGV")],
)
def test_a_function_that_dies_comes_with_its_exit_status(code: str, end: str, tmp_path: Path) -> None:
    (finding,) = check_function(with_code(code, tmp_path))
    assert finding.rule == "run.dies"
    assert end in finding.got


def test_a_function_that_dies_of_one_bad_request_names_it(tmp_path: Path) -> None:
    (finding,) = check_function(with_code("good or b'trunc' in response.body.encode() and os._exit(1)", tmp_path))
    assert (finding.rule, finding.field) == ("run.dies", "a request with a truncated image")


def test_no_process_is_left(tmp_path: Path) -> None:
    code = f"""
    import subprocess
    child = subprocess.Popen(["sleep", "600"])
    open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
    time.sleep(600)
    """
    inspect_function(with_code(code, tmp_path), timeout=1)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10  # a killed process is gone a moment later
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- the start


def test_heavy_imports_at_the_top_are_a_warning(tmp_path: Path) -> None:
    (finding,) = check_function(with_main("import cv2\n" + (CASES / "detector" / "main.py").read_text(), tmp_path))
    assert (finding.severity, finding.rule) == ("warning", "run.heavy-import")
    assert "cv2" in finding.got


def test_slow_imports_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SLOW_IMPORT", 0.3)
    source = "import time\ntime.sleep(0.5)\n" + (CASES / "detector" / "main.py").read_text()
    (finding,) = check_function(with_main(source, tmp_path))
    assert (finding.severity, finding.rule) == ("warning", "run.slow-import")


def test_a_missing_package_comes_with_the_command_that_installs_it(tmp_path: Path) -> None:
    directory = with_main("import torchvisionx.models\n" + (CASES / "detector" / "main.py").read_text(), tmp_path)
    (directory / "requirements.txt").write_text("torchvisionx==1.0\n")
    (finding,) = check_function(directory)
    assert finding.rule == "run.missing-package"
    assert "the package torchvisionx" in finding.expected
    assert "main.py:1" in finding.got
    assert finding.remedy == f"pip install --no-deps -r {directory / 'requirements.txt'}"


def test_a_missing_package_of_a_foreign_function_is_looked_up_in_its_build(tmp_path: Path) -> None:
    directory = with_main("import torchvisionx\n" + (CASES / "detector" / "main.py").read_text(), tmp_path)
    path = directory / "function.yaml"
    value = "apt-get update && pip3 install torchvisionx==1.0 && ls"
    path.write_text(path.read_text().replace("pip install --no-cache-dir -r /opt/nuclio/requirements.txt", value))
    assert find(check_function(directory), "run.missing-package").remedy == "spec.build installs torchvisionx==1.0"


START = """\
from common.errors import StartupError
from common.networks.weights import locate
from common.config import FunctionConfig
from pathlib import Path


def init_context(context):
    {code}


def handler(context, event):
    return context.Response(body="[]", content_type="application/json")
"""


@pytest.mark.parametrize(
    ("code", "rule", "field", "got"),
    [
        ("raise RuntimeError('no such device')", "run.raises", "init_context is called", "RuntimeError: no such device (main.py:8)"),
        ("raise StartupError('DEVICE: expected cpu')", "run.start", "init_context is called", "DEVICE: expected cpu"),
        ("open('weights.pth')", "run.missing-file", "weights.pth", "FileNotFoundError: [Errno 2] No such file or directory: 'weights.pth' (main.py:8)"),
        ("raise SystemExit(2)", "run.raises", "init_context is called", "SystemExit: 2 (main.py:8)"),
        ("import nosuchpackage", "run.missing-package", "import", "ModuleNotFoundError: No module named 'nosuchpackage' (main.py:8)"),
    ],
)  # fmt: skip
def test_a_function_that_does_not_start(code: str, rule: str, field: str, got: str, tmp_path: Path) -> None:
    (finding,) = check_function(with_main(START.format(code=code), tmp_path))
    assert (finding.severity, finding.rule, finding.field, finding.got) == ("error", rule, field, got)


def test_missing_weights_come_with_their_remedy(tmp_path: Path) -> None:
    directory = with_main(START.format(code="locate(FunctionConfig.load(Path(__file__).parent))"), tmp_path)
    catalog = "variants:\n  tiny:\n    files:\n      - path: tiny.onnx\n        url: https://example.com/tiny.onnx\n"
    (directory / "weights.yaml").write_text(catalog)
    (finding,) = check_function(directory)
    assert finding.rule == "run.missing-weights"
    assert "python -m common.networks.weights" in finding.got


def test_a_module_that_raises_while_it_is_imported(tmp_path: Path) -> None:
    (finding,) = check_function(with_main("1 / 0\n" + START.format(code="pass"), tmp_path))
    assert (finding.rule, finding.field) == ("run.raises", "its module is imported")
    assert "ZeroDivisionError" in finding.got


def test_a_decorator_that_hides_init_context(tmp_path: Path) -> None:
    source = """\
    from decorators import logged


    def init_context(context): ...


    @logged
    def handler(context, event): ...
    """
    directory = with_main(source, tmp_path)
    decorators = "def logged(function):\n    def inner(context, event):\n        return function(context, event)\n    return inner\n"
    (directory / "decorators.py").write_text(decorators)
    assert ("error", "run.init-context") in rules(check_function(directory))


def test_a_start_that_hangs(tmp_path: Path) -> None:
    directory = with_main(START.format(code="import time; time.sleep(600)"), tmp_path)
    path = directory / "function.yaml"
    path.write_text(path.read_text().replace("readinessTimeoutSeconds: 60", "readinessTimeoutSeconds: 1"))
    (finding,) = check_function(directory)
    assert (finding.rule, finding.field) == ("run.hangs", "init_context")
    assert "readinessTimeoutSeconds" in finding.expected


# --- other kinds


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        ("interactor", "response.body = response.body.replace('\"bounds\"', '\"box\"')", {("error", "reply.mask")}),
        ("tracker", "response.body = json.dumps({**json.loads(response.body), 'states': []}) if good else response.body", {("error", "reply.length")}),
        ("tracker", "response.body = json.dumps({**json.loads(response.body), 'shapes': [[1, 2, 3, 4]]}) if good else response.body", {("error", "reply.shape"), ("error", "reply.length")}),
        ("reid", "response.body = '[0, 0, 0, 0]' if good else response.body", {("error", "reply.index"), ("error", "reply.pair")}),
        ("reid", "response.body = '[]' if good else response.body", {("error", "reply.length")}),
    ],
)  # fmt: skip
def test_other_kinds_that_go_wrong(kind: str, code: str, expected: set[tuple[str, str]], tmp_path: Path) -> None:
    assert rules(check_function(with_code(code, tmp_path, kind))) == expected


def test_states_that_are_too_large_are_a_warning(tmp_path: Path) -> None:
    directory = copy_of("tracker", tmp_path)
    path = directory / "model_handler.py"
    assert "return [shape.type," in path.read_text()
    path.write_text(path.read_text().replace("return [shape.type,", "return [shape.type, *self._ballast(),"))
    path.write_text(path.read_text().replace("kind, points = state", "kind, _, points = state"))
    path.write_text(
        path.read_text()
        + "\n    def _ballast(self) -> list[bytes]:\n        return [np.random.default_rng(1).bytes(60_000)]\n"
    )
    assert rules(check_function(directory)) == {("warning", "reply.state")}


def test_a_tracker_that_answers_null_for_a_lost_object_is_a_warning(tmp_path: Path) -> None:
    directory = copy_of("tracker", tmp_path)
    path = directory / "model_handler.py"
    path.write_text(
        path.read_text().replace(
            "def prepare(self, image: np.ndarray) -> None:\n        return None",
            "def prepare(self, image):\n        return image",
        )
    )
    # The disc is bright, and in the last image it is gone.
    path.write_text(
        path.read_text().replace(
            "return _MAKERS[kind](points), state",
            "return (_MAKERS[kind](points) if (frame[60:] > 170).sum() > 500 else None), state",
        )
    )
    assert check_function(directory) == []
    (finding,) = inspect_function(directory, environment={"LOST": "null"}).findings
    assert (finding.severity, finding.rule, finding.field) == ("warning", "reply.lost", "reply.shapes[0]")
    assert finding.request == "step 1 of a rectangle that disappears"


# --- the function's own surroundings


def test_a_misspelt_option_comes_with_the_nearest_known_one(tmp_path: Path) -> None:
    directory = copy_of("tracker", tmp_path)
    path = directory / "function.yaml"
    path.write_text(path.read_text().replace("name: GREETING\n", "name: THREAD\n"))
    findings = inspect_function(directory, environment={"LOTS": "null", "SOMETHING_ELSE": "1"}).findings
    assert [(f.severity, f.rule, f.file, f.field, f.got, f.remedy) for f in findings] == [
        ("warning", "env.unknown", "function.yaml", "spec.env[0].name", "THREAD", "did you mean THREADS?"),
        ("warning", "env.unknown", "function.yaml", "--env LOTS", "LOTS", "did you mean LOST?"),
    ]


def test_a_function_runs_in_its_directory_with_its_own_environment_and_modules(tmp_path: Path) -> None:
    source = """\
    import os
    from pathlib import Path

    import common

    assert Path.cwd() == Path(__file__).parent
    assert os.environ["GREETING"] == "1"
    assert os.environ["NUCLIO_FUNCTION_NAME"] == "check-detector"
    assert common.MINE


    def init_context(context): ...


    def handler(context, event):
        return context.Response(body="[]", content_type="application/json")
    """
    directory = with_main(source, tmp_path)
    (directory / "common.py").write_text("MINE = True\n")
    assert rules(check_function(directory)) == {("error", "refusal.status")}  # it started, and refuses nothing
    findings = inspect_function(directory, environment={"GREETING": "2"}).findings
    assert find(findings, "run.raises").got == "AssertionError (main.py:7)"


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    directory = with_code("tempfile.mkstemp(prefix='left-behind')", tmp_path)
    path = directory / "main.py"
    path.write_text("import tempfile\n" + path.read_text())
    before = sorted(directory.iterdir())
    assert check_function(directory) == []
    assert sorted(directory.iterdir()) == before
    assert not list(Path(tempfile.gettempdir()).glob("left-behind*"))


def test_what_a_function_prints_stays_out_of_the_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert check_function(with_code("print('to standard output'); os.write(2, b'to standard error')", tmp_path)) == []
    assert capfd.readouterr() == ("", "")


def test_a_function_that_can_not_be_read_is_not_run(tmp_path: Path) -> None:
    directory = copy_of("detector", tmp_path)
    path = directory / "function.yaml"
    path.write_text(path.read_text().replace("handler: main:handler", "handler: other:handler"))
    report = inspect_function(directory)
    assert report.trial is None
    assert report.not_run == "the errors above come first"


# --- the command


def test_the_command_says_that_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(CASES / "detector")]) == 0
    text = capsys.readouterr().out
    assert "detector check-detector · no findings" in text
    assert "answered 22 requests" in text
    assert text.endswith("1 function checked: no findings\n")


def test_warnings_alone_end_with_0_and_errors_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = copy_of("detector", tmp_path)
    path = directory / "function.yaml"
    path.write_text(path.read_text().replace("numWorkers", "maxWorkers"))
    assert main(["--no-run", str(directory)]) == 0
    assert "1 function checked: 1 warning" in capsys.readouterr().out
    path.write_text(path.read_text().replace("eventTimeout: 30s", "eventTimeout: 30"))
    assert main(["--no-run", str(directory)]) == 1
    text = capsys.readouterr().out
    line = 1 + next(i for i, line in enumerate(path.read_text().splitlines()) if "eventTimeout" in line)
    assert f"  error  function.yaml:{line}  spec.eventTimeout  spec.event-timeout\n" in text
    assert "1 error, 2 warnings" in text


def test_json_holds_all_there_is_to_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = copy_of("reid", tmp_path)
    path = directory / "function.yaml"
    path.write_text(path.read_text().replace("port: 32001", "port: here"))
    assert main(["--json", str(directory), str(CASES / "detector")]) == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["errors"], content["warnings"]) == (1, 0)
    first, second = content["functions"]
    assert first["name"] == "check-reid"
    assert first["run"]["finished"] is True
    assert second["findings"] == []
    (finding,) = first["findings"]
    assert finding["severity"] == "error"
    assert finding["rule"] == "trigger.port"
    assert finding["file"] == "function.yaml"
    lines = path.read_text().splitlines()
    assert lines[finding["line"] - 1].strip() == "port: here"
    assert {"field", "expected", "got", "why"} <= set(finding)


def test_a_folder_of_functions_a_file_and_a_name_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--no-run", "--json", str(CASES)])
    names = [item["name"] for item in json.loads(capsys.readouterr().out)["functions"]]
    assert names == [f"check-{kind}" for kind in sorted(KINDS)]
    main(["--no-run", "--json", str(CASES / "reid" / "function.yaml"), "opencv-grabcut"])
    names = [item["name"] for item in json.loads(capsys.readouterr().out)["functions"]]
    assert names == ["check-reid", "opencv-grabcut"]


def test_two_functions_of_one_name_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--no-run", "--json", str(CASES / "reid"), str(copy_of("reid", tmp_path))]) == 1
    first, second = json.loads(capsys.readouterr().out)["functions"]
    assert first["findings"] == []
    (finding,) = second["findings"]
    assert (finding["rule"], finding["field"]) == ("metadata.name-taken", "metadata.name")
    assert "check_cases/reid" in finding["got"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such/function"], "no/such/function: there is no such function"),
        ([], "the following arguments are required"),
        (["--env", "X", str(CASES / "reid")], "--env: expected NAME=VALUE"),
        (["--timeout", "0", str(CASES / "reid")], "--timeout"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_works_from_anywhere_and_without_colours_in_a_pipe(tmp_path: Path) -> None:
    directory = with_code("raise RuntimeError", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "tools.check", directory.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("detector · detector check-detector · ")


@pytest.mark.parametrize(("runtime", "warns"), [("python:3.11", False), ("python:3.13", False), ("python:3.10", True)])
def test_another_python_that_the_tools_support_is_no_finding(tmp_path: Path, runtime: str, warns: bool) -> None:
    directory = copy_of("reid", tmp_path)
    path = directory / "function.yaml"
    path.write_text(path.read_text().replace("runtime: python:3.11", f"runtime: {runtime}"))
    assert (("warning", "run.python") in rules(check_function(directory))) == warns
