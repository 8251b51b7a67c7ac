"""Which classes of transformers the functions serve, and for what."""

from __future__ import annotations

from common.errors import listed

DETECT = (
    "ConditionalDetrForObjectDetection",
    "DabDetrForObjectDetection",
    "DFineForObjectDetection",
    "DeformableDetrForObjectDetection",
    "Deimv2ForObjectDetection",
    "DetrForObjectDetection",
    "LwDetrForObjectDetection",
    "RTDetrForObjectDetection",
    "RTDetrV2ForObjectDetection",
    "RfDetrForObjectDetection",
    "TableTransformerForObjectDetection",
    "YolosForObjectDetection",
)
INSTANCES = (
    "DetrForSegmentation",
    "EomtDinov3ForUniversalSegmentation",
    "EomtForUniversalSegmentation",
    "Mask2FormerForUniversalSegmentation",
    "MaskFormerForInstanceSegmentation",
    "OneFormerForUniversalSegmentation",
    "RfDetrForInstanceSegmentation",
)
SEMANTIC = "ForSemanticSegmentation"  # in the name of every class that gives a class to each pixel
CLASSIFY = "ForImageClassification"  # in the name of every class that tags images
POSE = "VitPoseForPoseEstimation"
"""The class that finds joints in the boxes of a detector."""
_WORDS = {
    "detect": f"models of {listed([name.partition('For')[0] for name in DETECT], 20)}",
    "segment": f"models of {listed([name.partition('For')[0] for name in INSTANCES], 20)}, and any ...{SEMANTIC}",
    "classify": f"any ...{CLASSIFY}",
}


def task_of(architecture: str) -> str | None:
    """What a model is for.

    Args:
        architecture: The class of transformers that it was saved from, as in its config.json.

    Returns:
        detect, segment or classify: the function of serverless/pytorch/huggingface; None when none of them serves it.
    """
    if architecture in DETECT:
        return "detect"
    if architecture in INSTANCES or SEMANTIC in architecture:
        return "segment"
    return "classify" if CLASSIFY in architecture else None


def architecture_error(architecture: str, where: str) -> str:
    """The message for a model that no function serves.

    Args:
        architecture: The class of transformers that it was saved from; "" when config.json doesn't say.
        where: What the message calls the model.
    """
    if architecture == POSE:
        return (
            f"{where}: {architecture} finds the joints of what is in a box: it needs a detector in front of it. Use the function "
            "serverless/pytorch/huggingface/pose, or make one: make new WEIGHTS=folder DETECTOR=detector.onnx"
        )
    every = "; ".join(f"{task}: {words}" for task, words in _WORDS.items())
    if architecture.endswith("Model"):
        every += "; models that describe images: KIND=reid"
    return (
        f"{where}: config.json: architectures: got {architecture or 'nothing'}, which is not served; served are {every}"
    )


def served(task: str) -> str:
    """The models that a function serves, in words for a message.

    Args:
        task: detect, segment or classify.
    """
    return _WORDS[task]
