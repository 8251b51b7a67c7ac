"""What deploy/verify.sh sends into a container, and deploy/bundle.sh packs, is all that deploy/check_reply.py imports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.collection import ROOT


@pytest.mark.parametrize("script", ["verify.sh", "bundle.sh"])
def test_the_files_suffice(script: str, tmp_path: Path) -> None:
    text = (ROOT / "deploy" / script).read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if "tar" in line and "tools/check" in line]
    names = re.findall(r"(?:tools|serverless)/[\w/.]+", line)
    assert len(names) > 4
    for name in [*names, "common", "deploy/check_reply.py"]:  # an image has `common`, a bundle all of deploy
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-P", "-c", "import check_reply; print(check_reply.__file__)"]
    path = os.pathsep.join([str(tmp_path), str(tmp_path / "deploy")])
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(str(tmp_path))
