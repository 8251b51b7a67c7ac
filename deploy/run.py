"""Runs a script from its command line to its exit status: checks, builds, deploys, and prints a summary."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from types import FrameType

from deploy import bundle, images, packing, ports, preflight
from deploy.commands import Commands, Interrupted, shortened
from deploy.console import Console, DeploymentError, count, human_size, table
from deploy.definition import function_file, functions, weights
from deploy.definition.deployment import Deployment
from deploy.definition.functions import Function
from deploy.definition.lacking import lacks
from deploy.function import FunctionDeployment, Result, Run
from deploy.host.packages import ROOT
from deploy.nuclio import PROJECT, Nuclio, Record
from deploy.options import Options, parse

_CAUSE_WIDTH = 60
_SIGNAL_POLL_S = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(device: str, arguments: Sequence[str]) -> int:
    """Does what the command line says.

    Args:
        device: "cpu" or "gpu".
        arguments: The arguments of the script.

    Returns:
        The exit status: 0 when all went well, 1 when something failed or is missing, 2 for wrong arguments, 130 after an
        interruption.
    """
    console = Console(f"deploy_{device}.sh")
    session: _Session | None = None
    scratch: Path | None = None
    try:
        options = parse(device, list(arguments))
        console.dry_run = options.dry_run
        scratch = Path(tempfile.mkdtemp(prefix="cvat-deploy."))
        session = _Session(options, console, Commands(console, scratch))
        return session.run()
    except DeploymentError as error:
        console.error(error)
        return error.status
    except OSError as error:
        console.error(DeploymentError(str(error)))
        return 1
    except (Interrupted, KeyboardInterrupt):
        console.line()
        console.error(DeploymentError(session.interrupted if session else "interrupted"))
        return 130
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


class _Session:
    """One run of a script."""

    def __init__(self, options: Options, console: Console, commands: Commands):
        self._options, self._console, self._commands = options, console, commands
        self.interrupted = "interrupted; nothing is deployed yet" if options.action == "deploy" else "interrupted"
        """What to tell the user after an interruption at this moment, other than of a deployment of a function."""
        self._is_deploying = False
        self._bundle: bundle.Bundle | None = None
        for number in _SIGNALS:
            signal.signal(number, self._interrupt)

    def run(self) -> int:
        options = self._options
        if options.bundle:
            self._bundle = bundle.open_bundle(options.bundle, options.device, self._commands.scratch)
        if options.action == "list":
            return self._list()
        if options.action == "remove":
            return self._remove()
        if options.action == "base":
            images.base_only(options, self._commands, self._console, self._logs())
            return 0
        found = self._found()
        host = preflight.check(self._console, self._commands, options, found or [], bundle=self._bundle)
        if self._bundle:
            self._bundle.load_images(self._commands, self._console)
            self._bundle.keep_nuctl()
        nuclio = self._nuclio(host)
        records = self._records(nuclio)
        if found is None:
            found = self._deployed(records)
        if not found:
            raise DeploymentError(
                "there is no deployed function to deploy again",
                f"{self._console.script} NAME builds and deploys it",
            )
        self._settle(found, records)
        preflight.check_recorded(found, options, self._commands, self._console)
        found, refused = self._without_lacking(found)
        run = Run(options, self._console, self._commands, host, nuclio, self._logs(), records, found)
        if options.action == "bundle":
            assert options.bundle_out is not None
            images.build_base_images(found, options, host, self._commands, self._console, run.logs)
            packing.make(run, options.bundle_out)
            return 1 if refused else 0
        self._prepare(run)
        results = self._deploy_all(run)
        return self._summary(run, results, refused)

    def _found(self) -> list[Function] | None:
        """The functions that were named, or the collection; None where Nuclio's own list is needed."""
        options = self._options
        if self._bundle:
            return self._bundle.functions(options.functions)
        return functions.find(options.functions, options.device) if options.build else None

    def _deployed(self, records: dict[str, Record]) -> list[Function]:
        """What to deploy without a build: all that Nuclio has, or what was named, by its directory or as Nuclio has it."""
        names, device = self._options.functions, self._options.device
        found: dict[str, Function] = {}
        for name in names or records:
            try:
                named = functions.find([name], device) if names else []
            except DeploymentError:
                if name not in records:
                    raise
                named = []
            again = [functions.of_content(records[name].to_deploy_again(), None, device)] if not named else []
            found.update((function.name, function) for function in [*named, *again])
        return list(found.values())

    def _records(self, nuclio: Nuclio) -> dict[str, Record]:
        try:
            return {record.name: record for record in nuclio.functions()}
        except DeploymentError:
            if self._console.dry_run:
                return {}
            raise

    def _settle(self, found: Sequence[Function], records: dict[str, Record]) -> None:
        """Decides the options of each function: those given now, else those that it was deployed with."""
        options = self._options
        for function in found:
            record = records.get(function.name)
            # A bundle is for another machine: what was decided for this one does not go along.
            is_again = not options.forget and options.action == "deploy"
            recorded = record.deployment if record and is_again else None
            deployment = (recorded or Deployment()).with_options(options)
            mounted = deployment.weights
            if options.weights:
                folder = weights.folder_of(function, options.weights, alone=len(found) == 1)
                mounted = str(folder) if folder else None
                error = None if folder else weights.no_folder(function, options.weights)
                if error:
                    raise error
            directory = str(function.directory) if function.directory and not self._bundle else deployment.directory
            if function.directory is None:
                device = recorded.device if recorded else function.device
                function.device = device
            function.deployment = replace(deployment, weights=mounted, directory=directory, device=function.device)
            if options.on_kubernetes and options.build and not function.deployment.registry:
                raise DeploymentError(
                    "--platform kube needs --registry: the cluster pulls its images from there", status=2
                )
            if recorded and recorded.words and function.directory:
                self._console.note(f"{function.name}: as it was deployed before: {recorded.words}")

    def _without_lacking(self, found: list[Function]) -> tuple[list[Function], dict[str, str]]:
        """The functions that can start, and what those lack that were named but can't start."""
        kept, refused, left_out = [], {}, []
        for function in found:
            what = self._lacks(function)
            if what and function.is_named:
                refused[function.name] = what
            elif what:
                left_out.append((function.name, what))
            else:
                kept.append(function)
        if left_out or refused:
            self._console.heading("Left out")
        for name, what in [*left_out, *refused.items()]:
            self._console.line(f"  {name} lacks {what}")
        if not kept and refused:
            raise DeploymentError(f"nothing is deployed: {', '.join(refused)} can't start as it is")
        if not kept:
            raise DeploymentError("nothing is deployed: none of these functions can start as it is")
        return kept, refused

    def _lacks(self, function: Function) -> str:
        if function.directory is None or self._bundle or not self._options.build:
            return ""
        path = function.directory / "weights.yaml"
        content = function_file.read(path) if path.is_file() else None
        deployment = function.deployment
        is_mounted = bool(deployment.weights)
        return lacks(
            function.directory, function.content, content, self._options.device, deployment.environment, is_mounted
        )

    def _prepare(self, run: Run) -> None:
        if not run.host.has_project:
            run.nuclio.make_project()
        if run.options.build and not self._bundle:
            images.build_base_images(run.functions, run.options, run.host, run.commands, run.console, run.logs)
        if not run.options.on_kubernetes:
            ports.assign(run.functions, run.host, run.records, run.options, run.console)

    def _deploy_all(self, run: Run) -> list[Result]:
        device = "GPU" if run.options.device == "gpu" else "CPU"
        run.console.heading(f"Deploying {count(len(run.functions), 'function')} for the {device}")
        self._is_deploying = True
        with ThreadPoolExecutor(run.options.jobs) as pool:
            tasks = [pool.submit(FunctionDeployment(run, function).deploy) for function in run.functions]
            while wait(tasks, timeout=_SIGNAL_POLL_S).not_done:
                pass  # a signal that reaches another thread is handled here between two waits
            results = [task.result() for task in tasks]
        self.interrupted = "interrupted after the deployment; --list shows what is deployed"
        self._is_deploying = False
        if self._commands.stop.is_set():
            raise DeploymentError("interrupted: functions that were not deployed yet are unchanged", status=130)
        return results

    def _summary(self, run: Run, results: Sequence[Result], refused: dict[str, str]) -> int:
        if run.console.dry_run:
            return 0
        run.console.heading("Summary")
        rows = [("FUNCTION", "KIND", "PORT", "STATE", "FIRST INFERENCE", "IMAGE")]
        for function, result in zip(run.functions, results):
            trial = result.trial
            said = trial.found if trial else "not tried"
            if trial and trial.seconds is not None:
                said = f"{trial.seconds:.2f} s, {said}"
            if result.state != "ready":
                said = shortened(result.cause, _CAUSE_WIDTH)
            size = images.size_of(result.image, run.commands)
            port = str(function.port) if function.port else "-"
            rows.append((function.name, function.kind, port, result.state, said, human_size(size) if size else "-"))
        run.console.line(table(rows))
        failed = sum(result.state != "ready" for result in results) + len(refused)
        if failed:
            run.console.line(
                f"\n{failed} of {len(results) + len(refused)} failed: see above for the cause and the remedy of each"
            )
        return 1 if failed else 0

    def _list(self) -> int:
        host = preflight.find_tools(self._console, self._commands, self._options, self._bundle)
        self._console.heading(f"Functions in project {PROJECT}")
        done = self._nuclio(host).ask("get", "function", "-l", f"nuclio.io/project-name={PROJECT}", "-o", "wide")
        if not done.ok:
            raise DeploymentError(
                f"nuctl can't list functions: {done.last_words}",
                f"{host.nuctl} get function --platform {self._options.platform} shows why",
            )
        self._console.line(done.output.rstrip())
        if not self._options.on_kubernetes:
            self._console.heading("Containers")
            labels = (f"nuclio.io/project-name={PROJECT}", f"nuclio.io/namespace={self._options.namespace}")
            filters = [word for label in labels for word in ("--filter", f"label={label}")]
            columns = "table {{.Names}}\t{{.Status}}\t{{.Ports}}\t{{.Size}}"
            done = self._commands.ask("docker", "ps", "--all", *filters, "--format", columns)
            self._console.line(done.output.rstrip())
        return 0

    def _remove(self) -> int:
        host = preflight.find_tools(self._console, self._commands, self._options, self._bundle)
        nuclio = self._nuclio(host)
        records = self._records(nuclio)
        names = self._names_to_remove(records)
        self._console.heading("Removing")
        failed, kept_images = 0, []
        for name in names:
            if name not in records and not self._console.dry_run:
                self._console.note(f"{name} is not deployed")
                continue
            done = nuclio.delete(name)
            if self._console.dry_run:
                continue
            if done.ok:
                self._console.good(f"{name} removed")
                kept_images.append(records[name].image)
            else:
                failed += 1
                self._console.line(f"  {self._console.failed(f'{name}: {done.last_words}')}")
        if any(kept_images):
            names_of_images = " ".join(sorted({functions.repository_of(image) for image in kept_images if image}))
            self._console.note(
                "the images are kept, so that a function can be deployed again; to remove them:",
                f"for name in {names_of_images}; do docker image rm "
                """$(docker images --format '{{.Repository}}:{{.Tag}}' "$name"); done""",
            )
        return 1 if failed else 0

    def _names_to_remove(self, records: dict[str, Record]) -> list[str]:
        names: list[str] = []
        for argument in self._options.functions or [""]:
            if argument in records:
                names.append(argument)
            elif self._bundle:
                names += [each.name for each in self._bundle.functions([argument] if argument else [])]
            else:
                names += [each.name for each in functions.find([argument] if argument else [], self._options.device)]
        return list(dict.fromkeys(names))

    def _nuclio(self, host: preflight.Host) -> Nuclio:
        return Nuclio(self._commands, host.nuctl, self._options.platform, self._options.namespace)

    def _logs(self) -> Path:
        folder = Path(os.environ.get("DEPLOY_LOGS") or ROOT / "out" / "deploy")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return self._commands.scratch
        return folder.resolve() if os.access(folder, os.W_OK) else self._commands.scratch

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if not self._is_deploying:
            raise KeyboardInterrupt
        if not self._commands.stop.is_set():
            self._commands.stop.set()
            self._console.line(f"\n{self._console.script}: interrupted; stopping the work in progress")
