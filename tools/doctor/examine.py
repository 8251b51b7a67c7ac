"""Examines an installation: makes findings of what Docker, the dashboard and the functions answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx

from deploy.host.containers import DASHBOARD_PORT, Container, DockerHost
from tools.doctor.dashboard import Dashboard
from tools.doctor.docker_host import EVERYONE, examine_all, stopped
from tools.doctor.functions import MOVED_REMEDY, DeployedFunction, ServedFunction
from tools.doctor.report import Report, Row
from tools.doctor.waiting import WAIT_S, settled


def examine(
    ask_docker: Callable[[], DockerHost] | None,
    address: str | None,
    namespace: str = "nuclio",
    *,
    send: bool = True,
    wait_s: float = WAIT_S,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Report, Dashboard | None]:
    """Examines the dashboard and all functions.

    Args:
        ask_docker: asks Docker; None for not at all.
        address: the dashboard's; None to find it.
        namespace: of the functions in Nuclio.
        send: whether each function gets a sample image.
        wait_s: how long to wait for containers that were started a moment ago, in seconds.
        progress: is called with what is done next, in words.

    Returns:
        The report with a row for each function, and the dashboard; None when it has no list of functions.
    """
    report = Report()
    host = ask_docker() if ask_docker else DockerHost(problem="not asked")
    dashboard, is_serve = _find_dashboard(host, address, namespace, report)
    if is_serve:
        host = DockerHost(problem="not needed")
    elif host.problem and ask_docker:
        report.warn("Docker", host.problem, "without it, containers, ports and networks are not looked at")
    elif ask_docker:
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
    if ask_docker and not host.problem:
        ask = _asking_again(ask_docker, dashboard, functions)
        host, functions = settled((host, functions), ask, namespace, wait_s, progress)
        examine_all(host, namespace, report)
    moved = {}
    for name in sorted(functions):
        progress(f"trying {name}")
        row = Row(name)
        report.rows.append(row)
        if is_serve:
            ServedFunction(row, functions[name], dashboard, report).examine(send)
        else:
            function = DeployedFunction(row, functions[name], dashboard, report, host)
            function.examine(send)
            moved[name] = function.moved
    _examine_addresses({name: addresses for name, addresses in moved.items() if addresses}, report)
    return report, dashboard


def _asking_again(
    ask_docker: Callable[[], DockerHost], dashboard: Dashboard, functions: dict[str, Any]
) -> Callable[[], tuple[DockerHost, dict[str, Any]]]:
    def ask() -> tuple[DockerHost, dict[str, Any]]:
        try:
            return ask_docker(), dashboard.functions()
        except (httpx.HTTPError, ValueError):  # it has just answered: it is being restarted itself
            return ask_docker(), functions

    return ask


def _examine_addresses(moved: Mapping[str, str], report: Report) -> None:
    if moved:
        where = "; ".join(f"{name} ({addresses})" for name, addresses in moved.items())
        report.error(
            "Nuclio",
            f"the dashboard calls functions where they were before Docker restarted, and another may answer there: {where}",
            MOVED_REMEDY,
        )


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
        what, remedy = stopped(container, host)
        report.error("Nuclio", f"the dashboard: {what}", remedy)
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
    if where and where[0] in EVERYONE:
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
