"""Stands in for docker: records each call, and keeps images, networks and containers in the world's folder."""

from __future__ import annotations

import io
import os
import sys
import time

from world import STORE, dumps, here, loads, with_tag

WORLD = here()
_WITH_VALUE = {
    *("--user", "--network", "--env", "-e", "--mount", "--volume", "-v", "--entrypoint", "--gpus", "--name", "--tail"),
    *("--time", "-t", "--tag", "--build-arg", "--label", "--file", "-f", "--format", "--filter", "--type", "--restart"),
    *("--workdir", "-w", "--memory", "--cpus", "--platform", "--progress", "--publish", "-p"),
}


class Failure(Exception):
    """What docker prints to stderr before it fails."""

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


def main(arguments: list[str]) -> int:
    WORLD.record_call(f"docker {' '.join(arguments)}")
    if fails := WORLD.fact("docker_fails"):
        print(fails, file=sys.stderr)
        return 1
    words = (
        arguments[:2]
        if arguments[0] in ("image", "network", "container", "buildx", "context", "system")
        else arguments[:1]
    )
    command = COMMANDS.get(" ".join(words))
    if command is None:
        print(f"the stand-in for docker does not know: {' '.join(arguments)}", file=sys.stderr)
        return 99
    try:
        command(Arguments(arguments[len(words) :]))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return failure.status
    return 0


class Arguments:
    """options: values by name, a list for each. names: what is not an option, after `run`'s image all of it."""

    def __init__(self, words: list[str], *, until_first: bool = False):
        self.words, self.options, self.names = words, {}, []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if not word.startswith("-") or word == "-":
                self.names.append(word)
                if until_first:
                    self.names += rest
                    break
            elif "=" in word:
                name, _, value = word.partition("=")
                self.options.setdefault(name, []).append(value)
            else:
                self.options.setdefault(word, []).append(rest.pop(0) if word in _WITH_VALUE else "")

    def option(self, *names: str) -> str:
        found = [value for name in names for value in self.options.get(name, [])]
        return found[-1] if found else ""

    def pairs(self, name: str) -> dict[str, str]:
        return dict(value.partition("=")[::2] for value in self.options.get(name, []))


def show(template: str, item: object) -> str:
    """A template of Go, as far as the deployment uses them."""
    if not template:
        return dumps([item])
    if template == "json" or template == "{{json .}}":
        return dumps(item)

    shown = ""
    for number, part in enumerate(template.removeprefix("table ").replace("}}", "{{").split("{{")):
        shown += _value(part.split(), item) if number % 2 else part
    return shown.replace("\\t", "\t")


def _value(words: list[str], item: object) -> str:
    found = item
    for key in filter(None, words[min(1, len(words) - 1)].split(".")):
        if not isinstance(found, dict) or key not in found:
            raise Failure(f"template parsing error: map has no entry for key {key!r}")
        found = found[key]
    if words[0] == "index":
        for key in words[2:]:
            found = (found or {}).get(key.strip('"'), "")
    return dumps(found) if words[0] == "json" or isinstance(found, bool) else str(found)


def version(arguments: Arguments) -> None:
    print(show(arguments.option("--format", "-f"), {"Server": {"Version": "28.2.2"}, "Client": {"Version": "28.2.2"}}))


def info(arguments: Arguments) -> None:
    root = WORLD.fact("docker_root")
    print(
        show(arguments.option("--format", "-f"), {"DockerRootDir": root, "Architecture": "x86_64", "OSType": "linux"})
    )


def buildx_inspect(_: Arguments) -> None:
    print(f"Name: default\nDriver: {WORLD.fact('builder') or 'docker'}")


def context_show(_: Arguments) -> None:
    print("default")


def network_inspect(arguments: Arguments) -> None:
    name = arguments.names[-1]
    if not WORLD.has(f"networks/{name}"):
        raise Failure(f"Error response from daemon: network {name} not found")
    members = WORLD.fact(f"networks/{name}").split()
    print(show(arguments.option("-f", "--format"), {"Name": name, "Containers": {n: {"Name": n} for n in members}}))


def network_create(arguments: Arguments) -> None:
    WORLD.set(f"networks/{arguments.names[-1]}")


def network_ls(_: Arguments) -> None:
    print(WORLD.fact("other_network"))


