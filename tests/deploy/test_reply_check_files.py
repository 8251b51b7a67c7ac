"""What deploy/verify.py sends into a container, and deploy/bundle.py packs, is all that deploy/check_reply.py imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.verify import CHECK_FILES
from tools.collection import ROOT


def test_the_files_suffice(tmp_path: Path) -> None:
    for name in CHECK_FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-P", "-c", "import check_reply; print(check_reply.__file__)"]
    path = os.pathsep.join([str(tmp_path), str(tmp_path / "deploy")])
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(str(tmp_path))
