"""Examines one function: of `make serve`, or of Nuclio with its container."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import httpx

from common.config import FunctionConfig, http_trigger
from common.errors import StartupError
from deploy.definition.deployment import of_record
from deploy.host.containers import FUNCTION_PORT, Container, DockerHost
from deploy.nuclio import UNDER_WAY
from tools.check.document import Document
from tools.check.function_rules import check_function_yaml
from tools.doctor.dashboard import Dashboard, config_of
from tools.doctor.docker_host import EVERYONE, stopped
from tools.doctor.report import Report, Row
from tools.doctor.waiting import is_loading, seconds_since_start

_DASHBOARD = "through the dashboard"
_NOT_CALLED = "Failed to invoke function"  # in Nuclio's own answer, when it did not get to the function
_MISDIRECTED = 421
MOVED_REMEDY = (
    "./deploy_cpu.sh --no-build deploys all again, in seconds each; direct calls (CVAT_NUCLIO_INVOKE_METHOD=direct) are "
    "not affected"
)
"""What to do when the dashboard calls functions at wrong addresses."""


class ServedFunction:
    """A function of `make serve`: it has a port on the dashboard's host, and no container."""

    redeploy = "restart make serve"
    logs = unreachable = "the output of make serve says more"
    moved_remedy = redeploy
    busy = ("its workers are starting", "wait, then run make doctor again")

    def __init__(self, row: Row, described: Mapping[str, Any], dashboard: Dashboard, report: Report):
        """Examines nothing yet.

        Args:
            row: The function's, to be filled.
            described: The function as the dashboard describes it.
            dashboard: The dashboard that lists it.
            report: Where findings go.
        """
        self._row, self._described, self._dashboard = row, described, dashboard
        self._status, self._spec = described.get("status") or {}, described.get("spec") or {}
        row.state = str(self._status.get("state") or "?")
        row.port = int(self._status.get("httpPort") or 0)
        self.host = httpx.URL(dashboard.address).host
        """Of the function's own port, "" when direct calls can't succeed."""
        self.by_dashboard = True
        """Whether requests through the dashboard can reach this function."""
        self.error, self.warn = partial(report.error, row.name), partial(report.warn, row.name)

    def examine(self, send: bool) -> None:
        """Adds what is wrong to the report.

        Args:
            send: Whether the function gets a sample image.
        """
        config = self._examine_listing()
        if config is not None:
            self._row.kind = config.kind
        if self._can_answer():
            self._examine_container()
            if send and config is not None:
                self._try(config)

    def _examine_listing(self) -> FunctionConfig | None:
        """Looks whether CVAT would list it, and the others beside it."""
        remedy = f"correct its function.yaml, and {self.redeploy}"
        if not self._spec.get("description"):
            self.error("it has no description: CVAT fails on the whole list of functions", remedy)
        findings = [
            f
            for f in check_function_yaml(Document(dict(self._described)))
            if f.rule.startswith(("annotations.", "labels."))
        ]
        for finding in findings:
            add = self.error if finding.severity == "error" else self.warn
            what = f"{finding.field}: expected {finding.expected}, got {finding.got}; {finding.why}"
            add(what, finding.remedy or remedy)
        try:
            return config_of(self._described)
        except StartupError as error:
            if not findings:
                self.error(str(error), remedy)
            return None

    def _can_answer(self) -> bool:
        state = self._row.state
        if state in UNDER_WAY:
            self.error(*self.busy)
        elif state in ("unhealthy", "error"):
            message = str(self._status.get("message") or "").strip().splitlines()
            what = f"its state is {state}" + (f": {message[0][:200]}" if message else "")
            self.error(what, f"{self.logs}; {self.redeploy}")
        elif state not in ("ready", "scaledToZero", "imported"):
            self.error(f"its state is {state}", self.redeploy)
        return state in ("ready", "scaledToZero")

    def _examine_container(self) -> None:
        """Looks at what only a function with a container has."""

    def _try(self, config: FunctionConfig) -> None:
        row = self._row
        trials = {}
        if row.port and self.host:
            host = f"[{self.host}]" if ":" in self.host else self.host
            trials[f"on its port {row.port}"] = row.direct = self._dashboard.call(config, f"http://{host}:{row.port}/")
        if self.by_dashboard:
            trials[_DASHBOARD] = row.dashboard = self._dashboard.call(config)
        routes: dict[str, list[str]] = {}
        for route, trial in trials.items():
            if trial.problem:
                routes.setdefault(trial.problem, []).append(route)
        for problem, failed in routes.items():
            status = trials[failed[0]].status
            is_of_dashboard = failed == [_DASHBOARD] and (not status or _NOT_CALLED in problem)
            remedy = self.moved_remedy if status == _MISDIRECTED else self.unreachable if is_of_dashboard else self.logs
            self.error(f"{' and '.join(failed)}: {problem}", remedy)


