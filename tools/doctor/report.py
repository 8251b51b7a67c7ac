"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    severity: "error" for what users of CVAT run into, "warning" for what will bite later. subject: a function's name, or
    "Docker", "Nuclio", "CVAT". what: the cause, one sentence. remedy: what to do, a command where there is one.
    """

    severity: Literal["error", "warning"]
    subject: str
    what: str
    remedy: str = ""
