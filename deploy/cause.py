"""Finds the cause of a failed build or start in its logs, and the remedy."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from deploy.commands import Done, last_words, shortened
from deploy.console import DeploymentError
from deploy.definition.function_file import at
from deploy.definition.lacking import FUNCTION_FOLDER
from deploy.host.containers import Container
from deploy.nuclio import store_remedy

_LONGEST = 600
_LONGEST_QUOTE = 200
_LOG_LINES = 12
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Lines of Nuclio that say nothing of a failure. One holds the function's whole configuration, others repeat the log.
_NUCLIO = re.compile(r"^\S+ \S+ \((D|I)\) |setting the function status \{|wasn't healthy within timeout \{")
_CHATTER = re.compile(
    r"^$|\((D|I)\) |goroutine [0-9]+|\.go:[0-9]+|/nuclio/pkg/|^(created by|panic: Wrapper)|\"?EOF\"?|No metric sinks"
    r'|"(Connecting|Successfully connected) to socket '
)
# An exception of init_context as `common` logs it, as Nuclio's wrapper logs it, and as Python prints it.
_LOGGED = (
    re.compile(r'The function can\'t start \{"error": "((?:[^"\\]|\\.)*)"'),
    re.compile(r'exception while initializing", "with": \{"err": "((?:[^"\\]|\\.)*)"'),
)
_PRINTED = re.compile(r"^((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit)(?:: .*)?)$", re.MULTILINE)
_FAILURE = re.compile(r"^\s*((?:ERROR: |error: |.*: error: ).*|.*(?:Error|Exception): .*)$", re.MULTILINE)
_ROOT_CAUSE = re.compile(r"^Error - (.+)$", re.MULTILINE)
_PYTHON_ENDED = re.compile(
    r"Wrapper process for worker \d+ exited unexpectedly with: (?:exit (status \d+)|signal: ([a-z ]+))"
)
_LOG_IN_NUCTLS = re.compile(r"^Function wasn't ready in time\. Logs:\n(.*?)^ {4}\.\.\.", re.MULTILINE | re.DOTALL)
_INIT_BEGAN = "Waiting for start"  # the processor says so when the wrapper has imported main.py
_BUILD_COMMAND = re.compile(
    r"The command '(?:/bin/sh -c )?(.*)' returned a non-zero code: (\d+)"
    r'|process "(?:/bin/sh -c )?(.*)" did not complete successfully: exit code: (\d+)'
)
_BUILD_OUTPUT = re.compile(r" ---> Running in \w+\n(.*?)(?:Removing intermediate container|\Z)", re.DOTALL)
_STORE = re.compile("nuclio-local-storage|container with storage volume")  # where nuctl keeps its records
_KILLED, _TERMINATED = 137, 143
_HAS_ENDED = ("exited", "dead", "restarting")  # states of a container
_CONTAINER_ENDED = re.compile(r"Container exited with status: (\d+)")
_NOT_IN_TIME = re.compile(r"wasn't (?:healthy|ready) in time")
_ABSENT_WEIGHTS = re.compile(r"(\S+?)(?:,.*)? (?:is|are) missing in /?opt/nuclio/weights/([^\s;]+)")
_FETCH = re.compile("; fetch: .*")  # in the function's container, which is no place for it
_LAYOUT = (
    "a mounted folder holds one file, which MODEL_PATH then names, or a folder for each variant, as in "
    "DIR/<function's name>/{variant}/{file}"
)


def explain(
    nuctl_log: str, container_log: str, *, container: Container | None, mounted: bool = False
) -> DeploymentError:
    """The cause of a failure and its remedy.

    Args:
        nuctl_log: What nuctl, or docker build, printed.
        container_log: The log of the function's container; "" after a failed build.
        container: The container after the failure; None if it is gone, and after a failed build.
        mounted: Whether its weights are mounted.

    Returns:
        The cause, with a remedy where one is known.
    """
    said = _said(nuctl_log)
    log = _plain(container_log) or "\n".join(_LOG_IN_NUCTLS.findall(_plain(nuctl_log))[-1:])
    error = _init_error(log)
    if container and container.out_of_memory:
        found = _out_of_memory(container, "while it started")
    elif error:
        found = DeploymentError(_FETCH.sub("", error), _remedy_of_init(error, mounted))
    else:
        found = _known(f"{said}\n{_said(log)}") or _ended(said, log, container) or _unknown(said, _said(log))
    return DeploymentError(shortened(found.cause, _LONGEST), found.remedy)


def explain_no_answer(error: DeploymentError, container_log: str, container: Container | None) -> DeploymentError:
    """Why a function that had started does not answer: it has ended, where its container or its log shows that.

    Args:
        error: What came in place of an answer.
        container_log: The log of the function's container.
        container: The container after the failure; None if it is gone.

    Returns:
        The cause of its end, with the remedy; the error itself when the function has not ended.
    """
    if container and container.out_of_memory:
        return _out_of_memory(container, "while it answered")
    python = _PYTHON_ENDED.search(container_log)
    if not python:
        return error
    how = f"ended with {python[1]}" if python[1] else f"was ended by a signal ({python[2].strip()})"
    cause = f"the function's Python process {how} while it answered{_own_words(_plain(container_log))}"
    return DeploymentError(shortened(cause, _LONGEST), _remedy_of_signal(python[2] or "", container))


def log_end(text: str) -> list[str]:
    """The last lines of a log, without Nuclio's own, which begin anew after each restart.

    Args:
        text: The log.
    """
    lines = (line.rstrip() for record in _plain(text).splitlines() for line in _lines_of(record))
    said = [line for line in lines if not _CHATTER.search(line)]
    return [shortened(line, _LONGEST_QUOTE) for line in said[-_LOG_LINES:]]


def _lines_of(record: str) -> list[str]:
    """A line of a container's log; a record of Nuclio's wrapper with a traceback as the lines of that."""
    try:
        traceback = at(json.loads(record), "with", "traceback") if record.startswith("{") else None
    except ValueError:
        traceback = None
    return str(traceback).splitlines() if traceback else [record]


@dataclass(frozen=True)
class _Known:
    """A failure that is known by its message."""

    pattern: re.Pattern[str]
    cause: str
    """May hold {quote}."""
    remedy: str
    quote: re.Pattern[str] = re.compile(".*")
    """What {quote} takes from the log: its first group, or else all that it matches."""


def _rule(pattern: str, cause: str, remedy: str, quote: str = ".*") -> _Known:
    return _Known(re.compile(pattern, re.DOTALL), cause, remedy, re.compile(quote))


_RULES = (
    _rule(
        "port is already allocated|address already in use",
        "its port is taken: {quote}",
        "stop what uses it, or give the function another: attributes.port of the trigger in function.yaml, or --first-port",
        r'[^ ]*:[0-9]+ failed: port is already allocated|listen tcp[^"\n]*address already in use',
    ),
    _rule(
        "[Nn]o space left on device",
        "the disk is full",
        "docker system df shows what takes the room; docker system prune frees what is unused",
    ),
    _rule(
        "bind source path does not exist: ",
        "a folder that it mounts is missing on this machine: {quote}",
        "give its weights again: --weights DIR; other folders are in spec.volumes of its function.yaml",
        r'bind source path does not exist: ([^"\n]*[^".\n])',
    ),
    _rule(
        "could not select device driver|nvidia-container-cli",
        "Docker can't give the function a GPU: {quote}",
        "set up the NVIDIA container toolkit, or deploy with ./deploy_cpu.sh",
        r'could not select device driver[^\\\n]*|nvidia-container-cli: [^"\n]*',
    ),
    _rule(
        "No matching distribution found for",
        "pip finds no {quote} for this platform",
        "the network, or PIP_INDEX_URL, may hide the registry; or requirements.txt names a version that isn't there",
        r'No matching distribution found for ([^ "\\\n]+)',
    ),
    _rule(
        "emporary failure in name resolution|no such host|Network is unreachable|i/o timeout|TLS handshake timeout|"
        "onnection refused.*pull",
        "the network: {quote}",
        "behind a proxy: set HTTPS_PROXY for Docker; without a network: make bundle on a connected machine, then --offline FILE",
        r'[^"\\\n]*(?:[Tt]emporary failure in name resolution|no such host|Network is unreachable|i/o timeout'
        r"|TLS handshake timeout|[Cc]onnection refused)",
    ),
    _rule(
        "pull access denied|manifest unknown|manifest for.*not found",
        "an image can't be pulled: {quote}",
        "the base image of a function that is not of this collection must be built first, or be in a registry",
        r'(?:pull access denied for|manifest for|manifest unknown:?) [^ ,"\\\n]+',
    ),
    _rule(
        "certificate.*verify failed|x509: certificate",
        "a certificate of the network is not trusted in the build",
        "make a Python image with your company's certificate and pass it: --python IMAGE (docs/deploy.md)",
    ),
    _rule(
        "being provisioned",
        "Nuclio is still deploying it, from an earlier or another run",
        "wait for that run to end; if nothing is running: nuctl delete function NAME --force",
    ),
    _rule(
        "Killed|exit status 137|non-zero code: 137|exit code: 137",
        "out of memory while it was built or started",
        "give Docker more memory, or deploy fewer functions at a time (--jobs 1)",
    ),
)


def _known(text: str) -> DeploymentError | None:
    remedy = store_remedy(Done(1, text))
    if _STORE.search(text) and "docker load" in remedy:
        return DeploymentError("nuctl can't start the container in which it keeps its records", remedy)
    for rule in _RULES:
        if rule.pattern.search(text):
            quote = rule.quote.search(text)
            words = (quote[1] if quote.re.groups else quote[0]) if quote else ""
            cause = rule.cause.format(quote=shortened(words.strip(" :"), _LONGEST_QUOTE))
            return DeploymentError(cause.rstrip(": "), rule.remedy)
    return None


def _out_of_memory(container: Container, when: str) -> DeploymentError:
    cause = f"out of memory: the kernel ended the function {when}"
    if container.memory_limit:
        limit = _amount(container.memory_limit)
        cause = f"out of memory: the function took more than its limit of {limit} {when}"
    return DeploymentError(cause, _more_memory(container))


def _more_memory(container: Container | None) -> str:
    more = "give Docker more memory (--memory AMOUNT keeps a function from taking all of it)"
    if container and container.memory_limit:
        limit = _amount(container.memory_limit)
        more = f"give it more than {limit}: --memory AMOUNT, or resources.limits.memory in its function.yaml"
    return f"{more}; or take a smaller model (--env VARIANT=...) or fewer workers (numWorkers in function.yaml)"


def _amount(memory_bytes: int) -> str:
    """As --memory has it, such as 2Gi."""
    for factor, unit in ((1 << 30, "Gi"), (1 << 20, "Mi")):
        if memory_bytes >= factor:
            return f"{memory_bytes / factor:.4g}{unit}"
    return str(memory_bytes)


def _init_error(log: str) -> str:
    """The exception of init_context, or of main.py while it was imported; "" when the log has none."""
    for pattern in _LOGGED:
        match = pattern.search(log)
        if match:
            text = match[1].replace('\\"', '"').replace("\\n", " ").replace("\\\\", "\\")
            return text[len("StartupError: ") :] if text.startswith("StartupError: ") else text
    printed = _PRINTED.findall(log)
    return printed[-1] if printed else ""


def _remedy_of_init(error: str, mounted: bool) -> str:
    if "No module named" in error:
        return "add the package to the function's requirements.txt, then deploy again"
    if "can't load it" in error:
        return "the file is damaged, or of another format than the function takes"
    if re.search(r"(?<!/)\bweights\b(?!/)|MODEL_PATH", error):
        if not mounted:
            return "mount them with --weights DIR, or let the build fetch them (network)"
        absent = _ABSENT_WEIGHTS.search(error)
        file, variant = absent.groups() if absent else ("<file of weights.yaml>", "<variant>")
        return _LAYOUT.format(variant=variant, file=file)
    if re.search("CUDA|cuda|GPU", error):
        return "nvidia-smi on this machine shows the driver; without a GPU: ./deploy_cpu.sh"
    return "an option of the function is set with --env NAME=VALUE, or in spec.env of its function.yaml"


def _ended(said: str, log: str, container: Container | None) -> DeploymentError | None:
    """A function that ended without an exception, or was not ready in time."""
    words = _own_words(log)
    python = _PYTHON_ENDED.search(log) or _PYTHON_ENDED.search(said)
    if python:
        where = "in init_context" if _INIT_BEGAN in log else "while main.py was imported"
        how = f"ended with {python[1]}" if python[1] else f"was ended by a signal ({python[2].strip()})"
        cause = f"the function's Python process {how} {where}{words}"
        remedy = _remedy_of_signal(python[2] or "", container)
        if not remedy and not words and container and _INIT_BEGAN not in log:
            remedy = f"docker run --rm --workdir {FUNCTION_FOLDER} --entrypoint python {container.image} -c 'import main' may show more"
        return DeploymentError(cause, remedy)
    status = _CONTAINER_ENDED.search(said)
    if container and container.error:
        return DeploymentError(f"Docker can't start it: {container.error}")
    if container and (container.restarts or container.status in _HAS_ENDED):
        return _processor_ended(int(status[1]) if status else None, container, log, words)
    if status:
        return DeploymentError(f"the processor ended with status {status[1]}{words}")
    if _NOT_IN_TIME.search(said):
        return DeploymentError(
            "it was not ready in time, and its log does not say why",
            "a big model on a slow disk needs longer: raise readinessTimeoutSeconds in its function.yaml",
        )
    return None


def _processor_ended(status: int | None, container: Container, log: str, words: str) -> DeploymentError:
    """A function whose Python process is not known to have ended.

    Args:
        status: That nuctl saw.
        container: The container.
        log: Its log.
        words: The last words of its log, after a colon.
    """
    where = "in init_context" if _INIT_BEGAN in log else "before init_context"
    again = f", {container.restarts + 1} times" if container.restarts else ""
    if container.restarts:
        # It is stopped then, so that nuctl gives up, and nuctl sees that end of it.
        status = container.exit_code if container.status in _HAS_ENDED else None
    elif status is None:
        status = container.exit_code
    if status is None or (container.restarts and status in (_KILLED, _TERMINATED)):
        remedy = _more_memory(container) if container.memory_limit and not words else ""
        return DeploymentError(
            f"the processor ended {where}{again}{words}", remedy and f"if it lacked memory, {remedy}"
        )
    remedy = _remedy_of_signal("killed", container) if status == _KILLED else ""
    return DeploymentError(f"the processor ended with status {status} {where}{again}{words}", remedy)


def _remedy_of_signal(signal: str, container: Container | None) -> str:
    if "killed" in signal:
        return f"most often it was out of memory: {_more_memory(container)}"
    if "illegal instruction" in signal:
        return "a package was built for a newer CPU than this one: take another version of it"
    if signal:
        return "a package crashed in its native code: take another version of it"
    return ""


def _own_words(log: str) -> str:
    """The last line of a container's log that is not Nuclio's, after a colon; "" if Nuclio alone has written."""
    lines = [line for line in log_end(log) if not re.search(r"\(([WE])\) ", line)]
    return f": {last_words(lines[-1])}" if lines else ""


def _unknown(said: str, log: str) -> DeploymentError:
    command = _BUILD_COMMAND.search(said)
    if command:
        printed = _BUILD_OUTPUT.findall(said)
        words = f": {last_words(printed[-1])}" if printed and last_words(printed[-1]) else ""
        step = shortened(command[1] or command[3], 100)
        return DeploymentError(f"a command of the build failed with status {command[2] or command[4]}: {step}{words}")
    failures = _FAILURE.findall(f"{said}\n{log}")
    root = _ROOT_CAUSE.search(said)
    cause = failures[-1] if failures else root[1] if root else last_words(said)
    return DeploymentError(shortened(cause.strip(), 300) or "nuctl failed without a message")


def _said(log: str) -> str:
    """A log without the lines of Nuclio that say nothing of a failure."""
    return "\n".join(line for line in _plain(log).splitlines() if not _NUCLIO.search(line))


def _plain(log: str) -> str:
    return _COLOURS.sub("", log)
