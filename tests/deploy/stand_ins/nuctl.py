"""Stands in for nuctl: records each call, keeps projects and functions in the world's folder, and refuses what nuctl refuses.

Python code in these files of the world runs at its moment, with the names of `_run_hook`:

    on_build/NAME      in the middle of a build
    before_deploy/NAME in `nuctl deploy`, before the function's record is touched
    on_building/NAME   the record's state is `building`, the old container still runs
    on_deleted/NAME    the old container has been removed
    on_deploy/NAME     the new container has been started; the function isn't ready yet
    after_deploy/NAME  the function is ready; `content` is its status, which the code may change
"""

from __future__ import annotations

import os
import signal
import sys
import time

from world import STORE_IMAGE, dumps, here, loads

WORLD = here()
# As `nuctl COMMAND --help` has them: whether an option takes a value.
_COMMON = {"--platform": True, "--namespace": True, "-n": True, "--verbose": False, "-v": False}
_BUILD = {
    **dict.fromkeys(
        ("--path", "--file", "--image", "--base-image", "--onbuild-image", "--registry", "--handler"), True
    ),
    **dict.fromkeys(("--no-pull", "--no-cleanup", "--offline"), False),
}
_OPTIONS = {
    "version": {},
    "get": {"-o": True, "--output": True, "-l": True, "--labels": True},
    "create": {},
    "delete": {"--force": False},
    "build": _BUILD,
    "deploy": {
        **_BUILD,
        "--project-name": True,
        "--run-image": True,
        "--run-registry": True,
        "--readiness-timeout": True,
    },
}
_UNDER_WAY = ("building", "waitingForBuild", "waitingForResourceConfiguration", "configuringResources")


def fail(message: str) -> None:
    raise Failure(message)


class Failure(Exception):
    """What nuctl prints before it fails."""


class Call:
    """A call's words and options."""

    def __init__(self, arguments: list[str]):
        self.words: list[str] = []
        self.options: dict[str, list[str]] = {}
        known = {**_COMMON, **_OPTIONS.get(arguments[0], {})}
        rest = list(arguments)
        while rest:
            word = rest.pop(0)
            name, equals, value = word.partition("=")
            if not word.startswith("-"):
                self.words.append(word)
            elif name not in known:
                fail(f"unknown flag: {name}")
            elif known[name]:
                self.options.setdefault(name, []).append(value if equals else rest.pop(0))
            else:
                self.options.setdefault(name, []).append("")

    def option(self, *names: str) -> str:
        """The last value: nuctl takes no other."""
        found = [value for name in names for value in self.options.get(name, [])]
        return found[-1] if found else ""

    @property
    def on_docker(self) -> bool:
        return self.option("--platform") != "kube"

    def container_of(self, name: str) -> str:
        return f"nuclio-{self.option('--namespace', '-n') or 'nuclio'}-{name}"


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nuctl ends at once
    WORLD.record_call(f"nuctl {' '.join(arguments)}")
    try:
        call = Call(arguments)
        if call.words[:1] != ["version"] and call.words[:1] != ["build"] and call.on_docker:
            _need_store()
        commands = {
            ("version",): _version,
            ("get", "projects"): _get_projects,
            ("get", "project"): _get_projects,
            ("get", "function"): _get_functions,
            ("get", "functions"): _get_functions,
            ("create", "project"): _create_project,
            ("delete", "function"): _delete,
            ("build",): _build,
            ("deploy",): _deploy,
        }
        key = tuple(call.words[:2]) if call.words[0] in ("get", "create", "delete") else tuple(call.words[:1])
        if key not in commands:
            fail(f"the stand-in for nuctl does not know: {' '.join(arguments)}")
        commands[key](call)
    except Failure as failure:
        print(f"Error - {failure}", file=sys.stderr)
        return 1
    return 0


