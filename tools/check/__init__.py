"""Checks a function's directory, of this collection or not, against every rule of CVAT and Nuclio.

`check_function(directory)` returns the findings; `check_reply(reply, config, request)` does so for a reply in hand.
"""

from tools.check.findings import Finding, has_errors
from tools.check.function import Report, check_function, inspect_function
from tools.check.reply_rules import check_refusal, check_reply

__all__ = [
    "Finding",
    "Report",
    "check_function",
    "check_refusal",
    "check_reply",
    "has_errors",
    "inspect_function",
]
