import hashlib
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks import weights

CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FUNCTION = """
metadata: {name: onnx-some-detector, annotations: {type: detector, spec: "[]"}}
spec: {env: []}
"""


class Server(http.server.BaseHTTPRequestHandler):
    """/good gives CONTENT, /moved leads to /good, /away leads to plain http elsewhere."""

    asked: list[str] = []  # noqa: RUF012 - one server a test, cleared by the fixture

    def do_GET(self) -> None:
        Server.asked.append(self.path)
        if self.path == "/moved":
            self._redirect("/good")
        elif self.path == "/away":
            self._redirect("http://192.0.2.1/good")
        elif self.path in ("/good", "/config.json"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)
        else:
            self.send_error(404)

    def _redirect(self, address: str) -> None:
        self.send_response(302)
        self.send_header("Location", address)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.asked.clear()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def function(directory: Path, catalog: str) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "function.yaml").write_text(FUNCTION)
    (directory / "weights.yaml").write_text(catalog)
    return directory


def one_file(url: str, sha256: str | None = None) -> str:
    return (
        "default: small\nvariants:\n  small:\n    files:\n"
        f"      - {{path: small.onnx, url: '{url}', sha256: '{sha256 or ''}'}}\n"
    )


def left_over(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.rglob("*") if p.is_file())


def test_fetches_checks_and_locates(tmp_path: Path, server: str) -> None:
    directory = function(tmp_path / "f", one_file(f"{server}/moved", DIGEST))
    path = weights.fetch(directory)
    assert path == directory / "weights/small/small.onnx"
    assert path.read_bytes() == CONTENT
    assert weights.locate(FunctionConfig.load(directory)) == path
    assert weights.missing(directory, {}) is None
    weights.fetch(directory)
    assert Server.asked == ["/moved", "/good"], "what is there is not fetched again"


def test_records_a_digest_that_is_not_known_and_checks_it_from_then_on(tmp_path: Path, server: str) -> None:
    directory = function(tmp_path / "f", one_file(f"{server}/good"))
    path = weights.fetch(directory)
    record = path.parent / "weights.sha256"
    assert record.read_text() == f"{DIGEST}  small.onnx\n"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(StartupError, match=r"have changed: small.onnx .*python -m common.networks.weights"):
        weights.locate(FunctionConfig.load(directory))
    weights.fetch(directory)
    assert weights.locate(FunctionConfig.load(directory)).read_bytes() == CONTENT


def test_a_changed_file_on_the_server_is_not_taken(tmp_path: Path, server: str) -> None:
    directory = function(tmp_path / "f", one_file(f"{server}/good", "0" * 64))
    with pytest.raises(StartupError, match=f"expected SHA-256 0000.*got {DIGEST}"):
        weights.fetch(directory)
    assert left_over(directory) == ["function.yaml", "weights.yaml"]


def test_a_publisher_may_give_sha384(tmp_path: Path, server: str) -> None:
    longer = hashlib.sha384(CONTENT).hexdigest()
    catalog = one_file(f"{server}/good").replace("sha256: ''", f"sha384: '{longer.upper()}'")
    directory = function(tmp_path / "f", catalog)
    path = weights.fetch(directory)
    assert (path.parent / "weights.sha256").read_text() == f"{DIGEST}  small.onnx\n", "sha256sum -c can check it"
    weights.fetch(directory)
    assert weights.locate(FunctionConfig.load(directory)) == path and Server.asked == ["/good"]
    assert (path.parent / "weights.sha256").read_text() == f"{DIGEST}  small.onnx\n"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(StartupError, match=r"have changed: small\.onnx"):
        weights.locate(FunctionConfig.load(directory))
    other = function(tmp_path / "other", catalog.replace(longer.upper(), "0" * 96))
    with pytest.raises(StartupError, match=f"expected SHA-384 0000.*got {longer}"):
        weights.fetch(other)
    assert left_over(other) == ["function.yaml", "weights.yaml"]


@pytest.mark.parametrize(
    ("page", "message"),
    [("none", "answers 404"), ("away", "expected https, got http")],
)
def test_what_breaks_leaves_nothing_behind(tmp_path: Path, server: str, page: str, message: str) -> None:
    directory = function(tmp_path / "f", one_file(f"{server}/{page}"))
    with pytest.raises(StartupError, match=message):
        weights.fetch(directory)
    assert left_over(directory) == ["function.yaml", "weights.yaml"]