def ps(arguments: Arguments) -> None:
    for name in WORLD.container_names():
        container = WORLD.container(name)
        if not container["State"]["Running"] and not {"--all", "-a"} & arguments.options.keys():
            continue
        wanted = arguments.option("--filter")
        if wanted == "label=nuclio.io/project-name=cvat" and not name.startswith("nuclio-nuclio-"):
            continue
        if {"--quiet", "-q"} & arguments.options.keys():
            print(container["Id"])
        else:
            row = {
                "Names": name,
                "Image": container["Config"]["Image"],
                "Status": "Up 5 minutes",
                "Ports": "",
                "Size": "",
            }
            print(show(arguments.option("--format"), row))


def inspect(arguments: Arguments) -> None:
    template, found, lacking = arguments.option("-f", "--format"), [], []
    for name in arguments.names:
        container = WORLD.container(name)
        (found if container else lacking).append(container or name)
    if template:
        for container in found:
            print(show(template, container))
    else:
        print(dumps(found))
    if lacking:
        raise Failure("\n".join(f"Error: No such container: {name}" for name in lacking))


def image_inspect(arguments: Arguments) -> None:
    for name in arguments.names:
        image = WORLD.image(name)
        if image is None:
            raise Failure(f"Error response from daemon: No such image: {with_tag(name)}")
        print(show(arguments.option("-f", "--format"), image))


def images(arguments: Arguments) -> None:
    wanted = arguments.names[0] if arguments.names else arguments.option("--filter").removeprefix("reference=")
    for name, image in WORLD.images().items():
        repository, _, tag = name.rpartition(":")
        if wanted in ("", name, repository, f"{repository}:*"):
            row = {"Repository": repository, "Tag": tag, "ID": image["Id"], "Size": "812MB", "CreatedAt": ""}
            print(show(arguments.option("--format"), row))


def image_rm(arguments: Arguments) -> None:
    for name in arguments.names:
        image = WORLD.image(name)
        if image is None:
            raise Failure(f"Error response from daemon: No such image: {with_tag(name)}")
        tags = [tag for tag, other in WORLD.images().items() if other["Id"] == image["Id"]]
        users = [c for c in map(WORLD.container, WORLD.names("containers")) if c and c["Image"] == image["Id"]]
        if len(tags) == 1 and users and not {"--force", "-f"} & arguments.options.keys():
            raise Failure(
                f'Error response from daemon: conflict: unable to remove repository reference "{name}" (must force)'
            )
        WORLD.untag(name)
        print(f"Untagged: {with_tag(name)}")


def build(arguments: Arguments) -> None:
    import re
    import tarfile

    dockerfile = ""
    if arguments.names[-1:] == ["-"]:
        try:
            with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())) as context:
                WORLD.set("context", "\n".join(context.getnames()))
                dockerfile = context.extractfile("Dockerfile").read().decode()
        except (tarfile.TarError, KeyError) as error:
            raise Failure(f"unexpected EOF: {error}") from error
    time.sleep(float(WORLD.fact("build_takes") or 0))
    if fails := WORLD.fact("build_fails"):
        raise Failure(fails)
    print("Step 1/1 : FROM ${PYTHON_IMAGE}\nSuccessfully built")
    given = arguments.pairs("--build-arg")
    labels = re.findall(r"([\w.-]+)=\$\{(\w+)\}", " ".join(re.findall("^LABEL (.*)", dockerfile, re.MULTILINE)))
    WORLD.add_image(arguments.option("-t", "--tag"), {name: given.get(variable, "") for name, variable in labels})


def tag(arguments: Arguments) -> None:
    source, target = arguments.names
    image = WORLD.image(source)
    if image is None:
        raise Failure(f"Error response from daemon: No such image: {with_tag(source)}")
    WORLD.tag(image, target)


def push(_: Arguments) -> None:
    if fails := WORLD.fact("push_fails"):
        raise Failure(fails)


def pull(arguments: Arguments) -> None:
    if fails := WORLD.fact("pull_fails"):
        raise Failure(fails)
    WORLD.add_image(arguments.names[-1])


def logs(arguments: Arguments) -> None:
    name = arguments.names[-1]
    if WORLD.container(name) is None:
        raise Failure(f"Error: No such container: {name}")
    print(WORLD.fact(f"containers/{name}/log"))


def update(arguments: Arguments) -> None:
    for name in arguments.names:
        WORLD.set_container(name, restart=arguments.option("--restart") or "no")


