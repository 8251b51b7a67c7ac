"""Tries a function: starts it in a process of its own, sends it good and bad requests, and looks at what it does."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks import weights
from tools.check.findings import Finding, error, located, merged, warning
from tools.check.process import WorkerProcess
from tools.check.reply_rules import check_refusal, check_reply
from tools.check.samples import (
    Sample,
    bad_requests,
    empty_frame,
    frame,
    good_requests,
    in_other_forms,
    tracked_shapes,
)
from tools.check.values import (
    CVAT_TIMEOUT,
    as_text,
    did_you_mean,
    event_timeout,
    mapping,
    nearest,
    quantity,
    runtime_minor,
)
from tools.collection import requirement_files, shown
from tools.workers.memory import container_bytes, suggested_limit
from tools.wrapper import Reply

_SUPPORTED_MINORS = (11, 12, 13)  # of Python 3: the collection's tests run on each of them
IMPORT_LIMIT = DEFAULT_READINESS = 120.0
"""Seconds, Nuclio's own."""

SLOW_IMPORT = 5.0
"""Seconds of an import that are worth a warning."""

_LONGEST_WAIT = 86400.0  # seconds; a socket takes no limit of years
_LARGEST_RECORD = 100_000  # bytes; Nuclio blocks for ever at some 200 kB
_STEPS = 2  # frames for which a tracker follows each object
_RESTARTS = "the worker ends, and with it the container; the restart policy decides what follows"


@dataclass(slots=True)
class Trial:
    """What a function did when it was tried."""

    finished: bool = False
    import_seconds: float | None = None
    """None when the step was not reached."""

    start_seconds: float | None = None
    """What init_context took, None when the step was not reached."""

    requests: int = 0
    slowest_seconds: float = 0.0
    most_bytes: int = 0
    """Of memory that its worker held; 0 where the system does not say."""
    findings: list[Finding] = field(default_factory=list)


