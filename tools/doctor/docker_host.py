"""What is wrong with containers, apart from the functions in them: why one does not run, ports and logs of all."""

from __future__ import annotations

from deploy.host.containers import FUNCTION_PORT, Container, DockerHost
from deploy.host.listeners import port_user
from tools.doctor.report import Report

EVERYONE = ("0.0.0.0", "::")  # noqa: S104 - what Docker says, not what we listen on
_MOST_NAMED = 4


def stopped(container: Container, host: DockerHost, redeploy: str = "") -> tuple[str, str]:
    """Why a container does not run, and what to do.

    Args:
        container: The container.
        host: Docker's host, for the containers that may have its port.
        redeploy: The command that makes the container anew with another port; "" without one.
    """
    name, logs = container.name, f"docker logs {container.name} says why"
    for port in sorted(container.host_ports) if host.is_here else []:
        user = port_user(port, host.containers.values())
        if user:
            other = f"; or give the function another port: {redeploy}" if redeploy else ""
            what = f"its container can't start: {user} has its port {port}"
            return what, f"stop that one, then docker start {name}{other}"
    if container.status == "restarting":
        return f"its container stops again and again, with exit status {container.exit_code}", logs
    if container.status == "paused":
        return "its container is paused", f"docker unpause {name}"
    if container.error:
        return f"its container can't start: {container.error[-200:]}", f"docker start {name} tries again"
    if container.out_of_memory:
        what = "its container is stopped: the kernel killed it to free memory"
        return what, f"docker start {name}; fewer workers (numWorkers), or more memory, keep it from happening again"
    return f"its container is {container.status}", f"docker start {name}; {logs.replace('why', 'why it stopped')}"


def examine_all(host: DockerHost, namespace: str, report: Report) -> None:
    """Adds what concerns all containers of functions, a warning for all of them together.

    Args:
        host: What Docker answered.
        namespace: Of the functions in Nuclio.
        report: Where findings go.
    """
    functions = list(host.functions(namespace).values())
    published = [c.published[FUNCTION_PORT] for c in functions if FUNCTION_PORT in c.published]
    open_ports = sorted(port for address, port in published if address in EVERYONE)
    if open_ports:
        what = f"anyone who can reach this machine can call the functions, without a password: {_ports(open_ports)}, on all addresses"
        report.warn("Docker", what, "docs/deploy.md, 'Who can reach the functions', closes them")
    unlimited = [
        c for c in (*functions, *host.dashboards) if c.log_driver == "json-file" and "max-size" not in c.log_options
    ]
    if unlimited:
        one = len(unlimited) == 1
        what = f"the log of {unlimited[0].name}" if one else f"the logs of {len(unlimited)} containers"
        report.warn("Docker", f"{what} can grow until the disk is full", "docs/deploy.md, 'Logs', limits them")


def _ports(ports: list[int]) -> str:
    more = len(ports) - _MOST_NAMED
    text = ", ".join(map(str, ports[:_MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
    return f"port{'' if len(ports) == 1 else 's'} {text}"
