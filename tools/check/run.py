"""Tries a function: starts it in a process of its own, sends it good and bad requests, and looks at what it does."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks import weights
from tools.check.findings import Finding, Findings, merged
from tools.check.process import WorkerProcess
from tools.check.reply_rules import check_refusal, check_reply
from tools.check.samples import JSON, Sample, bad_requests, frame, good_requests, image_forms, tracked_shapes
from tools.check.values import CVAT_TIMEOUT, as_text, event_timeout, mapping, runtime_minor
from tools.collection import requirement_files
from tools.wrapper import Reply

IMPORT_LIMIT = DEFAULT_READINESS = 120.0  # seconds, Nuclio's own
SLOW_IMPORT = 5.0
_LONGEST_WAIT = 86400.0  # seconds; a socket takes no limit of years
_LARGEST_RECORD = 100_000  # bytes; Nuclio blocks for good at some 200 kB
_SUPPORTED_MINORS = range(11, 14)  # of Python 3; the collection's tests run on each of them
_STEPS = 2  # frames for which a tracker follows each object
_WEIGHTS_ADVICE = (
    "the image gets it from build directives or a volume; put it there, or name another by --env NAME=VALUE"
)


@dataclass(slots=True)
class Trial:
    """What a function did when it was tried. Times in seconds, None for a step that was not reached."""

    import_seconds: float | None = None
    start_seconds: float | None = None
    requests: int = 0
    slowest_seconds: float = 0.0
    finished: bool = False
    findings: list[Finding] = field(default_factory=list)


def try_function(
    config: FunctionConfig,
    spec: Mapping[Any, Any],
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Trial:
    """Runs a function and returns what it did and what is wrong with that.

    spec: `spec` of its function.yaml. environment: variables that go before those of the spec.
    timeout: seconds for one request; None as the spec's eventTimeout says.
    """
    attempt = _Attempt(config, spec, dict(environment or {}), timeout)
    try:
        attempt.run()
        attempt.trial.finished = True
    except _Stop:
        pass
    attempt.trial.findings = merged(list(attempt.findings))
    return attempt.trial


class _Stop(Exception):
    """The function can't be tried any further; a finding says why."""