def stop(arguments: Arguments) -> None:
    for name in arguments.names:
        WORLD.set_container(name, running=False)


def start(arguments: Arguments) -> None:
    for name in arguments.names:
        WORLD.set_container(name, running=True)


def exec_in(arguments: Arguments) -> None:
    """Nuclio's record of a function is written into the container of its store."""
    import base64
    import json

    container, path = arguments.names[0], arguments.names[-1]
    data = sys.stdin.buffer.read()
    if container != STORE or not WORLD.has("store_runs"):
        raise Failure(f"Error: No such container: {container}")
    if fails := WORLD.fact("exec_fails"):
        raise Failure(fails)
    record = json.loads(base64.b64decode(data, validate=False))
    if path != f"/etc/nuclio/store/functions/nuclio/{record['metadata']['name']}.json":
        raise Failure(f"sh: can't create {path}: nonexistent directory")
    WORLD.set_record(record)


def save(arguments: Arguments) -> None:
    found = {}
    for name in arguments.names:
        image = WORLD.image(name)
        if image is None:
            raise Failure(f"Error response from daemon: reference does not exist: {name}")
        found[with_tag(name)] = image
    print(dumps(found))


def load(arguments: Arguments) -> None:
    source = arguments.option("-i", "--input")
    data = open(source, "rb").read() if source else sys.stdin.buffer.read()  # noqa: SIM115
    if data[:2] == b"\x1f\x8b":
        import gzip

        data = gzip.decompress(data)
    if fails := WORLD.fact("load_fails"):
        raise Failure(fails)
    for name, image in loads(data.decode()).items():
        WORLD.tag(image, name)
        print(f"Loaded image: {name}")


def run(arguments: Arguments) -> None:
    given = Arguments(arguments.words, until_first=True)
    image, *command = given.names
    whole = " ".join(arguments.words)
    if "nvidia-smi" in whole:
        if fails := WORLD.fact("gpu_fails"):
            raise Failure(fails, 125)
        print("GPU 0: NVIDIA H200 (UUID: GPU-1)")
    elif "common.networks.weights" in whole:
        time.sleep(float(WORLD.fact("weights_take") or 0))
        if fails := WORLD.fact("weights_fail"):
            print(fails)
            raise Failure("", 1)
        print("model.onnx: fetched, 12.2 MB in 1.0 s, SHA-256 0123")
    elif "check_reply" in whole:
        _check_reply(image, command)
    elif WORLD.image(image) is None and not image.startswith("python:"):
        raise Failure(
            f"Unable to find image '{image}' locally\ndocker: Error response from daemon: pull access denied.", 125
        )
    else:
        print(WORLD.fact("run_prints"))


def _check_reply(image: str, command: list[str]) -> None:
    """What would run in the container runs here, with the real checks; of the archive only the replies are unpacked."""
    import subprocess
    import tarfile
    import tempfile

    data = sys.stdin.buffer.read()
    if WORLD.image(image) is None:
        raise Failure(f"Unable to find image '{image}' locally", 125)
    if WORLD.has("no_common"):
        raise Failure("", 86)
    folder = tempfile.mkdtemp(prefix="check.", dir=WORLD.folder)
    with tarfile.open(fileobj=io.BytesIO(data)) as content:
        content.extractall(folder, [member for member in content if "/" not in member.name])
        script = content.extractfile("deploy/check_reply.py").read()
    environment = {**os.environ, "PYTHONPATH": os.environ["REPOSITORY"]}
    routes = command[command.index("check") + 1 :]
    words = [os.environ["CHECK_PYTHON"], "-c", script.decode(), *routes]
    done = subprocess.run(words, cwd=folder, env=environment)
    if done.returncode:
        raise Failure("", done.returncode)


COMMANDS = {
    "version": version,
    "info": info,
    "buildx inspect": buildx_inspect,
    "context show": context_show,
    "network inspect": network_inspect,
    "network create": network_create,
    "network ls": network_ls,
    "ps": ps,
    "inspect": inspect,
    "container inspect": inspect,
    "image inspect": image_inspect,
    "images": images,
    "image ls": images,
    "image rm": image_rm,
    "rmi": image_rm,
    "build": build,
    "image tag": tag,
    "tag": tag,
    "push": push,
    "pull": pull,
    "logs": logs,
    "update": update,
    "stop": stop,
    "start": start,
    "exec": exec_in,
    "save": save,
    "load": load,
    "run": run,
}
