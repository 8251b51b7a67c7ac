"""Any function of the collection as an auto-annotation function of CVAT's SDK.

    cvat-cli task auto-annotate 5 --function-file serverless/native.py -p function=str:onnx/rapidocr/text
    cvat-cli function create-native "Text" --function-file serverless/native.py -p function=str:onnx/rapidocr/text
    cvat-cli function run-agent 7 --function-file serverless/native.py -p function=str:onnx/rapidocr/text

Further parameters are options of the function: its environment variables in small letters, -p threshold=float:0.4.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_ROOT = str(Path(__file__).resolve().parent.parent)
if _ROOT not in sys.path:  # cvat-cli loads this file by its path
    sys.path.append(_ROOT)

from common.serving import native  # noqa: E402
from serverless.collection import resolve  # noqa: E402


def create(function: str, **options: Any) -> native.Detection | native.Interaction | native.Tracking:
    """The function as an object for CVAT's SDK; see `common.serving.native.create`.

    Args:
        function: Its name, its path below serverless/, or its directory.
        options: Of the function, by name, as values or texts.
    """
    return native.create(resolve(function), options)
