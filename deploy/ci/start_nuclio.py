"""Starts Nuclio as it runs beside CVAT, on a machine that has only Docker: `python3 -m deploy.ci.start_nuclio [VERSION]`.

nuctl goes to ~/.local/bin, or where NUCTL_DIR says; the dashboard to the network cvat_cvat and port 8070 of this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from deploy.ci.program import must, run, succeeds
from deploy.console import DeploymentError
from deploy.host import nuctl_program
from deploy.host.containers import DASHBOARD_PORT
from deploy.host.network import CVAT_NETWORK, is_dashboard

_TRIES = 3
_TIMEOUT_S = 60


def start(arguments: Sequence[str], *, port: int = DASHBOARD_PORT) -> None:
    """Downloads nuctl, starts the dashboard, and waits until it answers.

    Args:
        arguments: The version of Nuclio, or nothing.
        port: The dashboard's, on this machine.

    Raises:
        DeploymentError: nuctl can't be downloaded, or the dashboard does not answer.
    """
    version = arguments[0] if arguments else nuctl_program.USUAL_NUCLIO
    folder = Path(os.environ.get("NUCTL_DIR") or Path.home() / ".local" / "bin")
    _download(nuctl_program.download_address(version), folder / "nuctl")
    if "GITHUB_PATH" in os.environ:  # the steps of the workflow that follow find it, too
        with open(os.environ["GITHUB_PATH"], "a", encoding="utf-8") as file:
            print(folder, file=file)
    if not succeeds("docker", "network", "inspect", CVAT_NETWORK):
        must("docker", "network", "create", CVAT_NETWORK)
    # Whoever reaches the dashboard is root on the machine: it listens on the loopback address alone.
    command = ["docker", "run", "--detach", "--name", "nuclio", "--network", CVAT_NETWORK]
    command += [
        "--publish",
        f"127.0.0.1:{port}:{DASHBOARD_PORT}",
        "--volume",
        "/var/run/docker.sock:/var/run/docker.sock",
    ]
    command += ["--env", "NUCLIO_DASHBOARD_DEFAULT_FUNCTION_MOUNT_MODE=volume"]
    must(*command, f"quay.io/nuclio/dashboard:{version}-{nuctl_program.architecture()}")
    began = time.monotonic()
    while not is_dashboard(f"http://127.0.0.1:{port}"):
        if time.monotonic() - began > _TIMEOUT_S:
            subprocess.run(["docker", "logs", "--tail", "50", "nuclio"])
            raise DeploymentError("Nuclio's dashboard does not answer", "docker logs nuclio shows more")
        time.sleep(1)
    print(f"Nuclio {version} answers after {time.monotonic() - began:.0f} s")


def _download(address: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for each in range(1, _TRIES + 1):
        try:
            with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as reply, target.open("wb") as file:  # noqa: S310
                shutil.copyfileobj(reply, file)
            break
        except OSError as error:
            if each == _TRIES:
                raise DeploymentError(f"{address} can't be downloaded: {error}") from error
            time.sleep(each)
    target.chmod(0o755)


if __name__ == "__main__":
    run("start_nuclio", start, "[VERSION]")
