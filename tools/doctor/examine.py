"""Examines an installation: makes findings of what Docker, the dashboard and the functions answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import httpx

from common.config import FunctionConfig, http_trigger
from common.errors import StartupError
from deploy.containers import DASHBOARD_PORT, FUNCTION_PORT, Container, DockerHost
from tools.check.document import Document
from tools.check.function_rules import check_function_yaml
from tools.doctor.dashboard import Dashboard, config_of
from tools.doctor.report import Report, Row

_EVERYONE = ("0.0.0.0", "::")  # noqa: S104 - what Docker says, not what we listen on
_BUSY = ("building", "waitingForBuild", "waitingForResourceConfiguration", "configuringResources")
_NO_BUILD = "./deploy_cpu.sh --no-build, or ./deploy_gpu.sh --no-build, with its directory: seconds"
_REDEPLOY = "deploy it again: ./deploy_cpu.sh, or ./deploy_gpu.sh, with its directory"


def examine(
    docker: DockerHost | None,
    address: str | None,
    namespace: str = "nuclio",
    *,
    send: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Report, Dashboard | None]:
    """Examines the dashboard and all functions.

    Args:
        docker: what Docker answered; None when it was not asked.
        address: the dashboard's; None to find it.
        namespace: of the functions in Nuclio.
        send: whether each function gets a sample image.
        progress: is called with the name of each function before it is examined.

    Returns:
        The report with a row for each function, and the dashboard; None when it has no list of functions.
    """
    report = Report()
    host = docker or DockerHost(problem="not asked")
    dashboard, is_serve = _find_dashboard(host, address, namespace, report)
    if is_serve:
        host = DockerHost(problem="not needed")
    elif host.problem and docker:
        report.warn("Docker", host.problem, "without it, containers, ports and networks are not looked at")
    elif docker:
        count = len(host.functions(namespace))
        report.lines.insert(0, f"Docker: {count} function container{'' if count == 1 else 's'}")
    if dashboard is None:
        return report, None
    try:
        functions = dashboard.functions()
    except (httpx.HTTPError, ValueError) as error:
        remedy = (
            "the output of make serve says more"
            if is_serve
            else f"is {dashboard.address} the dashboard, and not a function? docker logs nuclio says more"
        )
        what = str(error).partition("\n")[0]  # then comes httpx's link to an explanation of the status
        report.error("Nuclio", f"its list of functions can't be read: {what}", remedy)
        return report, None
    if not functions and is_serve:
        report.error("Nuclio", "make serve runs no function", "its output says what each function lacks")
    elif not functions:
        _explain_empty(dashboard, report)
    for name in sorted(functions):
        progress(name)
        row = Row(name)
        report.rows.append(row)
        if is_serve:
            _ServedFunction(row, functions[name], dashboard, report).examine(send)
        else:
            _DeployedFunction(row, functions[name], dashboard, report, host).examine(send)
    return report, dashboard


def _find_dashboard(
    host: DockerHost, address: str | None, namespace: str, report: Report
) -> tuple[Dashboard | None, bool]:
    container = host.dashboard
    tried = []
    for candidate in [address] if address else _addresses(host, container):
        dashboard = Dashboard(candidate, namespace)
        try:
            words, is_serve = dashboard.find()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            tried.append(f"{candidate} ({error})")
            continue
        report.lines.append(f"{words} at {candidate}")
        if container is not None and address is None:
            _examine_dashboard(container, report)
        return dashboard, is_serve
    if container is not None and container.status != "running":
        remedy = f"docker start {container.name}; docker logs {container.name} says why it stopped"
        report.error("Nuclio", f"its dashboard's container is {container.status}", remedy)
    else:
        remedy = (
            "make serve; or with Nuclio: docker compose -f compose.yaml up -d, beside a running CVAT; "
            "for a cluster: kubectl port-forward, and --dashboard"
        )
        report.error("Nuclio", f"no dashboard answers at {', '.join(tried)}", remedy)
    return None, False


def _addresses(host: DockerHost, container: Container | None) -> list[str]:
    if container is None or container.status != "running":
        return [f"http://{host.address}:{DASHBOARD_PORT}"]
    if DASHBOARD_PORT in container.published:
        return [f"http://{host.address}:{container.published[DASHBOARD_PORT][1]}"]
    return [f"http://{a}:{DASHBOARD_PORT}" for a in container.networks.values() if a]


def _examine_dashboard(container: Container, report: Report) -> None:
    where = container.published.get(DASHBOARD_PORT)
    if where and where[0] in _EVERYONE:
        report.warn(
            "Nuclio",
            f"the dashboard's port {where[1]} is open to the network; whoever reaches it can start containers as root here",
            "publish it on 127.0.0.1 only, or not at all as compose.yaml does, or close it in the firewall",
        )
    if container.restart == "no":
        remedy = f"docker update --restart=always {container.name}"
        report.warn("Nuclio", "its dashboard does not come back after a reboot", remedy)


def _explain_empty(dashboard: Dashboard, report: Report) -> None:
    try:
        others = dashboard.functions(project=None)
    except (httpx.HTTPError, ValueError):
        others = {}
    if others:
        names = ", ".join(sorted(others)[:4])
        what = (
            f"project cvat has no functions, though Nuclio has {len(others)} in others: {names}; CVAT lists cvat's only"
        )
        report.error("Nuclio", what, "deploy them with --project-name cvat, as ./deploy_cpu.sh does")
    else:
        report.error("Nuclio", "there are no functions", "./deploy_cpu.sh deploys the collection")


class _ServedFunction:
    """A function of `make serve`: it has a port on the dashboard's host, and no container."""

    redeploy = "end make serve and start it again"
    logs = unreachable = "the output of make serve says more"
    busy = ("its workers are starting", "wait, and ask again")
    killed = ""
    """What a failed state's message ends with when the kernel has killed it."""

    def __init__(self, row: Row, described: Mapping[str, Any], dashboard: Dashboard, report: Report):
        self._row, self._described, self._dashboard = row, described, dashboard
        self._status, self._spec = described.get("status") or {}, described.get("spec") or {}
        row.state = str(self._status.get("state") or "?")
        row.port = int(self._status.get("httpPort") or 0)
        self.host = httpx.URL(dashboard.address).host
        """Of the function's own port, "" when that is not known."""
        self.error, self.warn = partial(report.error, row.name), partial(report.warn, row.name)

    def examine(self, send: bool) -> None:
        config = self._examine_listing()
        if config is not None:
            self._row.kind = config.kind
        if self._can_answer():
            by_dashboard = self._examine_container()
            if send and config is not None:
                self._try(config, by_dashboard)

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
        if state in _BUSY:
            self.error(*self.busy)
        elif state in ("unhealthy", "error"):
            message = str(self._status.get("message") or "").strip().splitlines()
            what = f"its state is {state}" + (f": {message[0][:200]}" if message else "")
            self.error(what + self.killed, f"{self.logs}; {self.redeploy}")
        elif state not in ("ready", "scaledToZero", "imported"):
            self.error(f"its state is {state}", self.redeploy)
        return state in ("ready", "scaledToZero")

    def _examine_container(self) -> bool:
        """Whether requests through the dashboard reach this function."""
        return True

    def _try(self, config: FunctionConfig, by_dashboard: bool) -> None:
        row = self._row
        if row.port and self.host:
            row.direct = self._dashboard.call(config, f"http://{self.host}:{row.port}/")
            if row.direct.problem:
                self.error(f"on its port {row.port}: {row.direct.problem}", self.logs)
        if by_dashboard:
            row.dashboard = self._dashboard.call(config)
            if row.dashboard.problem:
                self.error(f"through the dashboard: {row.dashboard.problem}", self.unreachable)