def try_function(
    config: FunctionConfig,
    spec: Mapping[Any, Any],
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Trial:
    """Runs a function with good and bad requests.

    Args:
        config: The function.
        spec: `spec` of its function.yaml.
        environment: Variables that take precedence over those of the spec.
        timeout: Seconds for one request; None for the spec's eventTimeout.

    Returns:
        What the function did, and what is wrong with that.
    """
    attempt = _Attempt(config, spec, dict(environment or {}), timeout)
    try:
        attempt.run()
        attempt.trial.finished = True
    except _Stop:
        pass
    attempt.trial.findings = merged(attempt.findings)
    return attempt.trial


class _Stop(Exception):
    """The function can't be tried any further; a finding says why."""


class _Attempt:
    def __init__(
        self, config: FunctionConfig, spec: Mapping[Any, Any], environment: dict[str, str], timeout: float | None
    ):
        self.trial = Trial()
        self.findings: list[Finding] = []
        self._config, self._environment, self._spec = config, environment, spec
        self._module, _, self._function = str(spec.get("handler")).partition(":")
        self._file = f"{self._module.replace('.', '/')}.py"
        self._limit = timeout or min(event_timeout(spec), _LONGEST_WAIT) or CVAT_TIMEOUT
        self._limit_name = "--timeout" if timeout else "eventTimeout"
        readiness = spec.get("readinessTimeoutSeconds")
        self._start_limit = float(readiness) if isinstance(readiness, int) and readiness > 0 else DEFAULT_READINESS

    def run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="check-") as scratch, Path(scratch, "output").open("w+") as output:
            # What the function keeps between requests, such as embeddings, goes with the check.
            environment = {"TMPDIR": scratch, **self._config.environment, **self._environment}
            self._process = WorkerProcess(self._config, self._module, self._function, environment, output)
            try:
                self._import()
                self._compare_versions()
                self._start()
                self._call_all()
                self._compare_memory()
            finally:
                self._process.end()

    def _add(self, findings: Iterable[Finding], request: str = "") -> None:
        self.findings += (replace(finding, request=request) for finding in located(findings, self._file))

    def _compare_versions(self) -> None:
        minor = runtime_minor(self._spec.get("runtime"))
        if minor is not None and minor not in (sys.version_info.minor, *_SUPPORTED_MINORS):
            expected = f"this check to run with Python 3.{minor}, the function's"
            why = "what it finds by running the function may differ in the container"
            got = f"Python 3.{sys.version_info.minor}"
            self.findings += located([warning("run.python", "spec.runtime", expected, got, why)], "function.yaml")

    def _import(self) -> None:
        answer, _ = self._step("import", IMPORT_LIMIT, "the import of its module", "Nuclio's limit")
        if "problem" in answer:
            self._add([self._problem(answer["problem"], "its module is imported")])
            raise _Stop
        self.trial.import_seconds = answer["seconds"]
        self._add(_import_findings(answer))

    def _start(self) -> None:
        answer, _ = self._step("start", self._start_limit, "init_context", "readinessTimeoutSeconds")
        if "problem" in answer:
            self._add([self._problem(answer["problem"], "init_context is called")])
            raise _Stop
        self.trial.start_seconds = answer["seconds"]
        self._add(_log_findings(answer), "the start")
        self._check_options(answer["options"])

    def _check_options(self, known: list[str]) -> None:
        """Looks for variables that the function does not read, but whose names are like one that it reads."""
        fields = {
            mapping(entry).get("name"): f"spec.env[{i}].name" for i, entry in enumerate(self._spec.get("env") or ())
        }
        for name in {**self._config.environment, **self._environment}:
            if name not in known and (meant := nearest(name, known)):
                why = "the function reads no such variable: it starts with its default"
                field, remedy = fields.get(name, f"--env {name}"), did_you_mean(name, known)
                self.findings += located([warning("env.unknown", field, meant, name, why, remedy)], "function.yaml")

    def _compare_memory(self) -> None:
        """Looks whether the memory limit is enough for what the worker held with the small pictures of the samples."""
        most, workers = self.trial.most_bytes, self._config.workers
        if not most:
            return
        given = mapping(mapping(self._spec.get("resources")).get("limits")).get("memory")
        limit, suggested = quantity(given), suggested_limit(workers, most)
        held = f"{workers} worker{'s' if workers > 1 else ''} held {most / 2**20:.0f} MiB{' each' if workers > 1 else ''} here"
        field = "spec.resources.limits.memory"
        if given is None:
            why = f"nothing keeps the function from taking all memory of the machine; {held}"
            found = warning("resources.no-memory-limit", field, f"a limit, such as {suggested}", "nothing", why)
        elif limit is not None and limit < container_bytes(workers, most):
            why = f"{held}; over its limit the kernel kills a worker, and with it the container"
            found = warning("resources.memory-limit", field, f"more, such as {suggested}", as_text(given), why)
        else:
            return
        self.findings += located([found], "function.yaml")

    def _call_all(self) -> None:
        if self._config.kind == "tracker":
            plainest = self._track()
        else:
            samples = good_requests(self._config)
            for sample in samples:
                self._call_good(sample)
            plainest = samples[0]
        if plainest is None:
            return
        for sample in bad_requests(self._config, plainest.body):
            self._add(check_refusal(self._call(sample)), sample.name)
        self._call_good(Sample(f"{plainest.name}, after the bad requests", plainest.body))

    def _track(self) -> Sample | None:
        """Follows an object of each shape type, and two at once. Returns a good request that holds shape and state."""
        shapes = tracked_shapes(self._config)
        last = None
        for name, shape in shapes.items():
            last = self._follow(f"a {name}", [shape]) or last
        if not shapes:
            return None
        name, shape = next(iter(shapes.items()))
        self._follow(f"two objects of type {name}", [shape, shape])
        self._follow(f"a {name} that disappears", [shape], [empty_frame()])
        start = {"image": frame(0), "shapes": [shape], "states": []}
        for sample in in_other_forms(start):
            self._call_good(sample)
        return last

    def _follow(self, what: str, shapes: list[Any], images: Iterable[str] = ()) -> Sample | None:
        """Follows objects through images, by default the next ones. Returns the last request, with the shapes added."""
        content = self._call_good(Sample(f"the start of {what}", {"image": frame(0), "shapes": shapes, "states": []}))
        good = None
        for step, image in enumerate(images or (frame(step) for step in range(1, _STEPS + 1)), 1):
            states = content.get("states") if isinstance(content, dict) else None
            if not isinstance(states, list) or len(states) != len(shapes):
                return good
            body = {"image": image, "shapes": [None] * len(shapes), "states": states}
            good = Sample("a shape and its state", {**body, "shapes": shapes})
            content = self._call_good(Sample(f"step {step} of {what}", body))
        return good

    def _call_good(self, sample: Sample) -> Any:
        """Sends a good request, looks at the reply, and returns what JSON it holds, if any."""
        reply = self._call(sample)
        self._add(check_reply(reply, self._config, sample.body, file=self._file), sample.name)
        try:
            return json.loads(reply.body)
        except ValueError:
            return None

    def _call(self, sample: Sample) -> Reply:
        body = sample.body if isinstance(sample.body, bytes) else json.dumps(sample.body).encode()
        header = {"content_type": sample.content_type}
        answer, text = self._step("call", self._limit, f"a request with {sample.name}", self._limit_name, header, body)
        self.trial.requests += 1
        self.trial.slowest_seconds = max(self.trial.slowest_seconds, answer["seconds"])
        self._add(_log_findings(answer), sample.name)
        if answer["returned"] == "list":
            expected = "context.Response(body=json.dumps(list), content_type='application/json')"
            why = (
                "Nuclio takes it for the replies to a batch: the caller gets the first element, and an empty list breaks "
                "the worker"
            )
            got = "a list as the handler's return value"
            self._add([error("run.returns-list", self._function, expected, got, why)], sample.name)
        return Reply(answer["status"], text, answer["content_type"], {})

    def _step(
        self,
        step: str,
        limit: float,
        what: str,
        limit_name: str,
        header: Mapping[str, Any] | None = None,
        body: bytes = b"",
    ) -> tuple[dict[str, Any], bytes]:
        try:
            answer = self._process.ask({"step": step, **(header or {})}, body, limit)
            self.trial.most_bytes = max(self.trial.most_bytes, self._process.memory().most)
            return answer
        except TimeoutError:
            why = "Nuclio gives up, and the container ends"
            if step == "call":
                why = "Nuclio kills the worker: 408 for this caller, 500 for those after it, and the model loads again"
            expected = f"an end within {limit:g} s ({limit_name})"
            self._add([error("run.hangs", what, expected, "none", why, self._process.last_words())])
        except (EOFError, ConnectionError):
            got = f"the end of its process ({self._process.how_it_ended()})"
            self._add([error("run.dies", what, "a reply", got, _RESTARTS, self._process.last_words())])
        raise _Stop

    def _problem(self, problem: Mapping[str, Any], when: str) -> Finding:
        """The finding about an exception that ended the import or the start."""
        place = f" ({problem['place']})" if problem["place"] else ""
        got = ": ".join(filter(None, (problem["type"], problem["message"]))) + place
        bases = problem["bases"]
        if "ModuleNotFoundError" in bases and problem["module"]:
            expected = f"the package {problem['module'].partition('.')[0]} here, to try the function"
            why = f"{_RESTARTS}; and nothing more can be checked here"
            remedy = _how_to_install(self._config.directory, self._spec)
            return error("run.missing-package", "import", expected, got, why, remedy)
        if "StartupError" in bases and self._lacks_weights():
            expected = "the weights here, to try the function"
            return error("run.missing-weights", "weights", expected, problem["message"], _RESTARTS)
        if "FileNotFoundError" in bases:
            remedy = "in the image, build directives or a volume provide it; copy it here, or name another by --env NAME=VALUE"
            expected, file = "the file here, to try the function", problem["file"] or when
            return error("run.missing-file", file, expected, got, _RESTARTS, remedy)
        if "StartupError" in bases:
            return error("run.start", when, "a function that starts", problem["message"], _RESTARTS)
        return error("run.raises", when, "no exception", got, _RESTARTS)

    def _lacks_weights(self) -> bool:
        try:
            return bool(weights.missing(self._config.directory, self._environment))
        except StartupError:
            return False


