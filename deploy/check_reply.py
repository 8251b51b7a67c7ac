"""Checks the replies of a deployed function by the rules of tools/check; deploy/verify.py runs it in a container.

    python deploy/check_reply.py ROUTE...

In the working directory: function.yaml, request.json, and for each route ROUTE.reply (the body) and ROUTE.status
("200 0.41 application/json"). Prints what was found ("3 shapes"), or a line for each thing that is wrong and fails.
Where Python or its packages are not those that the check needs, it ends with status 86.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

try:
    from common.config import FunctionConfig
    from tools.check.reply_rules import check_reply
    from tools.wrapper import Reply
except Exception as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(86)


def main(routes: list[str]) -> int:
    """Checks the replies of some routes and prints the findings.

    Args:
        routes: The names of the routes, each the stem of its files.

    Returns:
        The exit status: 1 when a reply breaks a rule.
    """
    config = FunctionConfig.load(".")
    request = json.loads(Path("request.json").read_text())
    wrong: list[str] = []
    for route in routes:
        # Without a content type the reply had none.
        status, _, content_type = [*Path(f"{route}.status").read_text().split(None, 2), ""][:3]
        reply = Reply(int(status), Path(f"{route}.reply").read_bytes(), content_type.strip(), {})
        for finding in check_reply(reply, config, request):
            line = f"{finding.field or 'reply'}: expected {finding.expected}, got {finding.got}; {finding.why}"
            if finding.severity == "error" and line not in wrong:
                wrong.append(line)
    print("\n".join(wrong) or summary(config.kind, json.loads(Path(f"{routes[0]}.reply").read_bytes())))
    return 1 if wrong else 0


def summary(kind: str, content: Any) -> str:
    """What a valid reply holds, in two or three words.

    Args:
        kind: The function's kind.
        content: The reply's JSON value.

    Returns:
        Text such as "3 shapes".
    """
    if kind == "detector":
        return _count(len(content), "shape")
    if kind == "tracker":
        return _count(sum(shape is not None for shape in content["shapes"]), "shape")
    if kind == "reid":
        return _count(sum(index >= 0 for index in content), "match", "matches")
    if "mask" not in content:
        return "an embedding"
    return _count(sum(bool(value) for row in content["mask"] for value in row), "pixel") + " of mask"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
