"""Pictures of one image for a report: what was seen, what came back, and where they differ.

The five of redacto and the maps of enhancer are those that were published: errors from white to
red, what was recovered from white to blue.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from PIL import Image

from redaction_core.reference import surroundings

if TYPE_CHECKING:
    import numpy.typing as npt

    from redaction_core.images import Pixels

_SIDE: Final = 224
"""Pixels of the longer side; larger pictures are shrunk, smaller ones enlarged as they are."""
_QUALITY: Final = 90
"""Of WebP: a report is to be looked at; the results themselves lie beside it, without loss."""
_FULL_ERROR: Final = 0.2
"""An error of this size, on the 0-1 scale, has the full colour."""
_MARK: Final = (214, 39, 140)
"""Colour of what is hidden: one that pictures seldom have."""
_PAPER: Final = 255
_RED, _GREEN, _BLUE = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One restored image with what belongs to it; all of one size, uint8 HxW or HxWx3."""

    redacted: Pixels
    restored: Pixels
    original: Pixels | None = None
    hidden: npt.NDArray[np.bool_] | None = None
    """bool, HxW."""
    intervals: npt.NDArray[np.uint8] | None = None
    """`measuring.interval_map`, HxW."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a report."""

    caption: str
    url: str
    """Of the picture itself: a data URL."""
    width: int
    height: int


def pictures(shown: Shown) -> list[Picture]:
    """Draw the pictures of one image, in the order in which they are to stand."""
    named = _filled(shown, shown.hidden) if shown.hidden is not None else _sharpened(shown)
    if shown.intervals is not None:
        widths = shown.intervals.astype(np.float32) / np.float32(255)
        named.append(("90 % interval", _tinted(widths, _GREEN)))
    return [picture_of(caption, pixels) for caption, pixels in named]


def _sharpened(shown: Shown) -> list[tuple[str, Pixels]]:
    found = [("redacted", shown.redacted), ("restored", shown.restored)]
    if shown.original is not None:
        before = _error(shown.redacted, shown.original)
        after = _error(shown.restored, shown.original)
        found += [
            ("original", shown.original),
            ("error before", _tinted(before, _RED)),
            ("error after", _tinted(after, _RED)),
            ("recovered", _tinted(before - after, _BLUE)),
        ]
    return found


def _filled(shown: Shown, hidden: npt.NDArray[np.bool_]) -> list[tuple[str, Pixels]]:
    found = [
        ("input, hidden part marked", _marked(shown.redacted, hidden)),
        ("prediction", _only(shown.restored, hidden)),
    ]
    if shown.original is None:
        return [*found, ("result", shown.restored)]
    before = _error(surroundings(shown.redacted, hidden), shown.original) * hidden
    after = _error(shown.restored, shown.original) * hidden
    return [
        *found,
        ("what was there", _only(shown.original, hidden)),
        ("original", shown.original),
        ("result", shown.restored),
        ("error after", _tinted(after, _RED)),
        ("recovered", _tinted(before - after, _BLUE)),
    ]


def _error(estimate: Pixels, original: Pixels) -> npt.NDArray[np.float32]:
    """Mean absolute error over the colours, 0 to 1, HxW."""
    difference = cv2.absdiff(estimate, original).astype(np.float32) / 255
    means = difference if difference.ndim == 2 else difference.mean(2)  # noqa: PLR2004 - HxW
    return np.asarray(means, np.float32)


def _tinted(values: npt.NDArray[np.float32], channel: int) -> Pixels:
    """Draw values from white (0 and less) to one pure colour."""
    strength = np.clip(values / _FULL_ERROR, 0, 1)
    faded = np.uint8(_PAPER) - np.rint(_PAPER * strength).astype(np.uint8)
    picture = np.repeat(faded[..., None], 3, axis=2)
    picture[..., channel] = _PAPER
    return picture


def _marked(image: Pixels, hidden: npt.NDArray[np.bool_]) -> Pixels:
    picture = _rgb(image).copy()
    picture[hidden] = _MARK
    return picture


def _only(image: Pixels, hidden: npt.NDArray[np.bool_]) -> Pixels:
    picture = np.full_like(_rgb(image), _PAPER)
    picture[hidden] = _rgb(image)[hidden]
    return picture


def _rgb(image: Pixels) -> Pixels:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image  # noqa: PLR2004 - HxW


def picture_of(caption: str, pixels: Pixels) -> Picture:
    """Draw one picture as it is, but for its size."""
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "webp", quality=_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Picture(
        caption=caption, url=f"data:image/webp;base64,{data}", width=size[0], height=size[1]
    )
