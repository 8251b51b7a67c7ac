"""Controls Nuclio through nuctl."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.commands import NOT_FOUND, Commands, Done, shortened
from deploy.console import DeploymentError
from deploy.definition.deployment import Deployment, of_record
from deploy.definition.function_file import Fields, at, http_trigger, run_an_image
from deploy.host.containers import container_name

PROJECT = "cvat"
"""The one project whose functions CVAT lists."""
STORE = "nuclio-local-storage-reader"
"""The container in which nuctl reads its records on Docker."""
_RECORDS = "/etc/nuclio/store/functions"
_WRITE = 'cat >"$0.new" && mv "$0.new" "$0"'
_REASON_WIDTH = 300
UNDER_WAY = ("building", "waitingForBuild", "waitingForResourceConfiguration", "configuringResources")
"""States in which Nuclio refuses to deploy a function. An interrupted deployment leaves one behind."""


@dataclass(frozen=True)
class Record:
    """A function as Nuclio knows it."""

    content: Fields
    """metadata, spec and status."""

    @property
    def name(self) -> str:
        """The function's name."""
        return str(at(self.content, "metadata", "name") or "")

    @property
    def state(self) -> str:
        """ready, building, error, unhealthy, ..."""
        return str(at(self.content, "status", "state") or "unknown")

    @property
    def image(self) -> str:
        """The image that it runs; "" when none was built yet."""
        return str(at(self.content, "spec", "image") or "")

    @property
    def port(self) -> int | None:
        """The host port that its trigger asks for."""
        trigger = http_trigger(self.content)
        port = at(trigger[1], "attributes", "port") if trigger else None
        return int(port) if isinstance(port, (int, float)) and port else None

    @property
    def deployment(self) -> Deployment | None:
        """What it was deployed with; None when these scripts did not deploy it."""
        return of_record(self.content)

    def to_deploy_again(self) -> Fields:
        """Its function.yaml, with which `nuctl deploy --run-image` brings back this very function."""
        metadata = {key: value for key, value in self.content["metadata"].items() if key != "resourceVersion"}
        content: Fields = {"metadata": metadata, "spec": dict(at(self.content, "spec") or {})}
        run_an_image(content)
        return content


