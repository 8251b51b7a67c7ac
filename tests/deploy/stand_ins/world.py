"""The made-up world of the stand-ins: files in one folder, which a test sets, and which docker, nuctl and the network change.

calls                what was called, one line for each call: "docker ...", "nuctl ...", "http GET http://..."
images/NAME          one tag of an image, as JSON ("/" in it is written "%")
containers/NAME/     the facts of a container, a file for each: id, image, image_id, port, running, restarts, oom, log, ...
functions/NAME.json  what Nuclio keeps of a function: metadata, spec, status
deployed/NAME.N.json what the N-th `nuctl deploy` of a function was given: options, and the content of the file
networks/NAME        the names of the containers in a network
replies/NAME         what a function answers; NAME.status its status, NAME.takes how long it needs,
                     NAME.dashboard what it answers through the dashboard
on_*/NAME            Python code that runs at a certain moment of a build or a deployment (nuctl.py)
"""

from __future__ import annotations

import os
from _json import encode_basestring_ascii  # Python's json takes longer to import than all else here

DASHBOARD = "nuclio"
STORE = "nuclio-local-storage-reader"
STORE_IMAGE = "gcr.io/iguazio/alpine:3.20"
DASHBOARD_ADDRESS = "172.30.0.5"


class World:
    """The folder, and what is in it."""

    def __init__(self, folder: object):
        self.folder = str(folder)

    def path(self, *names: str) -> str:
        return os.path.join(self.folder, *names)

    def record_call(self, line: str) -> None:
        with open(self.path("calls"), "a") as calls:
            calls.write(line + "\n")

    def fact(self, name: str) -> str:
        """A fact's text, "" when it isn't there."""
        try:
            with open(self.path(name)) as file:
                return file.read().strip()
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def has(self, name: str) -> bool:
        return os.path.exists(self.path(name))

    def set(self, name: str, text: str = "") -> None:
        folder, file = os.path.split(self.path(name))
        os.makedirs(folder, exist_ok=True)
        # Others read it at any time: all of it or nothing.
        part = os.path.join(folder, f".{file}.{os.getpid()}")
        with open(part, "w") as written:
            written.write(text)
        os.rename(part, os.path.join(folder, file))

    def unset(self, name: str) -> None:
        if os.path.lexists(self.path(name)):
            os.unlink(self.path(name))

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.path(folder)) if not name.startswith("."))
        except FileNotFoundError:
            return []

    # Images.

    def image(self, name: str) -> dict | None:
        """What `docker image inspect` shows of an image, by name or by id."""
        if name.startswith("sha256:"):
            return next((i for i in self.images().values() if i["Id"] == name), None)
        text = self.fact(f"images/{_file_name(name)}")
        return loads(text) if text else None

    def images(self) -> dict[str, dict]:
        """All tags with the images that they mean."""
        return {name.replace("%", "/"): loads(self.fact(f"images/{name}")) for name in self.names("images")}

    def add_image(self, name: str, labels: dict[str, str] | None = None, identifier: str = "") -> str:
        """Makes an image, or moves a tag to a new one; returns its id."""
        identifier = identifier or f"sha256:{os.urandom(32).hex()}"
        content = {"Id": identifier, "Size": 812345678, "Config": {"Labels": labels or {}}}
        self.set(f"images/{_file_name(name)}", dumps(content))
        return identifier

    def tag(self, image: dict, name: str) -> None:
        self.set(f"images/{_file_name(name)}", dumps(image))

    def untag(self, name: str) -> None:
        self.unset(f"images/{_file_name(name)}")

    # Containers.

    def container_names(self) -> list[str]:
        """All containers: those of functions, and those of CVAT and Nuclio, which follow from other facts."""
        names = {*self.names("containers"), *([STORE] if self.has("store_runs") else [])}
        names.update(name for network in self.names("networks") for name in self.fact(f"networks/{network}").split())
        if self.has("dashboard"):
            names.add(DASHBOARD)
        else:
            names.discard(DASHBOARD)
        return sorted(names)

    def container(self, name: str) -> dict | None:
        """What `docker inspect` shows of a container, by name or by id."""
        if name in self.container_names():
            return self._described(name)
        return next((c for c in map(self._described, self.container_names()) if c["Id"] == name), None)

    def _described(self, name: str) -> dict:
        def fact(key: str, default: str = "") -> str:
            return self.fact(f"containers/{name}/{key}") or default

        is_function = name in self.names("containers")
        inner = "8080/tcp" if is_function else "8070/tcp"
        port = fact("port") if is_function else "8070" if name == DASHBOARD and not self.has("unpublished") else ""
        image = fact("image", "cvat.image")
        if name == DASHBOARD:
            image = f"quay.io/nuclio/dashboard:{self.fact('dashboard')}-amd64"
        elif name == STORE:
            image = STORE_IMAGE
        running = fact("running", "true") == "true"
        networks = {}
        for network in self.names("networks"):
            if name in self.fact(f"networks/{network}").split() or network == fact("network"):
                networks[network] = {"IPAddress": DASHBOARD_ADDRESS if running else ""}
        bindings = {inner: [{"HostIp": "", "HostPort": port}]} if port else {}
        published = [{"HostIp": "0.0.0.0", "HostPort": port if port != "0" else "32768"}]
        return {
            "Id": fact("id", f"id-of-{name}"),
            "Name": f"/{name}",
            "Image": fact("image_id", f"sha256:of-{image}"),
            "RestartCount": int(fact("restarts", "0")),
            "State": {
                "Status": "running" if running else "exited",
                "Running": running,
                "OOMKilled": fact("oom") == "true",
                "ExitCode": int(fact("exit_code", "0")),
                "Error": fact("error"),
                "StartedAt": "2026-11-21T10:00:00Z",
                "Health": {"Status": fact("health", "healthy"), "Log": []},
            },
            "HostConfig": {
                "PortBindings": bindings,
                "RestartPolicy": {"Name": fact("restart", "always")},
                "LogConfig": {"Type": "json-file", "Config": {}},
            },
            "Config": {"Image": image, "Labels": {}, "Healthcheck": {"Interval": 10**9}},
            "NetworkSettings": {"Ports": {inner: published} if port and running else {}, "Networks": networks},
        }

    def set_container(self, name: str, **facts: object) -> None:
        for key, value in facts.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            self.set(f"containers/{name}/{key}", text)

    def remove_container(self, name: str) -> None:
        folder = self.path("containers", name)
        for fact in os.listdir(folder) if os.path.isdir(folder) else ():
            os.unlink(os.path.join(folder, fact))
        if os.path.isdir(folder):
            os.rmdir(folder)

    # Functions, as Nuclio keeps them.

    def record(self, name: str) -> dict | None:
        text = self.fact(f"functions/{name}.json")
        return loads(text) if text else None

    def records(self) -> list[dict]:
        found = (self.record(name.removesuffix(".json")) for name in self.names("functions"))
        return [record for record in found if record]

    def set_record(self, record: dict) -> None:
        self.set(f"functions/{record['metadata']['name']}.json", dumps(record))

    def remove_record(self, name: str) -> None:
        self.unset(f"functions/{name}.json")

    # The network.

    def function_at(self, port: int) -> str:
        """The container of a function that answers on a port of the host; "" for none."""
        for name in self.names("containers"):
            if self.fact(f"containers/{name}/port") == str(port) and self.fact(f"containers/{name}/running") != "false":
                return name
        return ""

    def is_dashboard(self, host: str, port: int) -> bool:
        """Whether Nuclio's dashboard answers at an address."""
        if (not self.has("dashboard") and not self.has("cluster_dashboard")) or self.has("unreachable") or port != 8070:
            return False
        published = host in ("127.0.0.1", "localhost") and not self.has("unpublished")
        return published or host == DASHBOARD_ADDRESS


def _file_name(image: str) -> str:
    return with_tag(image).replace("/", "%")


def with_tag(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"


def here() -> World:
    """The world of a program that the deployment has started."""
    return World(os.environ["STAND_INS"])


def loads(text: str) -> object:
    """JSON that `dumps` has written."""
    return eval(text, {"__builtins__": {}, "true": True, "false": False, "null": None})


def dumps(value: object) -> str:
    """A value as JSON."""
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{encode_basestring_ascii(str(key))}: {dumps(each)}" for key, each in value.items()) + "}"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(dumps, value)) + "]"
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)
    )
