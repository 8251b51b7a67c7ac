"""Deploys one function: builds its image, starts it in place of the old version, tries it.

What runs stays untouched until the new image is built. From then on a failure or an interruption brings the old version
back: its image has a tag of its own, and its configuration is what Nuclio kept of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy import kubernetes
from deploy.cause import explain, explain_no_answer, log_end
from deploy.commands import Commands, Interrupted, end
from deploy.console import Console, DeploymentError, quoted
from deploy.definition import function_file, weights
from deploy.definition.configuration import USER, configured
from deploy.definition.function_file import Fields
from deploy.definition.functions import Function, repository_of
from deploy.host.containers import Container, DockerError, find_container
from deploy.host.network import find_store
from deploy.nuclio import PROJECT, UNDER_WAY, Nuclio, Record
from deploy.options import Options
from deploy.preflight import Host
from deploy.verify import NoAnswer, ReplyError, Trial, try_function

_STAMP_PATTERN = re.compile(r"[0-9]{8}-[0-9]{6}(-gpu)?")
_NOT_RESTORED = (*UNDER_WAY, "error", "imported")
_LOG_LINES = "400"
_REMOVAL_S = 1.0
_END_POLL_S = 0.1
_END_SEEN_S = 2.0  # how long Docker may take to notice that a container has ended
_MOST_FINDINGS = 8


@dataclass
class Run:
    """What all functions of a run share."""

    options: Options
    console: Console
    commands: Commands
    host: Host
    nuclio: Nuclio
    logs: Path
    """The folder of the logs."""
    records: Mapping[str, Record] = field(default_factory=dict)
    """The functions that Nuclio has, by name, before anything is changed."""
    functions: Sequence[Function] = ()
    """Those to deploy, in order."""
    stamp: str = ""
    """The tag of this run's images."""

    def __post_init__(self) -> None:
        """Takes the current time as the tag; waits a moment when an image already has it."""
        taken = {record.image.rpartition(":")[2].partition("-gpu")[0] for record in self.records.values()}
        while not self.stamp or self.stamp in taken:
            self.stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
            if self.stamp in taken:
                time.sleep(_END_POLL_S)


@dataclass(frozen=True)
class Result:
    """The outcome of the deployment of a function."""

    state: str
    """"ready", "failed" or "interrupted"; in a dry run "ready"."""
    cause: str = ""
    """Why it is not ready."""
    trial: Trial | None = None
    """The answer to the sample image; None when none was sent."""
    image: str = ""
    """The image that it runs."""