def test_no_server(tmp_path: Path) -> None:
    directory = function(tmp_path / "f", one_file("http://127.0.0.1:1/good"))
    with pytest.raises(StartupError, match=r"can't be fetched: .*refused; or copy the file to .*\.onnx yourself$"):
        weights.fetch(directory)


def test_missing_says_how_to_fetch(tmp_path: Path) -> None:
    directory = function(tmp_path / "f", one_file("https://example.com/x"))
    lacking = weights.missing(directory, {})
    assert lacking is not None
    assert f"python -m common.networks.weights {directory} --variant small" in lacking.problem
    assert lacking.problem.startswith(f"no weights for small: small.onnx is missing in {directory}/weights/small; ")
    assert (lacking.variant, [file.path for file in lacking.files]) == ("small", ["small.onnx"])
    with pytest.raises(StartupError, match=r"expected one of small, got the text 'large'"):
        weights.locate(FunctionConfig.load(directory), "large")
    lacking = weights.missing(directory, {"VARIANT": "large"})
    assert lacking == weights.Missing("VARIANT: expected one of small, got the text 'large'")


def test_paths_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = function(tmp_path / "some function", one_file("https://example.com/x"))
    monkeypatch.chdir(tmp_path)
    lacking = weights.missing(directory, {})
    assert lacking is not None
    assert str(tmp_path) not in lacking.problem
    assert "missing in some function/weights/small; " in lacking.problem
    assert "weights 'some function' --variant small" in lacking.problem
    # A worker's working directory is the function's, and the root in Nuclio; its log is read elsewhere.
    for folder in (directory, Path("/")):
        monkeypatch.chdir(folder)
        lacking = weights.missing(directory, {})
        assert lacking is not None
        assert f"missing in {directory}/weights/small; " in lacking.problem


def test_a_function_without_weights_lacks_nothing(tmp_path: Path) -> None:
    directory = function(tmp_path / "f", "")
    (directory / "weights.yaml").unlink()
    assert weights.missing(directory, {}) is None
    with pytest.raises(StartupError, match="set MODEL_PATH"):
        weights.locate(FunctionConfig.load(directory))


def test_model_path_goes_before_all(tmp_path: Path) -> None:
    directory = function(tmp_path / "f", one_file("https://example.com/x"))
    own = tmp_path / "own.onnx"
    own.write_bytes(b"mine")
    config = FunctionConfig.load(directory)
    assert weights.locate(config, model_path=str(own)) == own
    assert weights.missing(directory, {"MODEL_PATH": str(own)}) is None
    with pytest.raises(StartupError, match=r"MODEL_PATH: there is no /nowhere/x.onnx"):
        weights.locate(config, model_path="/nowhere/x.onnx")
    (tmp_path / "weights.sha256").write_text(f"{DIGEST}  own.onnx\n")
    with pytest.raises(StartupError, match=r"own.onnx in .* is not what weights.sha256"):
        weights.locate(config, model_path=str(own))


def test_a_variant_of_several_files_is_its_folder_or_its_entry(tmp_path: Path, server: str) -> None:
    files = "".join(f"      - {{path: {name}, url: '{server}/{name}'}}\n" for name in ("good", "config.json"))
    catalog = f"default: hub\nvariants:\n  hub:\n    files:\n{files}  chosen:\n    entry: good\n    files:\n{files}"
    directory = function(tmp_path / "f", catalog)
    assert weights.fetch(directory) == directory / "weights/hub"
    assert weights.fetch(directory, "chosen") == directory / "weights/chosen/good"
    assert left_over(directory / "weights/hub") == ["config.json", "good", "weights.sha256"]
    elsewhere = tmp_path / "elsewhere"
    assert weights.fetch(directory, "hub", elsewhere) == elsewhere
    (elsewhere / "config.json").unlink()
    lacking = weights.missing(directory, {"MODEL_PATH": str(elsewhere)})
    assert lacking is not None
    assert "config.json in" in lacking.problem
    assert lacking.files == ()


def test_files_of_the_directory_itself(tmp_path: Path) -> None:
    directory = function(tmp_path / "f", f"variants: {{a: {{files: [{{path: a.onnx, sha256: {DIGEST}}}]}}}}")
    config = FunctionConfig.load(directory)
    with pytest.raises(StartupError, match=r"a.onnx .*copy it again"):
        weights.locate(config)
    (directory / "a.onnx").write_bytes(CONTENT)
    assert weights.locate(config) == directory / "a.onnx"