class _Attempt:
    def __init__(
        self, config: FunctionConfig, spec: Mapping[Any, Any], environment: dict[str, str], timeout: float | None
    ):
        self.trial = Trial()
        self._config, self._environment, self._spec = config, environment, spec
        self._module, _, self._function = str(spec.get("handler")).partition(":")
        self._file = f"{self._module.replace('.', '/')}.py"
        self.findings = Findings(self._file)
        self._limit = timeout or min(event_timeout(spec), _LONGEST_WAIT) or CVAT_TIMEOUT
        self._limit_name = "--timeout" if timeout else "eventTimeout"
        readiness = spec.get("readinessTimeoutSeconds")
        self._start_limit = float(readiness) if isinstance(readiness, int) and readiness > 0 else DEFAULT_READINESS

    def run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="check-") as scratch, Path(scratch, "output").open("w+") as output:
            # What the function keeps between requests, such as embeddings, goes with the check.
            environment = {"TMPDIR": scratch, **self._config.environment, **self._environment}
            process = WorkerProcess(self._config, self._module, self._function, environment, output)
            try:
                self._import(process)
                self._compare_versions()
                self._start(process)
                self._call_all(process)
            finally:
                process.end()

    def _compare_versions(self) -> None:
        minor = runtime_minor(self._spec.get("runtime"))
        if minor is not None and minor != sys.version_info.minor and minor not in _SUPPORTED_MINORS:
            found = Findings("function.yaml")
            found.warn(
                "run.python",
                "spec.runtime",
                expected=f"this check to run with Python 3.{minor}, the function's",
                got=f"Python 3.{sys.version_info.minor}",
                why="what it finds by running the function may differ in the container",
            )
            self._add(list(found), "")

    def _import(self, process: WorkerProcess) -> None:
        answer, _ = self._step(process, "import", IMPORT_LIMIT, "the import of its module", "Nuclio's limit")
        if "problem" in answer:
            self._report_problem(answer["problem"], "its module is imported")
            raise _Stop
        self.trial.import_seconds = answer["seconds"]
        if answer["heavy"]:
            self.findings.warn(
                "run.heavy-import",
                "import",
                expected="light imports at the top, heavy ones where they are first used, after init_context has begun",
                got=f"importing the module alone loads {', '.join(answer['heavy'])}, in {answer['seconds']:.2f} s",
                why="Nuclio's limit of 2 minutes counts for imports but not for init_context, and every worker pays at once",
            )
        elif answer["seconds"] > SLOW_IMPORT:
            self.findings.warn(
                "run.slow-import",
                "import",
                expected=f"an import of at most {SLOW_IMPORT:g} s",
                got=f"{answer['seconds']:.1f} s",
                why="Nuclio's limit of 2 minutes counts for imports but not for init_context",
            )
        if answer["init_context"] and not answer["init_context_found"]:
            self.findings.error(
                "run.init-context",
                "init_context",
                expected="functools.wraps in the decorator of the handler",
                got="a handler that says it is of another module",
                why="Nuclio looks for init_context in the handler's own module, and does not find it",
            )

    def _start(self, process: WorkerProcess) -> None:
        what = "init_context"
        answer, _ = self._step(process, "start", self._start_limit, what, "readinessTimeoutSeconds")
        if "problem" in answer:
            self._report_problem(answer["problem"], "init_context is called")
            raise _Stop
        self.trial.start_seconds = answer["seconds"]
        self._check_log(answer, "the start")

    def _call_all(self, process: WorkerProcess) -> None:
        if self._config.kind == "tracker":
            plainest = self._track(process)
        else:
            samples = good_requests(self._config)
            for sample in samples:
                self._call_good(process, sample)
            plainest = samples[0]
        if plainest is None:
            return
        for sample in bad_requests(self._config, plainest.body):
            reply = self._call(process, sample)
            self._add(check_refusal(reply, file=self._file), sample.name)
        again = Sample(f"{plainest.name}, after the bad requests", plainest.body)
        self._call_good(process, again)

    def _track(self, process: WorkerProcess) -> Sample | None:
        """Follows an object of each shape type, and two at once. Returns a good request that holds shape and state."""
        shapes = tracked_shapes(self._config)
        last = None
        for name, shape in shapes.items():
            last = self._follow(process, f"a {name}", [shape]) or last
        if not shapes:
            return None
        name, shape = next(iter(shapes.items()))
        self._follow(process, f"two objects of type {name}", [shape, shape])
        start = {"image": frame(0), "shapes": [shape], "states": []}
        self._call_good(process, Sample("a content type with a charset", start, f"{JSON}; charset=utf-8"))
        for form, image in image_forms().items():
            self._call_good(process, Sample(form, {**start, "image": image}))
        return last

    def _follow(self, process: WorkerProcess, what: str, shapes: list[Any]) -> Sample | None:
        body = {"image": frame(0), "shapes": shapes, "states": []}
        content = self._call_good(process, Sample(f"the start of {what}", body))
        good = None
        for step in range(1, _STEPS + 1):
            states = content.get("states") if isinstance(content, dict) else None
            if not isinstance(states, list) or len(states) != len(shapes):
                return good
            body = {"image": frame(step), "shapes": [None] * len(shapes), "states": states}
            good = Sample("a shape and its state", {**body, "shapes": shapes})
            content = self._call_good(process, Sample(f"step {step} of {what}", body))
        return good

    def _call_good(self, process: WorkerProcess, sample: Sample) -> Any:
        """Sends a good request, looks at the reply, and returns what JSON it holds, if any."""
        reply = self._call(process, sample)
        self._add(check_reply(reply, self._config, sample.body, file=self._file), sample.name)
        try:
            return json.loads(reply.body)
        except ValueError:
            return None

    def _call(self, process: WorkerProcess, sample: Sample) -> Reply:
        body = sample.body if isinstance(sample.body, bytes) else json.dumps(sample.body).encode()
        what = f"a request with {sample.name}"
        header = {"content_type": sample.content_type}
        answer, text = self._step(process, "call", self._limit, what, self._limit_name, header, body)
        self.trial.requests += 1
        self.trial.slowest_seconds = max(self.trial.slowest_seconds, answer["seconds"])
        self._check_log(answer, sample.name)
        if answer["returned"] == "list":
            self.findings.add(
                Finding(
                    "error",
                    "run.returns-list",
                    self._file,
                    self._function,
                    expected="context.Response(body=json.dumps(list), content_type='application/json')",
                    got="a list as the handler's return value",
                    why="Nuclio takes it for the replies to a batch: the caller gets the first element, and an empty list "
                    "breaks the worker",
                    request=sample.name,
                )
            )
        return Reply(answer["status"], text, answer["content_type"], {})

    def _check_log(self, answer: Mapping[str, Any], request: str) -> None:
        found = Findings(self._file)
        if answer["largest_record"] > _LARGEST_RECORD:
            found.error(
                "run.log-size",
                "context.logger",
                expected=f"records of at most {_LARGEST_RECORD // 1000} kB",
                got=f"one of {answer['largest_record'] / 1000:.0f} kB",
                why="a record of some 200 kB blocks Nuclio's pipe and the request, for good",
            )
        if answer["image_in_log"]:
            found.error(
                "run.log-image",
                "context.logger",
                expected="records without the request",
                got="a part of the image in base64",
                why="images are large and private; a larger one blocks Nuclio's pipe and the request, for good",
            )
        self._add(list(found), request)

    def _add(self, findings: list[Finding], request: str) -> None:
        for finding in findings:
            self.findings.add(replace(finding, request=request))

    def _step(
        self,
        process: WorkerProcess,
        step: str,
        limit: float,
        what: str,
        limit_name: str,
        header: Mapping[str, Any] | None = None,
        body: bytes = b"",
    ) -> tuple[dict[str, Any], bytes]:
        try:
            return process.ask({"step": step, **(header or {})}, body, limit)
        except TimeoutError:
            self.findings.error(
                "run.hangs",
                what,
                expected=f"an end within {limit:g} s ({limit_name})",
                got="none",
                why="Nuclio kills the worker: 408 for this caller, 500 for those after it, and the model loads again"
                if step == "call"
                else "Nuclio gives up, and the container ends",
                remedy=process.last_words(),
            )
        except (EOFError, ConnectionError, BrokenPipeError):
            self.findings.error(
                "run.dies",
                what,
                expected="a reply",
                got=f"the end of its process ({process.how_it_ended()})",
                why="the worker's end is the end of the whole container; the restart policy decides what follows",
                remedy=process.last_words(),
            )
        raise _Stop

    def _report_problem(self, problem: Mapping[str, Any], when: str) -> None:
        place = f" ({problem['place']})" if problem["place"] else ""
        why = "the worker ends, and with it the container; the restart policy decides what follows"
        got = ": ".join(filter(None, (problem["type"], problem["message"]))) + place
        bases = problem["bases"]
        if "ModuleNotFoundError" in bases and problem["module"]:
            self.findings.error(
                "run.missing-package",
                "import",
                expected=f"the package {problem['module'].partition('.')[0]} here, to try the function",
                got=got,
                why=f"{why}; and nothing more can be checked here",
                remedy=_how_to_install(self._config.directory, self._spec),
            )
        elif "StartupError" in bases and self._lacks_weights():
            self.findings.error(
                "run.missing-weights",
                "weights",
                expected="the weights here, to try the function",
                got=problem["message"],
                why=why,
            )
        elif "FileNotFoundError" in bases:
            self.findings.error(
                "run.missing-file",
                problem["file"] or when,
                expected="the file here, to try the function",
                got=got,
                why=why,
                remedy=_WEIGHTS_ADVICE,
            )
        elif "StartupError" in bases:
            self.findings.error("run.start", when, expected="a function that starts", got=problem["message"], why=why)
        else:
            self.findings.error("run.raises", when, expected="no exception", got=got, why=why)

    def _lacks_weights(self) -> bool:
        try:
            return bool(weights.missing(self._config.directory, self._environment))
        except StartupError:
            return False


def _how_to_install(directory: Path, spec: Mapping[Any, Any]) -> str:
    """The command that installs a function's packages, as far as its files say."""
    if files := requirement_files(directory):
        return "pip install --no-deps " + " ".join(f"-r {_short(path)}" for path in files)
    commands = " && ".join(_build_commands(spec))
    installed = re.findall(r"pip3? install ([^&|;\n]+)", commands.replace("\\\n", " "))
    if installed:
        return "spec.build installs " + "; ".join(" ".join(each.split()) for each in installed)
    return "nothing in the directory says which packages the function needs; install it in this environment"


def _build_commands(spec: Mapping[Any, Any]) -> Iterator[str]:
    build = mapping(spec.get("build"))
    yield from map(as_text, build.get("commands") or ())
    for entries in mapping(build.get("directives")).values():
        for entry in entries if isinstance(entries, list) else ():
            yield as_text(mapping(entry).get("value"))


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
