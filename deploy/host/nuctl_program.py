"""Finds nuctl and checks its version."""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import dataclass

from deploy.bundle import kept_nuctl
from deploy.commands import Commands
from deploy.console import Console

USUAL_NUCLIO = "1.15.9"
"""The version that CVAT 2.54 ships."""
_RELEASES = "https://github.com/nuclio/nuclio/releases/download"
_OLDEST, _NEWEST = "1.13", "1.17"  # docs/deploy.md says what was read and run of which version


@dataclass(frozen=True)
class Nuctl:
    """The program."""

    path: str
    """Absolute; "nuctl" where it was not found."""
    version: str
    """Such as 1.14.1; "" when it does not run."""


def find_nuctl(console: Console, commands: Commands, given: str, dashboard_version: str, *, aloud: bool) -> Nuctl:
    """Looks for nuctl and asks it for its version.

    Args:
        console: Where a missing or too old nuctl is reported.
        commands: Runs it.
        given: The program to use; "" takes NUCTL of the environment, a path or a name on the path, else nuctl, else the one
            that an earlier bundle has left.
        dashboard_version: Of Nuclio's dashboard; "" when none is known.
        aloud: Whether what is there is reported as well.
    """
    named = given or os.environ.get("NUCTL", "")
    found = shutil.which(named or "nuctl")
    if not found and not named:
        kept = kept_nuctl()
        found = str(kept) if kept else None
    # Absolute, as nuctl runs in another folder.
    path = os.path.abspath(found) if found else named or "nuctl"
    version = _version_of(path, commands) if found else ""
    wanted = download_command(dashboard_version or USUAL_NUCLIO)
    if not version:
        console.bad(_problem(path, named, is_found=found is not None), wanted)
    elif _numbers(version) < _numbers(_OLDEST):
        console.bad(f"nuctl {version} is too old: {_OLDEST} or newer is needed", wanted)
    elif aloud:
        console.good(f"nuctl {version}")
        if _numbers(version)[:2] > _numbers(_NEWEST):
            known = f"{_OLDEST} to {_NEWEST}"
            console.note(f"nuctl {version} is newer than the versions that these scripts know of ({known})")
        if dashboard_version and dashboard_version != version:
            console.note(f"Nuclio's dashboard is {dashboard_version}: a nuctl of the same version is safer", wanted)
    return Nuctl(path, version)


def download_command(version: str) -> str:
    """The command that installs nuctl on this platform.

    Args:
        version: Of Nuclio.
    """
    target = "/usr/local/bin/nuctl"
    return f"sudo curl -fL -o {target} {download_address(version)} && sudo chmod +x {target}"


def download_address(version: str) -> str:
    """Where nuctl is for this platform.

    Args:
        version: Of Nuclio.
    """
    return f"{_RELEASES}/{version}/nuctl-{version}-{platform.system().lower()}-{architecture()}"


def architecture() -> str:
    """The processor of this machine as Nuclio's releases and images name it: amd64 or arm64."""
    return "arm64" if platform.machine() in ("aarch64", "arm64") else "amd64"


def _problem(path: str, named: str, *, is_found: bool) -> str:
    if is_found:
        return f"nuctl ({path}) does not run"
    return f"there is no program {named}, which NUCTL names" if named else "nuctl is not installed"


def _version_of(path: str, commands: Commands) -> str:
    match = re.search(r"Label: ([0-9]+\.[0-9]+\.[0-9]+)", commands.ask(path, "version").output)
    return match[1] if match else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
