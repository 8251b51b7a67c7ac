"""A function that is written the way CVAT's own are, without `common`, under tools.serve and tools.check."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.scenes import png, red_box
from tests.tools.serving import Server
from tools.check import inspect_function
from tools.collection import ROOT

DIRECTORY = ROOT / "tests/sample_functions/cvat_style"


def test_it_reads_its_function_yaml_under_serve(tmp_path: Path) -> None:
    assert not Path("/opt/nuclio/function.yaml").exists()
    server = Server(str(DIRECTORY))
    try:
        server.wait_for("Ctrl-C stops everything")
        image = base64.b64encode(png(red_box((10, 20, 40, 50)))).decode()
        reply = server.direct("cvat-style", {"image": image, "threshold": 0.5})
        assert reply.status_code == 200, server.output
        assert reply.json() == [{"confidence": "0.9", "label": "red", "points": [10, 20, 40, 50], "type": "rectangle"}]
    finally:
        assert server.stop() == 0


def test_it_reads_its_function_yaml_under_check() -> None:
    report = inspect_function(DIRECTORY)
    assert report.trial is not None
    assert report.trial.finished
    assert report.trial.requests > 10