def _import_findings(answer: Mapping[str, Any]) -> Iterator[Finding]:
    why = "Nuclio's limit of 2 minutes applies to imports but not to init_context"
    if answer["heavy"]:
        expected = "light imports at the top, heavy ones where they are first used, after init_context has begun"
        got = f"importing the module alone loads {', '.join(answer['heavy'])}, in {answer['seconds']:.2f} s"
        yield warning("run.heavy-import", "import", expected, got, f"{why}, and all workers import at the same time")
    elif answer["seconds"] > SLOW_IMPORT:
        expected = f"an import of at most {SLOW_IMPORT:g} s"
        yield warning("run.slow-import", "import", expected, f"{answer['seconds']:.1f} s", why)
    if answer["init_context"] and not answer["init_context_found"]:
        got = "a handler that says it is of another module"
        why = "Nuclio looks for init_context in the handler's own module, and does not find it"
        yield error("run.init-context", "init_context", "functools.wraps in the decorator of the handler", got, why)


def _log_findings(answer: Mapping[str, Any]) -> Iterator[Finding]:
    if answer["largest_record"] > _LARGEST_RECORD:
        expected, got = f"records of at most {_LARGEST_RECORD // 1000} kB", f"{answer['largest_record'] / 1000:.0f} kB"
        why = "a record of some 200 kB blocks Nuclio's pipe, and with it the request for ever"
        yield error("run.log-size", "context.logger", expected, f"one of {got}", why)
    if answer["image_in_log"]:
        why = "images are large and private; a larger one blocks Nuclio's pipe, and with it the request for ever"
        got = "a part of the image in base64"
        yield error("run.log-image", "context.logger", "records without the request", got, why)


def _how_to_install(directory: Path, spec: Mapping[Any, Any]) -> str:
    """The command that installs a function's packages, as far as its files say."""
    if files := requirement_files(directory):
        return "pip install --no-deps " + " ".join(f"-r {shown(path)}" for path in files)
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
