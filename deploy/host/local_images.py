"""The images that are on Docker's host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from deploy.commands import Commands


@dataclass(frozen=True)
class LocalImage:
    """An image that is here."""

    id: str
    """sha256:..."""
    size_bytes: int
    labels: Mapping[str, str] = field(default_factory=dict)


def find_image(name: str, commands: Commands) -> LocalImage | None:
    """An image that is here; None when it isn't, or Docker does not answer.

    Args:
        name: Its name with its tag, or its id.
        commands: Runs docker.
    """
    done = commands.ask("docker", "image", "inspect", name)
    try:
        content = json.loads(done.output)[0]
    except (ValueError, IndexError):
        return None
    labels = (content.get("Config") or {}).get("Labels") or {}
    return LocalImage(str(content.get("Id", "")), int(content.get("Size") or 0), labels)
