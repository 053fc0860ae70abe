"""Strokes of a brush over a mask.

As the free-form masks of Yu et al. 2019, "Free-form image inpainting with gated convolution".
"""

from __future__ import annotations

import math
import random

import cv2
import numpy as np
import numpy.typing as npt


def draw_strokes(mask: npt.NDArray[np.bool_], count: int, digest: bytes) -> None:
    """Hide exactly `count` pixels of a mask in which nothing is hidden yet: bool HxW, contiguous.

    Strokes are zigzags of 4 to 12 lines with round joints; the last is cut off where it is enough.
    The same digest gives the same strokes.
    """
    height, width = mask.shape
    lot = random.Random(digest).random  # noqa: S311 - places, not secrets; its stream is kept for ever
    side, reach = math.sqrt(mask.size), math.hypot(height, width) / 8
    # So that a small share, too, is a stroke and not the end of one.
    thickest = max(1.0, min(0.16 * side, 0.5 * math.sqrt(count)))
    painted = mask.view(np.uint8)
    while True:
        x, y = int(lot() * width), int(lot() * height)
        if painted[y, x]:
            # From a pixel that is not hidden yet, so that every stroke gets further.
            places = np.flatnonzero(painted == 0)
            y, x = divmod(int(places[int(lot() * len(places))]), width)
        mean_angle = math.tau * (0.2 + 0.133 * (lot() - 0.5))
        turn, brush = math.tau * lot(), max(1, round(thickest * (0.3 + 0.7 * lot())))
        for place in range(4 + int(9 * lot())):
            angle = mean_angle + math.tau * 0.133 * (lot() - 0.5)
            away = turn + (angle if place % 2 else -angle)
            length = 2 * reach * lot()
            start = (x, y)
            x = min(max(round(x + length * math.sin(away)), 0), width - 1)
            y = min(max(round(y + length * math.cos(away)), 0), height - 1)
            before = painted.copy()
            cv2.line(painted, start, (x, y), 1, brush)
            if (excess := cv2.countNonZero(painted) - count) >= 0:
                _cut(painted, np.flatnonzero(painted > before), excess, start, (x, y))
                return


def _cut(
    painted: npt.NDArray[np.uint8],
    fresh: npt.NDArray[np.int64],
    excess: int,
    start: tuple[int, int],
    end: tuple[int, int],
) -> None:
    """Take back, of a line's fresh pixels, the `excess` that the brush came to last."""
    rows, columns = np.divmod(fresh, painted.shape[1])
    along = (columns - start[0]) * (end[0] - start[0]) + (rows - start[1]) * (end[1] - start[1])
    painted.reshape(-1)[fresh[np.argsort(-along, kind="stable")[:excess]]] = 0