def _need_store() -> None:
    """nuctl keeps its records in a container, which it starts when it doesn't run, and whose image it pulls then."""
    said = WORLD.fact("store_fails")
    if not said and (WORLD.has("store_runs") or WORLD.image(STORE_IMAGE)):
        WORLD.set("store_runs")
        return
    print(f"Unable to find image '{STORE_IMAGE}' locally", file=sys.stderr)
    said = said or "docker: Error response from daemon: Get https://gcr.io/v2/: dial tcp: lookup gcr.io: no such host."
    fail(f"exit status 125\n    /nuclio/pkg/cmdrunner/shellrunner.go:96\n\nCall stack:\nstdout:\n\nstderr:\n{said}\n")


def _version(_: Call) -> None:
    label = WORLD.fact("nuctl_version")
    print(f'Client version:\n"Label: {label}, Git commit: 0, OS: linux, Arch: amd64, Go version: go1.23"')


def _get_projects(call: Call) -> None:
    if said := WORLD.fact("cluster_fails"):
        fail(said)
    if len(call.words) > 2 and not WORLD.has(f"projects/{call.words[2]}"):
        print("No projects found", end="")
        raise SystemExit(1)


def _get_functions(call: Call) -> None:
    labels = dict(pair.partition("=")[::2] for pair in call.option("-l", "--labels").split(",") if pair)
    name = call.words[2] if len(call.words) > 2 else ""
    found = [
        record
        for record in WORLD.records()
        if name in ("", record["metadata"]["name"])
        and labels.items() <= (record["metadata"].get("labels") or {}).items()
    ]
    if not found:
        print("No functions found", end="" if name else "\n")
        raise SystemExit(1 if name else 0)
    if call.option("-o", "--output") == "json":
        print(dumps(found if len(found) > 1 else found[0]))
        return
    print("NAMESPACE | NAME | PROJECT | STATE | REPLICAS | NODE PORT")
    for record in found:
        status = record["status"]
        print(
            f"nuclio | {record['metadata']['name']} | cvat | {status.get('state')} | 1/1 | {status.get('httpPort', 0)}"
        )


def _create_project(call: Call) -> None:
    WORLD.set(f"projects/{call.words[2]}")


def _delete(call: Call) -> None:
    name = call.words[2]
    record = WORLD.record(name)
    if record is None:
        return
    if record["status"].get("state") in _UNDER_WAY and "--force" not in call.options:
        fail("Function is being provisioned and cannot be deleted")
    WORLD.remove_record(name)
    WORLD.remove_container(call.container_of(name))


def _build(call: Call) -> None:
    name = call.words[1]
    import shutil
    import tempfile

    directory, file = call.option("--path"), call.option("--file")
    if not os.path.isdir(directory) or os.path.islink(directory):
        fail(f"{directory} is not a directory, or a link")
    if not os.path.isfile(file):
        fail(f"{file}: no such file or directory")
    base = call.option("--base-image")
    if base and call.on_docker and WORLD.image(base) is None:
        fail(f"pull access denied for {base}, repository does not exist or may require 'docker login'")
    staging = tempfile.mkdtemp(prefix="nuclio-build-")
    built = WORLD.path("built", name)
    shutil.rmtree(built, ignore_errors=True)
    shutil.copytree(directory, built)
    print(f"Building image {call.option('--image')}")
    _run_hook("on_build", name, call, {})
    WORLD.add_image(call.option("--image"), {"base": base})
    shutil.rmtree(staging)


def _deploy(call: Call) -> None:
    content = read(call.option("--file"))
    name = content["metadata"]["name"]
    project = call.option("--project-name")
    if not WORLD.has(f"projects/{project}"):
        fail("Project does not exist")
    number = 1 + sum(each.startswith(f"{name}.") for each in WORLD.names("deployed"))
    kept = {"options": {key: value[-1] for key, value in call.options.items()}, "content": content}
    WORLD.set(f"deployed/{name}.{number}.json", dumps(kept))
    if not call.option("--run-image"):
        fail("the stand-in deploys only what was built before: --run-image is missing")
    if (content["spec"].get("build") or {}).get("image"):
        fail("builds all the same, as spec.build.image is set")
    _run_hook("before_deploy", name, call, content, number)
    old = WORLD.record(name)
    if old and old["status"].get("state") in _UNDER_WAY:
        fail("Function cannot be updated when existing function is being provisioned")
    record = _record(call, content)
    _save(record, "building")
    try:
        _start(call, name, record, number)
    except Failure as failure:
        _save(record, "error", message=str(failure))
        raise
    status = {"state": "ready", "httpPort": _port(record) if call.on_docker else 0}
    _run_hook("after_deploy", name, call, status, number)
    _save(record, **status)


