"""From what Docker, Nuclio and CVAT say to what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from common.config import FunctionConfig, http_trigger
from common.errors import StartupError
from tools.check.document import Document
from tools.check.function_rules import check_function_yaml
from tools.doctor.containers import Container, Host
from tools.doctor.dashboard import Dashboard, Trial, config_of
from tools.doctor.report import Finding

_FUNCTION_PORT = 8080
_DASHBOARD_PORT = 8070
_EVERYONE = ("0.0.0.0", "::")  # noqa: S104 - what Docker says, not what we listen on
_NO_BUILD = "./deploy_cpu.sh --no-build, or ./deploy_gpu.sh --no-build, with its directory: seconds"
_REDEPLOY = "deploy it again: ./deploy_cpu.sh, or ./deploy_gpu.sh, with its directory"
_BUSY = ("building", "waitingForBuild", "waitingForResourceConfiguration", "configuringResources")


@dataclass(slots=True)
class Row:
    """One function in the report. direct, dashboard: how the trials went, None for one that was not made."""

    name: str
    kind: str = "?"
    state: str = "?"
    port: int = 0
    direct: Trial | None = None
    dashboard: Trial | None = None


@dataclass(slots=True)
class Report:
    """lines: what is well, a sentence each."""

    lines: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, severity: str, subject: str, what: str, remedy: str = "") -> None:
        self.findings.append(Finding("error" if severity == "error" else "warning", subject, what, remedy))


def examine(
    host: Host,
    address: str | None,
    namespace: str = "nuclio",
    *,
    send: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Report, dict[str, Any]]:
    """The report on an installation, and Nuclio's functions by name.

    host: what Docker says. address: the dashboard's; None to find it. send: whether each function gets a sample image.
    """
    report = Report()
    if host.problem:
        report.add("warning", "Docker", host.problem, "without it, containers, ports and networks are not looked at")
    else:
        count = sum(c.name.startswith(f"nuclio-{namespace}-") for c in host.containers.values())
        report.lines.append(f"Docker: {count} function container{'' if count == 1 else 's'}")
    dashboard = _find_dashboard(host, address, namespace, report)
    if dashboard is None:
        return report, {}
    try:
        functions = dashboard.functions()
    except (httpx.HTTPError, ValueError) as error:
        report.add("error", "Nuclio", f"its list of functions can't be read: {error}", "docker logs nuclio says more")
        return report, {}
    if not functions:
        _explain_empty(dashboard, report)
    for name in sorted(functions):
        progress(name)
        _examine_function(name, functions[name], host, dashboard, report, send)
    return report, functions


def _find_dashboard(host: Host, address: str | None, namespace: str, report: Report) -> Dashboard | None:
    container = host.dashboard
    tried = []
    for candidate in [address] if address else _addresses(host, container):
        dashboard = Dashboard(candidate, namespace)
        try:
            version = dashboard.version()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            tried.append(f"{candidate} ({error})")
            continue
        report.lines.append(f"Nuclio's dashboard {version} at {candidate}".replace("  ", " "))
        if container is not None and address is None:
            _examine_dashboard(container, report)
        return dashboard
    if container is not None and container.status != "running":
        remedy = f"docker start {container.name}; docker logs {container.name} says why it stopped"
        report.add("error", "Nuclio", f"its dashboard is there, but {container.status}", remedy)
    else:
        remedy = "docker compose -f compose.yaml up -d, beside a running CVAT; for a cluster: kubectl port-forward, and --dashboard"
        report.add("error", "Nuclio", f"no dashboard answers at {', '.join(tried)}", remedy)
    return None


def _addresses(host: Host, container: Container | None) -> list[str]:
    if container is None or container.status != "running":
        return [f"http://{host.address}:{_DASHBOARD_PORT}"]
    if _DASHBOARD_PORT in container.published:
        return [f"http://{host.address}:{container.published[_DASHBOARD_PORT][1]}"]
    return [f"http://{a}:{_DASHBOARD_PORT}" for a in container.networks.values() if a]


def _examine_dashboard(container: Container, report: Report) -> None:
    where = container.published.get(_DASHBOARD_PORT)
    if where and where[0] in _EVERYONE:
        report.add(
            "warning",
            "Nuclio",
            f"the dashboard's port {where[1]} is open to the network; whoever reaches it can start containers as root here",
            "publish it on 127.0.0.1 only, or not at all as compose.yaml does, or close it in the firewall",
        )
    if container.restart == "no":
        report.add(
            "warning",
            "Nuclio",
            "its dashboard does not come back after a reboot",
            f"docker update --restart=always {container.name}",
        )


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
        report.add("error", "Nuclio", what, "deploy them with --project-name cvat, as ./deploy_cpu.sh does")
    else:
        report.add("error", "Nuclio", "there are no functions", "./deploy_cpu.sh deploys the collection")


def _examine_function(
    name: str, function: Mapping[str, Any], host: Host, dashboard: Dashboard, report: Report, send: bool
) -> None:
    status, spec = function.get("status") or {}, function.get("spec") or {}
    row = Row(name, state=str(status.get("state") or "?"), port=int(status.get("httpPort") or 0))
    report.rows.append(row)
    config = _examine_listing(name, function, report)
    if config is not None:
        row.kind = config.kind
    container = host.of_function(name, dashboard.namespace)
    if not _examine_state(row, status, container, report):
        return
    if not host.problem:
        _examine_container(row, spec, container, host, report)
    moved = container is not None and _has_moved(row, status, container, report)
    if send and config is not None:
        _try(row, config, host, dashboard, container, report, by_dashboard=not moved)


def _examine_listing(name: str, function: Mapping[str, Any], report: Report) -> FunctionConfig | None:
    """Whether CVAT would list it, and list the others beside it."""
    if not (function.get("spec") or {}).get("description"):
        what = "it has no description: CVAT fails on the whole list of functions"
        report.add("error", name, what, "set spec.description in its function.yaml and deploy it again")
    findings = [
        f for f in check_function_yaml(Document(dict(function))) if f.rule.startswith(("annotations.", "labels."))
    ]
    for finding in findings:
        what = f"{finding.field}: expected {finding.expected}, got {finding.got}; {finding.why}"
        report.add(finding.severity, name, what, finding.remedy or "correct its function.yaml and deploy it again")
    try:
        return config_of(function)
    except StartupError as error:
        if not findings:
            report.add("error", name, str(error), "correct its function.yaml and deploy it again")
        return None


def _examine_state(row: Row, status: Mapping[str, Any], container: Container | None, report: Report) -> bool:
    """Whether the function is one that could answer."""
    logs = f"docker logs {container.name} says why" if container else "its log is gone with its container"
    if row.state == "ready":
        return True
    if row.state in _BUSY:
        what = "it is being deployed, or a deployment was interrupted"
        report.add(
            "error",
            row.name,
            what,
            f"if nobody deploys it: nuctl delete function {row.name} --force, then deploy it again",
        )
    elif row.state in ("unhealthy", "error"):
        message = str(status.get("message") or "").strip().splitlines()
        what = f"its state is {row.state}" + (f": {message[0][:200]}" if message else "")
        if container and container.out_of_memory:
            what += "; the kernel ended it for memory"
        report.add("error", row.name, what, f"{logs}; {_REDEPLOY}")
    elif row.state in ("imported", "scaledToZero"):
        return row.state == "scaledToZero"
    else:
        report.add("error", row.name, f"its state is {row.state}", _REDEPLOY)
    return False


def _examine_container(
    row: Row, spec: Mapping[str, Any], container: Container | None, host: Host, report: Report
) -> None:
    if container is None:
        report.add("error", row.name, "Nuclio has it as ready, but its container is gone", _REDEPLOY)
        return
    if container.status != "running":
        what = f"its container is {container.status}, though Nuclio has it as ready"
        report.add(
            "error", row.name, what, f"docker start {container.name}; docker logs {container.name} says why it stopped"
        )
        return
    wanted = (http_trigger(dict(spec)).get("attributes") or {}).get("port")
    actual = container.published.get(_FUNCTION_PORT, ("", 0))[1]
    if actual != row.port:
        what = (
            f"Nuclio has port {row.port or 'none'}, the container is at {actual or 'none'}: direct calls of CVAT fail"
        )
        report.add("error", row.name, what, _REDEPLOY)
    elif not container.ports.get(_FUNCTION_PORT):
        what = f"its port {actual} was drawn at random: it changes when Docker restarts, and direct calls of CVAT fail then"
        report.add("warning", row.name, what, f"{_REDEPLOY}; it gets a port that stays")
    elif wanted and int(wanted) != actual:
        report.add("warning", row.name, f"its function.yaml asks for port {wanted}, it has {actual}", _REDEPLOY)
    if container.restart == "no":
        report.add(
            "warning",
            row.name,
            "it does not come back after a reboot",
            f"docker update --restart=always {container.name}",
        )
    if container.restarts:
        why = "for want of memory" if container.out_of_memory else f"docker logs {container.name} says why"
        report.add("warning", row.name, f"it has been restarted {container.restarts} times", why)
    if host.dashboard is not None and not set(container.networks) & set(host.dashboard.networks):
        where = ", ".join(host.dashboard.networks) or "none"
        what = "it is in another Docker network than the dashboard, which can't call it then"
        report.add("error", row.name, what, f"{_REDEPLOY}; or: docker network connect {where} {container.name}")


def _has_moved(row: Row, status: Mapping[str, Any], container: Container, report: Report) -> bool:
    """Whether the dashboard would call an address of before: Docker gives out new ones when it restarts."""
    recorded = {str(url).rsplit(":", 1)[0] for url in status.get("internalInvocationUrls") or []}
    now = {address for address in container.networks.values() if address}
    if not recorded or not now or recorded & now:
        return False
    what = (
        f"the dashboard calls it at {', '.join(sorted(recorded))}, where it was before Docker restarted; it is at "
        f"{', '.join(sorted(now))} now, and another function may answer in its place"
    )
    report.add(
        "error", row.name, what, f"{_NO_BUILD}. Direct calls (CVAT_NUCLIO_INVOKE_METHOD=direct) are not touched by this"
    )
    return True


def _try(
    row: Row,
    config: FunctionConfig,
    host: Host,
    dashboard: Dashboard,
    container: Container | None,
    report: Report,
    *,
    by_dashboard: bool,
) -> None:
    if row.port and container is not None:
        row.direct = dashboard.call(config, f"http://{host.address}:{row.port}/")
        if row.direct.problem:
            logs = f"docker logs {container.name} says more"
            report.add("error", row.name, f"on its port {row.port}: {row.direct.problem}", logs)
    if not by_dashboard:
        return
    row.dashboard = dashboard.call(config)
    if row.dashboard.problem:
        remedy = "the dashboard must reach the function's container: the same Docker network"
        report.add("error", row.name, f"through the dashboard: {row.dashboard.problem}", remedy)
