"""Finds the blocks of a mosaic: their size, where their grid begins, and which part is covered.

Neighbouring pixels of one block are equal, or nearly so once JPEG has been at them; at the lines
of the grid they differ. So the mean difference between neighbouring columns, and rows, is a comb:
its pitch is the size of the blocks, its phase their offset. The logarithm makes the teeth alike,
however strong the contrast of what they cut. Where the whole image has no such comb, windows of it
may: those that agree on a grid say where a part was pixelated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

Floats = npt.NDArray[np.floating]
Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
_Number = TypeVar("_Number", bound=np.generic)

LARGEST: Final = 16
"""Pixels a side of the largest blocks that are looked for once they are not exact any more."""
_ANY_SIZE: Final = 4
"""Blocks of an image of one value: any size fits."""
_CAP: Final = 24
"""Levels: a few strong edges must not outweigh all else."""
_FLOOR: Final = 0.25
"""Levels that are added before the logarithm: rounding alone differs by so much."""
_EXPLAINED: Final = 0.13
_CONTRAST: Final = 0.45
"""What a comb must reach to be one: of photographs, JPEG or not, a hundredth reaches less."""
_WINDOW: Final = 96
_STEP: Final = 48
_IN_WINDOW: Final = (0.3, 0.6)
"""The same for a window: fewer pixels, hence more chance."""
_TILE: Final = 64
_STILL: Final = 0.3
"""Levels: mean difference in a tile where nothing changes."""
_WEAK: Final = 0.3
"""Steps at the lines of a grid that is not there, over those in the tiles where they are high."""
_BARE: Final = 0.1
"""Tiles without the grid, at most, where all of an image has it: after JPEG, some are faint."""
_JPEG_GRID: Final = 8
_JPEG_STEP: Final = 6
"""Levels: blocks of JPEG, of quality 75 and more, differ by less where they are flat."""
_STRIP: Final = 256
_SEEN: Final = 0.5
"""Levels: steps at the lines of blocks that can be told from the flat parts of anything."""
_FLAT: Final = 0.5
"""Differences inside of a block over those at its lines, at most."""


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """The blocks of one image."""

    block: int
    top: int = 0
    """Rows above the first line of the grid, 0 to block - 1: blocks there are cut off."""
    left: int = 0
    exact: bool = True
    """Each block has one value."""
    confidence: float = 1.0
    """1 where all blocks are exact; else the share of the variance of differences that the grid
    explains, which is below 0.13 for 99 of 100 photographs."""
    region: Mask | None = None
    """bool HxW: what is pixelated; None: all of it."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """Block, top and left."""
        return self.block, self.top, self.left

    @property
    def plain(self) -> bool:
        """Whether the image is whole blocks of one value from the top left on already."""
        return self.exact and self.region is None and not self.top and not self.left

    def means(self, pixels: Pixels) -> Floats:
        """Give each pixel the mean of its block: float32, as shaped as `pixels`, 0 to 255."""
        rows, columns = (
            _starts(length, self.block, first)
            for length, first in zip(pixels.shape[:2], (self.top, self.left), strict=True)
        )
        sums = np.add.reduceat(pixels.astype(np.float32), rows, axis=0)
        sums = np.add.reduceat(sums, columns, axis=1)
        tall, wide = np.diff([*rows, pixels.shape[0]]), np.diff([*columns, pixels.shape[1]])
        areas = np.outer(tall, wide).astype(np.float32)
        means = sums / (areas if pixels.ndim == 2 else areas[..., None])  # noqa: PLR2004 - HxW
        return np.asarray(means.repeat(tall, axis=0).repeat(wide, axis=1))

    def samples(self, planes: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
        """Give what stands at the middle of each block, where sampled ones have their pixel."""
        middle = self.block // 2
        rows, columns = (
            np.arange(first - self.block + middle, length, self.block)
            for length, first in zip(planes.shape[:2], (self.top, self.left), strict=True)
        )
        return planes[rows[rows >= 0]][:, columns[columns >= 0]]

    @property
    def above(self) -> int:
        """Rows that the first blocks lack."""
        return -self.top % self.block

    @property
    def before(self) -> int:
        """Columns that the first blocks lack."""
        return -self.left % self.block

    def for_network(self, pixels: Pixels) -> Pixels:
        """Give whole blocks of one value each, from the top left on.

        What is not pixelated is, so that the network sees what is around.
        """
        blocks = np.rint(self.means(pixels)).astype(np.uint8)
        return cv2.copyMakeBorder(blocks, self.above, 0, self.before, 0, cv2.BORDER_REPLICATE)  # type: ignore[return-value]  # as it was

    def cut(self, planes: npt.NDArray[_Number], like: Pixels) -> npt.NDArray[_Number]:
        """Cut something of the shape of `for_network` to the image."""
        height, width = like.shape[:2]
        return planes[self.above :, self.before :][:height, :width]

    def from_network(self, result: Pixels, pixels: Pixels, *, of_means: bool) -> Pixels:
        """Cut an estimate of `for_network` to the image, and leave alone what is not pixelated.

        `of_means`: blocks hold their means, so that these are known of the result.
        """
        kept = self.cut(result, pixels)
        if of_means:
            # Blocks that are cut off were explained as if they were whole.
            short = self.means(pixels) - self.means(kept)
            kept = np.clip(np.rint(kept + short), 0, 255).astype(np.uint8)
        if self.region is None:
            return kept
        region = self.region if pixels.ndim == 2 else self.region[..., None]  # noqa: PLR2004 - HxW
        return np.where(region, kept, pixels)


def find_mosaic(pixels: Pixels) -> Mosaic | None:
    """Find the blocks of an image, or of a part of it; uint8 HxW or HxWx3. None: not pixelated.

    An image of one value is taken for blocks of 4.
    """
    if exact := _exact(pixels):
        return exact
    down, right = (_differences(pixels, axis) for axis in (0, 1))
    whole = _whole(down, right)
    if whole is not None and _bare_share(down, right, whole) <= _BARE:
        return whole
    part = _partial(down, right)
    if whole is None or (part is not None and part.grid == whole.grid):
        return part
    return whole


def _exact(pixels: Pixels) -> Mosaic | None:
    """Find the largest grid that all changes of value lie on."""
    places = [_changes(pixels, axis) for axis in (0, 1)]
    distances = [int(each) for found in places for each in np.diff(found)]
    # Of a single line, or a cross, no more is known than that blocks begin at the edge.
    block = math.gcd(*distances) or math.gcd(*(int(each) for found in places for each in found))
    if not block:
        return Mosaic(block=_ANY_SIZE)
    if block == 1:
        return None
    top, left = (int(found[0]) % block if len(found) else 0 for found in places)
    return Mosaic(block=block, top=top, left=left)


def _changes(pixels: Pixels, axis: int) -> npt.NDArray[np.intp]:
    """Give the rows (axis 0) or columns that differ from the one before."""
    lines = np.swapaxes(pixels, 0, axis)
    changed = np.zeros(len(lines) - 1, bool)
    # Strips, so that a large photograph is done at its first rows.
    for start in range(0, lines.shape[1], _STRIP):
        strip = lines[:, start : start + _STRIP]
        changed |= (strip[1:] != strip[:-1]).any(axis=tuple(range(1, lines.ndim)))
        if (changed[1:] & changed[:-1]).any():
            break
    return np.flatnonzero(changed) + 1


def _whole(down: Floats, right: Floats) -> Mosaic | None:
    rows, columns = _profile(down, 1)[None], _profile(right, 0)[None]
    if min(rows.size, columns.size) < 2 * LARGEST:
        return None
    (found,) = _combs(rows, columns)
    if found.confidence < _EXPLAINED or found.contrast < _CONTRAST:
        return None
    return Mosaic(
        block=found.block,
        top=found.top,
        left=found.left,
        exact=False,
        confidence=found.confidence,
    )


def _bare_share(down: Floats, right: Floats, mosaic: Mosaic) -> float:
    """Give the share of tiles without the grid, of those where anything changes."""
    side = max(_TILE, 4 * mosaic.block)
    steps = []
    for top in range(0, down.shape[0] - side + 2, side // 2):
        for left in range(0, right.shape[1] - side + 2, side // 2):
            within = np.s_[top : top + side, left : left + side]
            if down[within].mean() > _STILL:
                rows, columns = _profile(down[within], 1), _profile(right[within], 0)
                steps.append(
                    _step(rows, mosaic.block, mosaic.top - top)
                    + _step(columns, mosaic.block, mosaic.left - left)
                )
    if not steps:
        return 0.0
    return float(np.mean(np.array(steps) < _WEAK * np.percentile(steps, 90)))


def _step(profile: Floats, block: int, first: int) -> float:
    """Say by how much a profile is higher at the lines of a grid than elsewhere."""
    at = (np.arange(len(profile)) + 1 - first) % block == 0
    return float(profile[at].mean() - profile[~at].mean())


@dataclass(frozen=True, kw_only=True)
class _Comb:
    block: int
    top: int
    left: int
    confidence: float
    contrast: float


def _combs(rows: Floats, columns: Floats) -> Iterator[_Comb]:
    """Find the best grid for each of K profiles of rows and of columns, (K, n) and (K, m)."""
    best: list[_Comb] = []
    total = sum(np.square(each - each.mean(1, keepdims=True)).sum(1) for each in (rows, columns))
    total = np.maximum(total, 1e-9)
    for block in range(2, LARGEST + 1):
        gain, contrast, at = zip(*(_teeth(each, block) for each in (rows, columns)), strict=True)
        explained, weaker = (gain[0] + gain[1]) / total, np.minimum(*contrast)
        found = [
            _Comb(block=block, top=int(top), left=int(left), confidence=float(e), contrast=float(c))
            for e, c, top, left in zip(explained, weaker, *at, strict=True)
        ]
        pairs = zip(best or found, found, strict=True)
        best = [max(pair, key=lambda each: each.confidence) for pair in pairs]
    yield from best


def _teeth(profiles: Floats, block: int) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """Give, for the best offset in each profile, the variance it explains, contrast, and itself."""
    length = profiles.shape[1]
    at = (np.arange(length) + 1) % block == np.arange(block)[:, None]
    counts = at.sum(1)
    sums, all_of_it = profiles @ at.T, profiles.sum(1, keepdims=True)
    rest = length - counts
    contrast = sums / np.maximum(counts, 1) - (all_of_it - sums) / np.maximum(rest, 1)
    gain = np.where(contrast > 0, counts * rest / length * contrast**2, 0.0)
    offset = gain.argmax(1)
    lines = np.arange(len(profiles))
    return gain[lines, offset], contrast[lines, offset], offset


def _partial(down: Floats, right: Floats) -> Mosaic | None:
    """Find the grid that most windows agree on, and the blocks of it."""
    height, width = right.shape[0], down.shape[1]
    if min(height, width) < _WINDOW:
        return None
    tops, lefts = (range(0, length - _WINDOW + 1, _STEP) for length in (height, width))
    corners = [(top, left) for top in tops for left in lefts]
    rows = np.stack([_profile(down[t : t + _WINDOW - 1, x : x + _WINDOW], 1) for t, x in corners])
    columns = np.stack(
        [_profile(right[t : t + _WINDOW, x : x + _WINDOW - 1], 0) for t, x in corners]
    )
    votes: dict[tuple[int, int, int], list[tuple[float, int, int]]] = {}
    for (top, left), found in zip(corners, _combs(rows, columns), strict=True):
        if found.confidence >= _IN_WINDOW[0] and found.contrast >= _IN_WINDOW[1]:
            block = found.block
            grid = block, (found.top + top) % block, (found.left + left) % block
            votes.setdefault(grid, []).append((found.confidence, top, left))
    if not votes:
        return None
    (block, top, left), agreed = max(
        votes.items(), key=lambda vote: sum(confidence for confidence, _, _ in vote[1])
    )
    near = np.zeros((height, width), bool)
    for _, y, x in agreed:
        near[max(0, y - _STEP) : y + _WINDOW + _STEP, max(0, x - _STEP) : x + _WINDOW + _STEP] = (
            True
        )
    region = _blocks_within(down, right, near, (block, top, left))
    if not region.any():
        return None
    if block % _JPEG_GRID == 0:
        # Smooth parts of a JPEG file, cropped or not, are a mosaic of faint steps, too.
        lines = np.arange(top or block, height, block) - 1
        steps = down[lines][region[lines + 1]]
        if not steps.size or steps.mean() < _JPEG_STEP:
            return None
    confidence = max(each for each, _, _ in agreed)
    return Mosaic(
        block=block, top=top, left=left, exact=False, confidence=confidence, region=region
    )


def _blocks_within(down: Floats, right: Floats, near: Mask, grid: tuple[int, int, int]) -> Mask:
    """Say which pixels lie in blocks: cells that are flat inside, for how they differ outside."""
    block, top, left = grid
    height, width = near.shape
    y, x = (np.arange(length) - first for length, first in ((height, top), (width, left)))
    at_row, at_column = y[1:] % block == 0, x[1:] % block == 0
    inside, across = np.zeros((2, height, width), np.float32)
    inside[1:] += down * ~at_row[:, None]
    inside[:, 1:] += right * ~at_column
    across[1:] += down * at_row[:, None]
    across[:, 1:] += right * at_column
    cells = (-(-(height + -top % block) // block), -(-(width + -left % block) // block))
    rows, columns = (y + block * (top > 0)) // block, (x + block * (left > 0)) // block
    place = (rows[:, None] * cells[1] + columns).ravel()
    sums = [
        np.bincount(place, each.ravel(), cells[0] * cells[1]).reshape(cells)
        for each in (inside, across, near.astype(np.float32))
    ]
    # An exact block has no difference inside; one of no contrast to the next ones says nothing.
    around = cv2.blur(sums[1], (3, 3)) / (2 * block)
    inside_of = sums[0] / (2 * block * (block - 1))
    flat = inside_of <= _FLAT * around + _FLOOR
    sure = (inside_of <= _FLAT * around) & (around >= _SEEN) & (sums[2] > 0)
    # Blocks of chance stand alone; a block that is none, amid others, is a flat part of them.
    small, wide = (np.ones((side, side), np.uint8) for side in (3, 5))
    solid = cv2.morphologyEx(sure.astype(np.uint8), cv2.MORPH_OPEN, small)
    solid = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, wide) * flat
    solid = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, small)
    return np.asarray(solid[rows[:, None], columns] > 0)


def _profile(differences: Floats, axis: int) -> Floats:
    return np.asarray(np.log(differences.mean(axis) + _FLOOR))


def _differences(pixels: Pixels, axis: int) -> Floats:
    """Give the difference of neighbouring rows (axis 0) or columns, capped: float32, 2-D."""
    planes = pixels if pixels.ndim > 2 else pixels[..., None]  # noqa: PLR2004 - HxW
    found = np.abs(np.diff(planes.astype(np.int16), axis=axis))
    return np.asarray(np.minimum(found, _CAP).mean(2, dtype=np.float32))


def _starts(length: int, block: int, first: int) -> npt.NDArray[np.intp]:
    starts = np.arange(first, length, block)
    return starts if first == 0 else np.concatenate(([0], starts))