def _start(call: Call, name: str, record: dict, number: int) -> None:
    spec = record["spec"]
    _run_hook("on_building", name, call, record, number)
    if not call.on_docker:
        _run_hook("on_deploy", name, call, record, number)
        return
    container = call.container_of(name)
    WORLD.remove_container(container)
    _run_hook("on_deleted", name, call, record, number)
    image = WORLD.image(spec["image"])
    if image is None:
        fail(f"exit status 125\ndocker: Error response from daemon: pull access denied for {spec['image']}")
    network = (spec.get("platform", {}).get("attributes") or {}).get("network", "")
    if network and not WORLD.has(f"networks/{network}"):
        fail(f"exit status 125\ndocker: Error response from daemon: network {network} not found.")
    identifier = f"new-{name}-{number}"
    facts = {"port": _port(record), "image": spec["image"], "image_id": image["Id"], "network": network}
    WORLD.set_container(container, id=identifier, **facts, log="started", running=True, restarts=0, oom=False)
    _run_hook("on_deploy", name, call, record, number)


def _record(call: Call, content: dict) -> dict:
    """What Nuclio keeps of a function: with its project, and with defaults where the file says nothing."""
    metadata, spec = {**content["metadata"]}, loads(dumps(content["spec"]))
    metadata["namespace"] = call.option("--namespace", "-n") or "nuclio"
    metadata["labels"] = {**(metadata.get("labels") or {}), "nuclio.io/project-name": call.option("--project-name")}
    image, registry = call.option("--run-image"), call.option("--run-registry")
    if registry and not call.on_docker and not image.startswith(f"{registry}/"):
        image = f"{registry}/{image}"
    spec["image"] = image
    spec["build"] = {
        "functionConfigPath": call.option("--file"),
        "codeEntryType": "image",
        "timestamp": int(time.time()),
    }
    for trigger_name, trigger in (spec.get("triggers") or {}).items():
        trigger.update(name=trigger_name, **{"class": ""})
    spec.setdefault("targetCPU", 75)
    return {"metadata": metadata, "spec": spec}


def _save(record: dict, state: str, **status: object) -> None:
    # nuctl writes a file into its working directory, and copies it into the container of its store.
    part = f"nuclio-contents-temp-file-{os.getpid()}"
    with open(part, "w"):
        WORLD.set_record({**record, "status": {"state": state, **status}})
    os.unlink(part)


def _port(record: dict) -> int:
    triggers = (record["spec"].get("triggers") or {}).values()
    ports = [(t.get("attributes") or {}).get("port") for t in triggers if t.get("kind") == "http"]
    return int(ports[0] or 0) if ports else 0


def _run_hook(moment: str, name: str, call: Call, content: dict, times: int = 1) -> None:
    """times: the number of this deployment of the function."""
    code = WORLD.fact(f"{moment}/{name}")
    if not code:
        return
    container = call.container_of(name)

    def set_container(**facts: object) -> None:
        WORLD.set_container(container, **facts)

    def wait_until(condition) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            if time.monotonic() > deadline:
                fail("the test waited in vain")
            time.sleep(0.02)

    names = {
        "world": WORLD,
        "name": name,
        "container": container,
        "content": content,
        "option": call.option,
        "times": times,
        "fail": fail,
        "sleep": time.sleep,
        "set_container": set_container,
        "wait_until": wait_until,
    }
    exec(compile(code, f"{moment}/{name}", "exec"), names)


def read(path: str) -> dict:
    """A function.yaml, of YAML or JSON."""
    with open(path) as file:
        text = file.read()
    import json

    try:
        return json.loads(text)
    except ValueError:
        sys.path.append(os.environ["SITE_PACKAGES"])
        import yaml

        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