@pytest.mark.parametrize(
    ("catalog", "message"),
    [
        ("variants: []", "variants: expected an object"),
        ("variants: {a: {files: []}}", "variants.a.files: expected a list of files"),
        ("variants: {a: {files: [{path: ../x}]}}", "expected a path inside the folder"),
        ("variants: {a: {files: [{path: /x}]}}", "expected a path inside the folder"),
        ("variants: {a: {files: [{path: x, url: 'http://example.com/x'}]}}", "only fetched over https"),
        ("variants: {a: {files: [{path: x, url: 'file:///etc/passwd'}]}}", "begins with https"),
        ("variants: {a: {files: [{path: x, sha256: abc}]}}", "64 hexadecimal digits"),
        (f"variants: {{a: {{files: [{{path: x, sha384: {DIGEST}}}]}}}}", "sha384: expected 96 hexadecimal digits"),
        (f"variants: {{a: {{files: [{{path: x, sha256: {'0' * 64}}}]}}}}", "64 hexadecimal digits.* got 0"),  # a number
        ("variants: {a: {files: [{path: x}, {path: x}]}}", "the same path is listed more than once"),
        ("variants: {a: {files: [{path: x, size: 1.5}]}}", "size: expected a number of bytes"),
        ("{default: b, variants: {a: {files: [{path: x}]}}}", "default: expected one of a"),
        ("variants: {a: {entry: y, files: [{path: x}]}}", "entry: expected one of the files"),
    ],
)
def test_refuses_a_catalog(tmp_path: Path, catalog: str, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        weights.read_catalog(function(tmp_path / "f", catalog))


def test_command_line(tmp_path: Path, server: str) -> None:
    directory = function(tmp_path / "f", one_file(f"{server}/good"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "common.networks.weights", str(directory), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    before = run("--check")
    assert before.returncode == 1 and "small.onnx" in before.stderr
    fetched = run()
    assert fetched.returncode == 0 and DIGEST in fetched.stdout and "1.3 MB" in fetched.stdout
    assert run("--check").returncode == 0
    (directory / "weights/.mounted").touch()
    (directory / "weights/small/small.onnx").unlink()
    mounted = run()
    assert mounted.returncode == 0 and "nothing is fetched" in mounted.stdout
    assert run("--check").returncode == 1
    (directory / "weights/.mounted").unlink()
    wrong = run("--variant", "large")
    assert wrong.returncode == 1 and "expected one of small" in wrong.stderr and "Traceback" not in wrong.stderr


def test_nothing_is_fetched_where_a_folder_will_be_mounted(tmp_path: Path, server: str) -> None:
    (tmp_path / "function.yaml").write_text(FUNCTION)
    (tmp_path / "weights.yaml").write_text(f"variants: {{a: {{files: [{{path: m, url: {server}/good}}]}}}}")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / ".mounted").touch()
    weights.fetch(tmp_path)
    assert Server.asked == []
    # A folder that is named takes precedence, here and on the command line.
    weights.fetch(tmp_path, to=tmp_path / "elsewhere")
    assert Server.asked == ["/good"]
    assert weights.main([str(tmp_path), "--to", str(tmp_path / "third")]) == 0
    assert (tmp_path / "third" / "m").read_bytes() == CONTENT


def test_a_folder_that_is_named_is_checked_for_every_file(
    tmp_path: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, to = function(tmp_path / "f", one_file(f"{server}/good")), tmp_path / "elsewhere"
    to.mkdir()
    assert weights.main([str(directory), "--to", str(to), "--check"]) == 1
    assert re.search(rf"small.onnx is missing in {to}; fetch: .* --to {to}\n", capsys.readouterr().err)
    weights.fetch(directory, to=to)
    assert weights.main([str(directory), "--to", str(to), "--check"]) == 0
    (to / "small.onnx").write_bytes(b"changed")
    assert weights.main([str(directory), "--to", str(to), "--check"]) == 1
    assert "small.onnx" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1", "true"])
def test_offline_fetches_nothing(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    directory = function(tmp_path / "f", one_file(f"{server}/good"))
    monkeypatch.setenv("OFFLINE", value)
    with pytest.raises(StartupError, match=r"small\.onnx is missing, and nothing is fetched: OFFLINE is set"):
        weights.fetch(directory)
    assert Server.asked == []
    monkeypatch.setenv("OFFLINE", "0")
    weights.fetch(directory)
    monkeypatch.setenv("OFFLINE", value)
    weights.fetch(directory)  # all there: nothing to fetch
