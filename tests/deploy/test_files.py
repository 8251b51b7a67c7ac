"""What the deployment's files must be like."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from common.cvat import request
from tests.deploy.host import REPOSITORY

DOCKERFILE = REPOSITORY / "deploy/Dockerfile"
SCRIPTS = sorted(
    [
        *(REPOSITORY / name for name in ("annotate", "deploy_cpu.sh", "deploy_gpu.sh")),
        *(REPOSITORY / "deploy").rglob("*.sh"),
        *(path for path in (REPOSITORY / "tests/deploy/stand_ins").iterdir() if path.is_file() and not path.suffix),
    ]
)
READERS = {"detector": "DetectorRequest", "interactor": "InteractorRequest", "reid": "ReidRequest"}


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_shellcheck_finds_nothing(script: Path) -> None:
    done = subprocess.run(
        ["shellcheck", "--check-sourced", str(script)], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stdout


def test_one_dockerfile_builds_the_base_images_of_all_frameworks() -> None:
    assert not list((REPOSITORY / "serverless").rglob("Dockerfile"))
    text = DOCKERFILE.read_text()
    assert not [path.name for path in (REPOSITORY / "serverless").iterdir() if path.name in text.split("FROM")[1]]


def test_base_images_have_no_compiler_and_no_cache() -> None:
    text = DOCKERFILE.read_text()
    assert "apt-get" not in text
    assert "PIP_NO_CACHE_DIR=1" in text
    assert "pip install" not in text  # base_packages.py does it, and removes what no function uses in the same layer


def test_a_base_image_says_what_it_was_built_from() -> None:
    lines = DOCKERFILE.read_text().splitlines()
    label = next(i for i, line in enumerate(lines) if line.startswith("LABEL "))
    assert "cvat-functions.python=${PYTHON_IMAGE}" in lines[label]
    assert "cvat-functions.torch=${TORCH_INDEX_URL}" in lines[label]
    # An argument of before FROM is empty after it unless it is named again.
    assert "ARG PYTHON_IMAGE" in lines[next(i for i, line in enumerate(lines) if line.startswith("FROM ")) : label]


def test_the_dashboard_beside_cvat_publishes_no_port() -> None:
    content = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    service = content["services"]["nuclio"]
    assert "ports" not in service
    assert "network_mode" not in service
    assert service["networks"] == ["cvat"]
    assert content["networks"]["cvat"] == {"name": "${CVAT_NETWORK:-cvat_cvat}", "external": True}
    assert service["container_name"] == "nuclio"  # where CVAT looks for it


@pytest.mark.parametrize("path", sorted((REPOSITORY / "deploy/samples").glob("*.json")), ids=lambda p: p.stem)
def test_samples_are_requests_as_cvat_sends_them(path: Path) -> None:
    body = json.loads(path.read_text())
    kind = path.stem.split("-")[0]
    if kind != "tracker":
        getattr(request, READERS[kind]).parse(body)
        return
    parsed = request.TrackerRequest.parse(body)
    assert len(parsed.items) == 1
    assert path.stat().st_size < 100_000