class _DeployedFunction(_ServedFunction):
    """A function of Nuclio, with a container where Docker could be asked."""

    redeploy = _REDEPLOY
    unreachable = "the dashboard must reach the function's container: the same Docker network"

    def __init__(
        self, row: Row, described: Mapping[str, Any], dashboard: Dashboard, report: Report, docker: DockerHost
    ):
        super().__init__(row, described, dashboard, report)
        self._docker, self._container = docker, docker.of_function(row.name, dashboard.namespace)
        self.host = docker.address if self._container else ""
        remedy = f"if nobody deploys it: nuctl delete function {row.name} --force, then deploy it again"
        self.busy = ("it is being deployed, or a deployment was interrupted", remedy)
        if self._container:
            self.logs = f"docker logs {self._container.name} says more"
            self.killed = "; the kernel killed it to free memory" if self._container.out_of_memory else ""
        else:
            self.logs = "its log says more" if docker.problem else "its log is gone with its container"

    def _examine_container(self) -> bool:
        container = self._container
        if self._docker.problem:
            return True
        if container is None:
            self.error("Nuclio has it as ready, but its container is gone", _REDEPLOY)
            return True
        if container.status == "running":
            self._examine_port(container)
            self._examine_restarts(container)
            self._examine_network(container)
        else:
            what = f"its container is {container.status}, though Nuclio has it as ready"
            self.error(what, f"docker start {container.name}; docker logs {container.name} says why it stopped")
        return self._is_where_recorded(container)

    def _examine_port(self, container: Container) -> None:
        port = self._row.port
        wanted = (http_trigger(dict(self._spec)).get("attributes") or {}).get("port")
        actual = container.published.get(FUNCTION_PORT, ("", 0))[1]
        if actual != port:
            where = f"Nuclio has port {port or 'none'}, the container is at {actual or 'none'}"
            self.error(f"{where}: direct calls of CVAT fail", _REDEPLOY)
        elif not container.ports.get(FUNCTION_PORT):
            what = (
                f"its port {actual} was drawn at random: it changes when Docker restarts, and direct calls of CVAT fail"
            )
            self.warn(what, f"{_REDEPLOY}; it gets a fixed port")
        elif wanted and int(wanted) != actual:
            self.warn(f"its function.yaml asks for port {wanted}, it has {actual}", _REDEPLOY)

    def _examine_restarts(self, container: Container) -> None:
        if container.restart == "no":
            self.warn("it does not come back after a reboot", f"docker update --restart=always {container.name}")
        if container.restarts:
            why = "it ran out of memory" if container.out_of_memory else f"docker logs {container.name} says why"
            self.warn(f"it has been restarted {container.restarts} time{'' if container.restarts == 1 else 's'}", why)

    def _examine_network(self, container: Container) -> None:
        dashboard = self._docker.dashboard
        if dashboard is not None and not set(container.networks) & set(dashboard.networks):
            where = ", ".join(dashboard.networks) or "none"
            what = "it is in another Docker network than the dashboard, which can't call it then"
            self.error(what, f"{_REDEPLOY}; or: docker network connect {where} {container.name}")

    def _is_where_recorded(self, container: Container) -> bool:
        """Whether the dashboard calls it at its address: Docker gives out new ones when it restarts."""
        recorded = {str(url).rsplit(":", 1)[0] for url in self._status.get("internalInvocationUrls") or []}
        now = {address for address in container.networks.values() if address}
        if not recorded or not now or recorded & now:
            return True
        what = (
            f"the dashboard calls it at {', '.join(sorted(recorded))}, where it was before Docker restarted; it is at "
            f"{', '.join(sorted(now))} now, and another function may answer in its place"
        )
        self.error(what, f"{_NO_BUILD}. Direct calls (CVAT_NUCLIO_INVOKE_METHOD=direct) are not affected")
        return False
