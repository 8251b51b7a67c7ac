"""Writes the table of functions in the README from their function.yaml files."""

from __future__ import annotations

import re

from common.config import KINDS, FunctionConfig
from tools.collection import COLLECTION, ROOT, function_directories

_BEGIN, _END = "<!-- functions -->", "<!-- /functions -->"


def table() -> str:
    """The Markdown table of all functions of the collection, by kind."""
    configs = [FunctionConfig.load(directory) for directory in function_directories()]
    lines = ["| function | kind | what it does |", "|---|---|---|"]
    for config in sorted(configs, key=lambda c: (KINDS.index(c.kind), c.name)):
        path = config.directory.relative_to(COLLECTION)
        lines.append(f"| [`{path}`](serverless/{path}) | {config.kind} | {config.description} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Replaces the table in README.md."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    readme.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: f"{_BEGIN}\n\n{table()}\n{_END}", text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