class Nuclio:
    """An installation of Nuclio: on Docker, or in a cluster."""

    def __init__(self, commands: Commands, nuctl: str, platform: str, namespace: str):
        """Asks nothing.

        Args:
            commands: Runs nuctl.
            nuctl: The program.
            platform: "local" or "kube".
            namespace: The namespace of the functions in Nuclio.
        """
        self._commands, self.nuctl, self.platform, self.namespace = commands, nuctl, platform, namespace

    def container_of(self, name: str) -> str:
        """The name of a function's container on Docker.

        Args:
            name: The function's.
        """
        return container_name(name, self.namespace)

    def functions(self) -> list[Record]:
        """All functions of CVAT's project.

        Raises:
            DeploymentError: nuctl can't list them.
        """
        done = self.ask("get", "function", "-l", f"nuclio.io/project-name={PROJECT}", "-o", "json")
        if not done.ok:
            raise DeploymentError(f"nuctl can't list functions: {reason_of(done)}", store_remedy(done))
        return [record for record in _records(done) if record.name]

    def function(self, name: str) -> Record | None:
        """A function as Nuclio knows it; None when there is no such function.

        Args:
            name: The function's.

        Raises:
            DeploymentError: nuctl can't answer.
        """
        done = self.ask("get", "function", name, "-o", "json")
        if done.ok:
            return next((record for record in _records(done) if record.name == name), None)
        if "No functions found" in done.errors + done.output:
            return None
        raise DeploymentError(f"nuctl can't say whether {name} is deployed: {reason_of(done)}", store_remedy(done))

    def has_project(self) -> bool:
        """Whether CVAT's project exists."""
        return self.ask("get", "projects", PROJECT).ok

    def make_project(self) -> None:
        """Creates CVAT's project if it does not exist.

        Raises:
            DeploymentError: nuctl can't create it.
        """
        if self.has_project():
            return
        done = self.change("create", "project", PROJECT)
        if not done.ok:
            raise DeploymentError(f"nuctl can't create the project {PROJECT}: {reason_of(done)}", store_remedy(done))

    def delete(self, name: str, *, log: Path | None = None, shielded: bool = False) -> Done:
        """Deletes a function and its container, whatever their state.

        Args:
            name: The function's.
            log: A file to which nuctl's output is appended.
            shielded: Whether an interruption waits for the end.
        """
        return self.change("delete", "function", name, "--force", log=log, shielded=shielded)

    def put_back(self, record: Record) -> bool:
        """Restores Nuclio's record of a function: the only way out of the state `building` that restarts nothing.

        On Docker Nuclio keeps a file for each function, which nuctl and the dashboard read anew each time.

        Args:
            record: The function as Nuclio knew it.

        Returns:
            Whether Nuclio has the record again; never in a cluster, which keeps its records elsewhere.
        """
        if self.platform == "kube":
            return False
        path = f"{_RECORDS}/{self.namespace}/{record.name}.json"
        data = base64.b64encode(json.dumps(record.content).encode()) + b"\n"
        words = ("docker", "exec", "--interactive", STORE, "sh", "-c", _WRITE, path)
        if not self._commands.change(*words, data=data, shielded=True).ok:
            return False
        now = self.function(record.name)
        return now is not None and now.state == record.state

    def ask(self, *words: str) -> Done:
        """Runs a command of nuctl that changes nothing.

        Args:
            words: Its arguments, without platform and namespace.
        """
        return self._commands.ask(self.nuctl, *words, *self._where)

    def change(
        self,
        *words: str,
        log: Path | None = None,
        shielded: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Done:
        """Runs a command of nuctl that changes something; a dry run prints it.

        Args:
            words: Its arguments, without platform and namespace.
            log: A file to which its output is appended.
            shielded: Whether an interruption waits for its end.
            environment: Variables beyond those of this process.

        Raises:
            Interrupted: The run was interrupted.
        """
        command = self.command(*words)
        return self._commands.change(*command, log=log, shielded=shielded, environment=environment)

    def command(self, *words: str) -> list[str]:
        """The whole command line of a call of nuctl.

        Args:
            words: Its arguments, without platform and namespace.
        """
        return [self.nuctl, *words, *self._where]

    @property
    def _where(self) -> tuple[str, ...]:
        return "--platform", self.platform, "--namespace", self.namespace


def reason_of(done: Done) -> str:
    """Why a call of nuctl failed, in one line: Docker's own error, where Docker failed.

    Args:
        done: The call.
    """
    said = re.search(r"docker: (Error response from daemon: .+)", done.errors + done.output)
    return shortened(said[1].strip(), _REASON_WIDTH) if said else done.last_words


def store_remedy(done: Done) -> str:
    """What to do when nuctl can't start the container in which it keeps its records.

    Args:
        done: The call of nuctl that failed.

    Returns:
        The remedy, which names the image; a general one for any other failure.
    """
    text = done.output + done.errors
    if done.status == NOT_FOUND:
        return "see above: nuctl is missing"
    image = re.search(r"([\w.-]+(?:/[\w.-]+)*/?alpine:[\w.-]+)", text)
    if image and re.search(r"pull|not found|no such host|Unable to find image", text):
        return (
            f"nuctl keeps its records in a container of the image {image[1]}, which can't be pulled here; on a machine with "
            f"a network: docker pull {image[1]} && docker save {image[1]} | gzip > store.tar.gz; here: docker load -i store.tar.gz"
        )
    return "nuctl get function shows more; does Docker, or the cluster, answer?"


def _records(done: Done) -> list[Record]:
    """One function is printed as a JSON object, several as an array, none in words.

    nuctl prints warnings to stdout as well, before the JSON; each begins with the date.
    """
    begin = re.search(r"^[\[{]", done.output, re.MULTILINE)
    if begin is None:
        return []
    try:
        content = json.JSONDecoder().raw_decode(done.output, begin.start())[0]
    except ValueError as error:
        raise DeploymentError(
            f"nuctl's list of functions is not JSON: {error}", "nuctl get function shows more"
        ) from error
    return [Record(each) for each in (content if isinstance(content, list) else [content])]