class FunctionDeployment:
    """The deployment of one function."""

    def __init__(self, run: Run, function: Function):
        """Changes nothing.

        Args:
            run: The run.
            function: The function.
        """
        self._run, self._function, self._name = run, function, function.name
        self._log = run.logs / f"{function.name}.log"
        self._old = run.records.get(function.name)
        self._old_container = self._container()
        self._began = time.monotonic()
        self._is_touched = False  # whether Nuclio has been told to replace the old version
        self._built = ""
        self._container_log = ""
        self._fate_of_old = ""
        self._before: Path | None = None  # the function.yaml with which the old version is brought back

    def deploy(self) -> Result:
        """Deploys the function and prints the progress.

        Returns:
            The outcome; errors are part of it.
        """
        self._began = time.monotonic()
        try:
            if self._run.commands.stop.is_set():
                raise Interrupted
            self._log.write_text("")
            if self._run.options.build and self._function.directory and not self._run.options.bundle:
                self._say("building")
                self.build_as(self._stamped())
                self._built = self._stamped()
            image = self._image_to_run()
            trial = self._replace(image)
        except Interrupted:
            self._remove_image(self._built)
            return Result("interrupted", "interrupted")
        except DeploymentError as error:
            self._report(error)
            runs = self._old.image if self._fate_of_old and self._old else self._built
            return Result("failed", error.cause, image=runs)
        except OSError as error:
            self._say(self._run.console.failed(str(error)))
            return Result("failed", str(error))
        except Exception as error:  # the other functions go on
            with self._log.open("a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
            cause = f"the deployment itself failed with {type(error).__name__}: {error}"
            self._say(self._run.console.failed(cause))
            self._run.console.remedy(f"{self._log} has the traceback")
            return Result("failed", cause)
        if not self._run.console.dry_run:
            with contextlib.suppress(OSError):  # it is deployed, whatever becomes of the images before it
                self._tidy_images(image)
            self._say_ready(trial)
        return Result("ready", trial=trial, image=image)

    def build_as(self, image: str) -> None:
        """Builds the function's image, with its weights; what is running is not touched.

        Args:
            image: The image's name, with a tag.

        Raises:
            DeploymentError: It can't be built, or its weights can't be fetched.
            Interrupted: The run was interrupted.
        """
        run, function = self._run, self._function
        if not function.deployment.weights:
            weights.fetch(function, run.commands, run.console, self._log)
        directory = weights.stage(function, run.commands.scratch / "stage", run.console)
        words = ["build", self._name, "--path", str(directory), "--file", str(directory / function_file.NAME)]
        words += ["--image", image, "--no-pull"]
        registry = function.deployment.registry
        if function.framework:
            words += ["--base-image", f"{registry}/{function.base}" if registry else function.base]
        if registry:
            words += ["--registry", registry]
        done = run.nuclio.change(*words, log=self._log)
        if not done.ok:
            raise explain(done.output, "", container=None)

    def _image_to_run(self) -> str:
        """The image that was just built, or the existing one."""
        function, options = self._function, self._run.options
        image = self._built
        if not image and self._old and not options.bundle and self._is_here(self._old.image):
            image = self._old.image
        if not image:
            image = function.image if options.bundle else function.latest
            if function.directory is None and self._old:
                image = self._old.image
            if not self._run.console.dry_run and not self._is_here(image):
                raise DeploymentError(f"there is no image {image} here", "deploy it once without --no-build")
        if options.bundle:
            # The next bundle moves the tag to another image, but what runs keeps its own.
            self._built = self._stamped()
            self._run.commands.change("docker", "tag", image, self._built)
            image = self._built
        return kubernetes.image_to_run(image, function.deployment) if options.on_kubernetes else image

    def _replace(self, image: str) -> Trial | None:
        """Starts the new version in place of the old and tries it; brings the old one back when that fails."""
        self._say("starting")
        try:
            self._start(self._content(), image)
            return self._try()
        except Interrupted:
            self._go_back(is_interrupted=True)
            raise
        except Exception:  # whatever it is, the old version must come back
            self._save_container_log()
            if self._run.options.roll_back:
                self._go_back(is_interrupted=False)
            raise

    def _start(self, content: Fields, image: str) -> None:
        run = self._run
        if run.commands.stop.is_set():
            raise Interrupted
        words = run.nuclio.command(*self._deploy_words(self._written("function", content), image))
        if run.console.dry_run:
            run.console.command(quoted(words))
            return
        if self._old and self._old.state not in _NOT_RESTORED and self._old.image:
            # Written now: a disk that is full is found before anything is replaced.
            self._before = self._written("before", self._old.to_deploy_again())
        self._is_touched = True
        self._function.image = image
        if self._old and self._old.state in UNDER_WAY:
            self._say("clearing what an interrupted deployment left")
            run.nuclio.delete(self._name, log=self._log)
        start = self._log.stat().st_size
        with self._log.open("ab") as output:
            process = run.commands.start(*words, output=output)
            try:
                died = self._watch(process)
                status = run.commands.wait(process)
            finally:  # nuctl must not run on beside what brings the old version back
                if process.poll() is None:
                    end(process)
        if status != 0:
            self._save_container_log()
            said = self._log.read_bytes()[start:].decode("utf-8", "replace")
            is_mounted = bool(self._function.deployment.weights)
            container = died or self._new_container()
            raise explain(said, self._container_log, container=container, mounted=is_mounted)

    def _watch(self, process: subprocess.Popen[bytes]) -> Container | None:
        """Stops a function that has died, so that nuctl gives up.

        Nuclio waits for readinessTimeoutSeconds even when a function dies at once, as its restart policy starts it again and
        again. A container that has been restarted has failed.

        Args:
            process: nuctl.

        Returns:
            The container before it was stopped; None when that was not necessary.
        """
        poll_s = float(os.environ.get("DEPLOY_POLL", "1"))
        stop = self._run.commands.stop
        looked = time.monotonic()
        while process.poll() is None and not stop.wait(min(poll_s, _END_POLL_S)):
            if self._run.options.on_kubernetes or time.monotonic() - looked < poll_s:
                continue
            looked = time.monotonic()
            container = self._new_container()
            if container is not None and container.restarts > 0:
                self._save_container_log()
                self._run.commands.ask("docker", "update", "--restart=no", container.name)
                self._run.commands.ask("docker", "stop", "--time", "1", container.name)
                return container
        return None

    def _try(self) -> Trial | None:
        run = self._run
        if run.console.dry_run or not run.options.verify:
            return None
        folder = run.commands.scratch / self._name
        folder.mkdir(exist_ok=True)
        user = self._function.deployment.user or USER
        try:
            return try_function(self._function, run.host, run.nuclio, run.commands, folder, user=user)
        except NoAnswer as error:
            container = self._ended_container()
            self._save_container_log()
            raise explain_no_answer(error, self._container_log, container) from error

    def _ended_container(self) -> Container | None:
        """The new container, as soon as Docker says that it has ended or was started again; else as it is after a moment."""
        deadline = time.monotonic() + _END_SEEN_S
        container = self._new_container()
        while container and container.running and not container.restarts and time.monotonic() < deadline:
            if self._run.commands.stop.wait(_END_POLL_S):
                raise Interrupted
            container = self._new_container()
        return container

    def _go_back(self, *, is_interrupted: bool) -> None:
        """Restores the state before the deployment: the old version, or nothing where the function is new."""
        if not self._is_touched:
            return
        try:
            if self._before is not None:
                self._bring_back(self._before)
                if is_interrupted and self._fate_of_old:  # after a failure the report says it
                    self._say(self._fate_of_old)
            elif self._old is None and is_interrupted:
                done = self._run.nuclio.delete(self._name, log=self._log, shielded=True)
                by_hand = f"nuctl delete function {self._name} --force"
                problem = f"it can't be removed ({done.last_words}); by hand: {by_hand}"
                self._say(f"interrupted; {'removed' if done.ok else problem}")
        except (DeploymentError, OSError) as error:
            self._say(f"the old version can't be restored: {error}")

    def _bring_back(self, before: Path) -> None:
        """Makes Nuclio run the old version again.

        Args:
            before: Its function.yaml.
        """
        nuclio = self._run.nuclio
        assert self._old is not None
        now = nuclio.function(self._name)
        if now is not None and now.state in UNDER_WAY:
            if nuclio.put_back(self._old):
                now = self._old
            else:
                nuclio.delete(self._name, log=self._log, shielded=True)
        is_unchanged = now is not None and now.state == self._old.state and now.image == self._old.image
        if is_unchanged and self._old_container_stays():
            self._fate_of_old = "the old version is still running"
            return
        self._say("restoring the old version")
        words = self._deploy_words(before, self._old_image())
        done = nuclio.change(*words, log=self._log, shielded=True)
        if done.ok:
            self._fate_of_old = "the old version is running again"
        else:
            again = quoted(nuclio.command(*words))
            self._run.console.remedy(
                f"the old version does not start again ({done.last_words}); to start it by hand: {again}"
            )

    def _old_container_stays(self) -> bool:
        """Whether the old version's container is still there.

        Docker goes on with the removal that nuctl has asked for, also when nuctl was ended: a second look is needed.
        """
        for pause_s in (_REMOVAL_S, 0.0):
            container = self._container()
            if container is None or self._old_container is None or container.id != self._old_container.id:
                return False
            time.sleep(pause_s)
        return True

    def _old_image(self) -> str:
        """The image that the old version ran, by a tag that refers to no other image."""
        assert self._old is not None
        image, container = self._old.image, self._old_container
        if container is None or not container.image_id:
            return image
        if (
            self._run.commands.ask("docker", "image", "inspect", "-f", "{{.Id}}", image).output.strip()
            != container.image_id
        ):
            image = f"{repository_of(image)}:before-{self._run.stamp}"
            self._run.commands.change("docker", "tag", container.image_id, image, shielded=True)
        return image

    def _deploy_words(self, file: Path, image: str) -> list[str]:
        return ["deploy", "--project-name", PROJECT, "--file", str(file), "--run-image", image, "--no-pull"]

    def _content(self) -> Fields:
        host = self._run.host
        on_kubernetes = self._run.options.on_kubernetes
        # A function keeps the network that it was deployed with, where CVAT's store may not be.
        network = self._function.deployment.network or host.network
        store = host.store if network == host.network else find_store(host.docker, network)
        return configured(self._function, network, store, on_kubernetes=on_kubernetes)

    def _written(self, purpose: str, content: Fields) -> Path:
        path = self._run.logs / f"{self._name}.{purpose}.yaml"
        try:
            path.touch(mode=0o600)  # it may hold a secret of --env
            function_file.write(path, content)
        except OSError as error:
            remedy = "df -h shows where there is room; DEPLOY_LOGS names another folder"
            raise DeploymentError(f"{path} can't be written: {error.strerror or error}", remedy) from error
        return path

    def _stamped(self) -> str:
        suffix = "-gpu" if self._function.device == "gpu" else ""
        return f"{self._function.repository}:{self._run.stamp}{suffix}"

    def _is_here(self, image: str) -> bool:
        if self._run.options.on_kubernetes:
            return bool(image)
        return bool(image) and self._run.commands.ask("docker", "image", "inspect", image).ok

    def _tidy_images(self, image: str) -> None:
        """Tags the running image as `latest`, and removes the tags of images older than the one that it replaces."""
        if self._run.options.on_kubernetes or not self._built:
            return
        commands = self._run.commands
        commands.change("docker", "tag", image, self._function.latest, shielded=True)
        listed = commands.ask("docker", "images", "--format", "{{.Repository}}:{{.Tag}}", self._function.repository)
        kept = {image, self._old.image if self._old else ""}
        for name in listed.output.split():
            match = _STAMP_PATTERN.fullmatch(name.rpartition(":")[2])
            if match and name not in kept and name.endswith("-gpu") == image.endswith("-gpu"):
                self._remove_image(name)

    def _remove_image(self, image: str) -> None:
        if image and not self._run.console.dry_run:
            self._run.commands.change("docker", "image", "rm", image, shielded=True)

    def _is_known(self) -> bool:
        try:
            return self._run.nuclio.function(self._name) is not None
        except DeploymentError:
            return False

    def _container(self) -> Container | None:
        if self._run.options.on_kubernetes:
            return None
        try:
            return find_container(self._run.nuclio.container_of(self._name))
        except DockerError:
            return None

    def _new_container(self) -> Container | None:
        container = self._container()
        is_old = container is not None and self._old_container is not None and container.id == self._old_container.id
        return None if is_old else container

    def _save_container_log(self) -> None:
        container = self._new_container()
        if self._container_log or container is None:
            return
        done = self._run.commands.ask("docker", "logs", "--tail", _LOG_LINES, container.name)
        self._container_log = done.output + done.errors
        with self._log.open("a", encoding="utf-8") as file:
            file.write(self._container_log)

    def _say(self, text: str) -> None:
        functions, console = self._run.functions, self._run.console
        if not console.dry_run:
            number = next(i for i, each in enumerate(functions, 1) if each is self._function)
            console.line(f"  [{number}/{len(functions)}] {self._name}: {text}")

    def _say_ready(self, trial: Trial | None) -> None:
        where = f" on port {self._function.port}" if self._function.port else ""
        seconds = f" in {trial.seconds:.2f} s" if trial and trial.seconds is not None else ""
        found = trial.found if trial else "not tried"
        self._say(f"ready{where}, {found}{seconds} ({time.monotonic() - self._began:.0f} s in total)")

    def _report(self, error: DeploymentError) -> None:
        """Prints a failure: cause, remedy, findings, the end of the log, and the fate of the old version."""
        console = self._run.console
        self._say(console.failed(error.cause))
        findings = error.findings if isinstance(error, ReplyError) else []
        console.remedy(error.remedy)
        for line in findings[1:_MOST_FINDINGS]:  # the cause holds the first
            console.remedy(f"  {line}")
        log = self._container_log or self._log.read_text(encoding="utf-8", errors="replace")
        lines = log_end(log)
        if lines:
            console.remedy("the end of its log:" if self._container_log else "the end of the log:")
        for line in lines:
            console.remedy(f"  {line}")
        if self._run.logs != self._run.commands.scratch:
            console.remedy(f"the whole log: {self._log}" if lines else f"its log: {self._log}")
        if self._fate_of_old:
            console.remedy(self._fate_of_old)
        elif self._old is None and self._is_touched and self._is_known():
            console.remedy(f"it is still deployed; {console.script} --remove {self._name} removes it")
        if self._fate_of_old or not self._is_touched:
            self._remove_image(self._built)
