"""In processes of their own: `provide` changes `open` for good."""

import subprocess
import sys
from pathlib import Path

from tools.collection import ROOT

CODE = """
import builtins, io, pathlib, sys
from tools.workers import function_yaml
folder = pathlib.Path(sys.argv[1])
function_yaml.provide(folder)
path = "/opt/nuclio/function.yaml"
for read in (
    lambda: open(path, "rb").read().decode(),
    lambda: open(path, encoding="utf-8").read(),
    lambda: io.open(file=path).read(),
    lambda: pathlib.Path(path).read_text(),
    lambda: pathlib.Path(path).open().read(),
    lambda: open(path.encode()).read(),
):
    assert read() == "kept: ä", read()
assert open(folder / "other").read() == "other"
with open(folder / "made", "w", encoding="utf-8") as file:
    file.write("made")
for path, mode in ((path, "r+"), ("/opt/nuclio/other.yaml", "r")):
    try:
        open(path, mode)
    except OSError as error:
        print(error.filename)
"""


def test_every_way_to_open_the_file_gives_the_functions_own(tmp_path: Path) -> None:
    (tmp_path / "function.yaml").write_text("kept: ä", encoding="utf-8")
    (tmp_path / "other").write_text("other")
    command = [sys.executable, "-X", "utf8", "-c", CODE, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    # What would write there, or reads another file there, is let through.
    assert ended.stdout.split() == ["/opt/nuclio/function.yaml", "/opt/nuclio/other.yaml"]
    assert (tmp_path / "made").read_text() == "made"
    assert (tmp_path / "function.yaml").read_text(encoding="utf-8") == "kept: ä"