class DeployedFunction(ServedFunction):
    """A function of Nuclio, with a container where Docker could be asked."""

    unreachable = "the dashboard must reach the function's container: the same Docker network"
    moved_remedy = MOVED_REMEDY

    def __init__(
        self, row: Row, described: Mapping[str, Any], dashboard: Dashboard, report: Report, docker: DockerHost
    ):
        """Examines nothing yet.

        Args:
            row: The function's, to be filled.
            described: The function as the dashboard describes it.
            dashboard: The dashboard that lists it.
            report: Where findings go.
            docker: What Docker answered.
        """
        super().__init__(row, described, dashboard, report)
        deployment = of_record(dict(described))
        limits = (self._spec.get("resources") or {}).get("limits") or {}
        device = "gpu" if (deployment and deployment.device == "gpu") or limits.get("nvidia.com/gpu") else "cpu"
        directory = deployment.directory if deployment else ""
        self.redeploy = f"deploy it again: ./deploy_{device}.sh {directory or row.name}"
        self.no_build = f"./deploy_{device}.sh --no-build {row.name}"
        self._docker, self._container = docker, docker.of_function(row.name, dashboard.namespace)
        remedy = f"if nobody deploys it: nuctl delete function {row.name} --force, then {self.redeploy}"
        self.busy = ("it is being deployed, or a deployment was interrupted", remedy)
        self.moved = ""
        """The address at which the dashboard calls it, and where it is now; "" when they are the same."""
        self.host = self._published_host()
        if self._container:
            self.logs = f"docker logs {self._container.name} says more"
        else:
            self.logs = "its log says more" if docker.problem else "its log is gone with its container"

    def _published_host(self) -> str:
        if self._container is None:
            return ""
        address, _ = self._container.published.get(FUNCTION_PORT, ("", 0))
        return self._docker.address if not address or address in EVERYONE else address

    def _can_answer(self) -> bool:
        container, state = self._container, self._row.state
        if self._docker.problem or state not in ("ready", "unhealthy"):
            return super()._can_answer()
        if container is None:
            self.error("its container is gone", self.no_build)
        elif container.status != "running":
            self.error(*stopped(container, self._docker, self.no_build))
        elif container.health is not None and container.health.status != "healthy":
            self._report_not_ready(container)
        elif state == "unhealthy" and container.health is not None:
            what = "Nuclio reports it as unhealthy, though its container passes its health check"
            self.error(what, self.no_build)
        else:
            return super()._can_answer()
        return False

    def _report_not_ready(self, container: Container) -> None:
        seconds = seconds_since_start(container)
        if is_loading(container, self._spec):
            what = f"it is not ready yet: its container was started {seconds:.0f} s ago"
            self.error(
                what, f"wait, then run make doctor again; docker logs --follow {container.name} shows what it does"
            )
        else:
            what = f"its container runs, but fails its health check, {seconds / 60:.0f} min after its start"
            self.error(what, f"{self.logs}; docker restart {container.name}")

    def _examine_container(self) -> None:
        container = self._container
        if container is not None:
            self._examine_port(container)
            self._examine_restarts(container)
            self._examine_network(container)
            self._examine_address(container)

    def _examine_port(self, container: Container) -> None:
        port = self._row.port
        wanted = (http_trigger(dict(self._spec)).get("attributes") or {}).get("port")
        actual = container.published.get(FUNCTION_PORT, ("", 0))[1]
        if actual != port:
            where = f"Nuclio has port {port or 'none'}, the container is at {actual or 'none'}"
            self.error(f"{where}: direct calls of CVAT fail", self.no_build)
            self.host = ""
        elif not container.ports.get(FUNCTION_PORT):
            what = (
                f"its port {actual} was drawn at random: it changes when Docker restarts, and direct calls of CVAT fail"
            )
            self.warn(what, f"{self.no_build} gives it a fixed port")
        elif wanted and int(wanted) != actual:
            self.warn(f"its function.yaml asks for port {wanted}, it has {actual}", self.redeploy)

    def _examine_restarts(self, container: Container) -> None:
        if container.restart == "no":
            self.warn("it does not come back after a reboot", f"docker update --restart=always {container.name}")
        if container.restarts:
            what = f"it has been restarted {container.restarts} time{'' if container.restarts == 1 else 's'}"
            if container.out_of_memory:
                remedy = f"fewer workers (numWorkers), or more memory: {self.no_build} --memory 4Gi, for example"
                self.warn(f"{what}: it ran out of memory", remedy)
            else:
                self.warn(what, f"docker logs {container.name} says why")

    def _examine_network(self, container: Container) -> None:
        dashboard = self._docker.dashboard
        if dashboard is not None and not set(container.networks) & set(dashboard.networks):
            where = ", ".join(dashboard.networks) or "none"
            what = "it is in another Docker network than the dashboard, which can't call it then"
            self.error(what, f"{self.redeploy}; or: docker network connect {where} {container.name}")
            self.by_dashboard = False

    def _examine_address(self, container: Container) -> None:
        """Looks whether the dashboard calls it at its address: Docker gives out new ones when it restarts."""
        recorded = {str(url).rsplit(":", 1)[0] for url in self._status.get("internalInvocationUrls") or []}
        now = {address for address in container.networks.values() if address}
        if self.by_dashboard and recorded and now and not recorded & now:
            self.moved = f"{', '.join(sorted(recorded))}, now at {', '.join(sorted(now))}"
            self.by_dashboard = False
