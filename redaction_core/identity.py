"""Matching of faces: how alike two pictures are, for an audit of what a redaction still gives away.

A matcher makes a vector of each picture; the cosine of two says how alike they are. The one that
comes with the package is small and classical: gradient histograms (Dalal and Triggs 2005) of an
aligned face, and a linear discriminant learnt on faces of other people (Belhumeur et al. 1997,
"Eigenfaces vs. Fisherfaces"). Networks recognise far more: name one with `load_matcher`.
"""

from __future__ import annotations

import importlib
import json
from importlib import resources
from typing import TYPE_CHECKING, Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from redaction_core.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redaction_core.images import Pixels

Vectors = npt.NDArray[np.float32]

SHIPPED: Final = "face-matcher"
"""Folder of the weights that come with the package."""
_SIDE: Final = 96
"""Pixels a side of what gradients are taken of."""
_CELL: Final = 8
_DIRECTIONS: Final = 9
_MIDDLE: Final = 0.8
"""Share of the side that is looked at: what is around a face says who was where, not who."""


class Matcher(Protocol):
    """Says how alike pictures are."""

    def embed(self, images: Sequence[Pixels]) -> Vectors:
        """Give a vector of unit length for each picture: uint8 HxW or HxWx3, to float32 (N, D)."""


class FaceMatcher:
    """The matcher that comes with the package, for faces aligned as they were in its training."""

    def __init__(self, mean: Vectors, projection: Vectors) -> None:
        """Take what was learnt: float32 (F,) and (F, D) for F gradient counts."""
        self._mean = mean
        self._projection = projection

    def embed(self, images: Sequence[Pixels]) -> Vectors:
        """Give a vector of unit length for each picture: uint8 HxW or HxWx3, to float32 (N, D)."""
        found = np.stack([gradients(image) for image in images])
        vectors = (found - self._mean) @ self._projection
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-9), np.float32)


def gradients(image: Pixels) -> Vectors:
    """Give histograms of the gradients in the middle of a picture: float32 (F,).

    A histogram of directions a cell, in units of what its neighbourhood has.
    """
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)  # noqa: PLR2004 - HxW
    height, width = gray.shape
    top, left = (round(length * (1 - _MIDDLE) / 2) for length in (height, width))
    middle = gray[top : height - top, left : width - left]
    method = cv2.INTER_AREA if min(middle.shape) > _SIDE else cv2.INTER_LINEAR
    small = cv2.resize(middle, (_SIDE, _SIDE), interpolation=method).astype(np.float32)
    down, right = np.gradient(small)
    strength = np.hypot(down, right)
    places = np.arctan2(down, right) / np.pi % 1 * _DIRECTIONS
    lower = np.floor(places).astype(np.intp)
    share = places - lower
    rows, columns = np.indices(small.shape) // _CELL
    side = _SIDE // _CELL
    cells = (rows * side + columns) * _DIRECTIONS
    counts = sum(
        np.bincount(
            (cells + bins % _DIRECTIONS).ravel(),
            (strength * part).ravel(),
            side * side * _DIRECTIONS,
        )
        for bins, part in ((lower, 1 - share), (lower + 1, share))
    )
    histograms = np.asarray(counts, np.float32).reshape(side, side, _DIRECTIONS)
    around = cv2.blur(np.square(histograms).sum(2), (3, 3), borderType=cv2.BORDER_REPLICATE)
    normal = histograms / np.sqrt(around + 1)[..., None]
    return np.asarray(np.sqrt(normal).ravel(), np.float32)


def load_matcher(name: str | None) -> Matcher:
    """Give the matcher that comes with the package, or the object `module:name`, called if a class.

    Raises UsageError for a name that leads nowhere, CheckpointError for damaged weights.
    """
    if name is None:
        return _shipped()
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--matcher {name}: write module:object ({error})") from error
    matcher: Matcher = found() if isinstance(found, type) else found
    if not callable(getattr(matcher, "embed", None)):
        raise UsageError(f"--matcher {name}: it has no method `embed`")
    return matcher


def matcher_id(name: str | None) -> str:
    """Say which matcher it is, for the hash of what rows depend on."""
    if name is not None:
        return name
    config = resources.files("redaction_core") / "weights" / SHIPPED / "config.json"
    return f"{SHIPPED} {json.loads(config.read_text())['sha256'][:16]}"


def _shipped() -> FaceMatcher:
    place = resources.files("redaction_core") / "weights" / SHIPPED / "model.safetensors"
    try:
        weights = load(place.read_bytes())
        return FaceMatcher(
            weights["mean"].astype(np.float32), weights["projection"].astype(np.float32)
        )
    except (OSError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"the weights of {SHIPPED} are damaged: {error}") from error
