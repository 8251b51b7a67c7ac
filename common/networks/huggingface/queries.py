"""The classes of a model's queries: which of them is an object, and how likely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SIGMOID = (  # every class has a probability of its own; the others have a softmax whose last class is "no object"
    "ConditionalDetrForObjectDetection",
    "DabDetrForObjectDetection",
    "DFineForObjectDetection",
    "DeformableDetrForObjectDetection",
    "Deimv2ForObjectDetection",
    "LwDetrForObjectDetection",
    "RTDetrForObjectDetection",
    "RTDetrV2ForObjectDetection",
    "RfDetrForObjectDetection",
    "RfDetrForInstanceSegmentation",
)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """N classes of queries, the highest score first."""

    queries: NDArray[np.int64]
    """(N,) indices of queries; a query can have several classes."""
    classes: NDArray[np.int64]
    """(N,) class indices."""
    scores: NDArray[np.float32]
    """(N,), 0 to 1."""

    @property
    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Queries, classes and scores."""
        return self.queries, self.classes, self.scores


def class_scores(logits: NDArray[np.float32], architecture: str, threshold: float, most: int) -> Scored:
    """The classes of queries that reach a score.

    The rule follows from the model's class alone: the preprocessing of some published folders (RF-DETR's) names a class of
    the library whose post-processing is for another kind of model.

    Args:
        logits: (Q, C) of the queries, with "no object" as the last class where the architecture has one.
        architecture: The model's class in transformers.
        threshold: The lowest score, 0 to 1.
        most: How many at most, and never more than there are queries.
    """
    if architecture in _SIGMOID:
        scores = sigmoid(logits)
        queries, classes = np.nonzero(scores >= threshold)
    else:
        scores = softmax(logits)[:, :-1]
        classes = scores.argmax(axis=1)
        queries = np.flatnonzero(scores.max(axis=1) >= threshold)
        classes = classes[queries]
    reached = scores[queries, classes]
    best = np.argsort(-reached, kind="stable")[: min(most, len(logits))]
    return Scored(queries[best], classes[best], reached[best])


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probabilities of classes that exclude each other.

    Args:
        logits: Of any shape; the last axis is the classes.
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probability of each class, whatever the others'.

    Args:
        logits: Of any shape.
    """
    halves: NDArray[np.float32] = np.tanh(logits * np.float32(0.5)) * np.float32(0.5) + np.float32(0.5)
    return halves
