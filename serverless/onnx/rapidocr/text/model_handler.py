"""Lines of text by RapidOCR: PP-OCR's networks for detection, orientation and recognition."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import cv2
import numpy as np
from rapidocr import EngineType, RapidOCR

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.engine import cuda_index
from common.networks.runtime import threads_per_worker
from common.protocol import Image
from common.shapes import Polygon, Shape

LABEL = "text"
ENGINES = ("auto", "onnxruntime", "openvino")
# The detector enlarges an image until its shorter side has 736 pixels: a strip of 3 x 200 would become one of 50,000.
_LONGEST_STRIP = 4
_LOG = logging.getLogger("common.rapidocr")


class ModelHandler:
    """A polygon with its transcription for each line of text.

    Args:
        config: The function's configuration.
        max_side: Larger images are reduced to this longer side, in pixels; a larger value finds smaller text and takes
            longer.
        device: cpu, cuda or cuda:1.
        engine: onnxruntime, openvino, or auto: OpenVINO on a CPU where it is installed.

    Raises:
        StartupError: The engine or the device can't be used here.
    """

    def __init__(self, config: FunctionConfig, *, max_side: int = 2000, device: str = "cpu", engine: str = "auto"):
        if engine not in ENGINES:
            raise StartupError(f"ENGINE: expected one of {', '.join(ENGINES)}, got {engine!r}")
        cuda = cuda_index(device)
        if cuda is not None and engine == "openvino":
            raise StartupError(f"DEVICE={device} needs ENGINE=onnxruntime; OpenVINO runs with DEVICE=cpu")
        if engine == "auto":
            engine = "openvino" if cuda is None and importlib.util.find_spec("openvino") else "onnxruntime"
        threads = threads_per_worker(config.workers)
        parameters: dict[str, Any] = {
            "Global.log_level": "error",
            "Global.max_side_len": max_side,
            **{f"{part}.engine_type": EngineType(engine) for part in ("Det", "Cls", "Rec")},
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.openvino.inference_num_threads": threads,
        }
        if cuda is not None:
            parameters["EngineConfig.onnxruntime.use_cuda"] = True
            parameters["EngineConfig.onnxruntime.cuda_ep_cfg.device_id"] = cuda
        self._reader = RapidOCR(params=parameters)
        # The library loads its networks at first use; here that is now, not in the first request.
        networks = (self._reader._load_det_model(), self._reader._load_cls_model(), self._reader._load_rec_model())
        if cuda is not None:
            for network in networks:  # it goes on with the CPU when CUDA can't start
                if network.session.session.get_providers()[0] != "CUDAExecutionProvider":
                    raise StartupError(
                        f"DEVICE={device}: ONNX Runtime can't use CUDA here: deploy the GPU image, or set DEVICE=cpu"
                    )
        self.infer(np.full((64, 64, 3), 255, np.uint8), 0.5)
        _LOG.info("PP-OCR in %s on %s, %d threads", engine, device, threads)

    def infer(self, image: Image, threshold: float) -> list[Shape]:
        """For each line a polygon of four corners, clockwise from its top left, with the transcription."""
        found = self._reader(_padded(np.ascontiguousarray(image[:, :, ::-1])), text_score=threshold)
        # Without any text the library returns results of other types, with nothing in them.
        if getattr(found, "txts", None) is None or found.boxes is None:
            return []
        return [
            Polygon(label=LABEL, score=float(score), points_xy=corners, attributes={"text": text})
            for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        ]


def _padded(image: Image) -> Image:
    """A narrow strip with plain colour added below or beside it, so that its sides are at most 4 to 1."""
    height, width = image.shape[:2]
    below, beside = max(width // _LONGEST_STRIP - height, 0), max(height // _LONGEST_STRIP - width, 0)
    if not below and not beside:
        return image
    color = np.median(image.reshape(-1, 3), axis=0).tolist()
    return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=color))
