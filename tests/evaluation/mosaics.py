"""Are blocks found? Size and offset of mosaics on faces and photographs, also after JPEG.

    python -m tests.evaluation.mosaics --data DIR --work DIR

1,000 faces at 224x224 and 200 crops of photographs at 256x256, in blocks of 2 to 16 pixels from a
random offset on, as they are and after JPEG of a random quality from 75 to 95; and clean ones, also
after JPEG, for false alarms. Then mosaics of a part alone: how much of it is found, and how much of
the rest is taken for it. Exits with 1 where a figure misses its mark.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import numpy.typing as npt
from PIL import Image

from redaction_core.mosaic import find_mosaic
from tests.blocks import jpeg, pixelated
from tests.evaluation.independent import Pixels, Verdicts, options, print_table
from tests.evaluation.research_data import held_out_faces, photos, some

FACES, CROPS = 1000, 200
BLOCKS = range(2, 17)
LEAST_CLEAN, LEAST_JPEG, MOST_ALARMS = 0.99, 0.95, 0.01
STATED = (2, 3)
"""Blocks of which, after JPEG, a figure is stated and no more; so are blocks on JPEG's own grid."""
JPEG_GRID = 8


def find_all(images: list[Pixels], rng: np.random.Generator, verdicts: Verdicts) -> None:
    """Pixelate whole images; judge and print how many grids are found."""
    table: list[tuple[object, ...]] = []
    for block in BLOCKS:
        right: Counter[str] = Counter()
        count: Counter[str] = Counter()
        for image in images:
            top, left = (int(each) for each in rng.integers(0, block, 2))
            mosaic = pixelated(image, block, top, left)
            on_grid = block == JPEG_GRID and not (top or left)
            kinds = {"clean": mosaic}
            kinds["on JPEG's grid" if on_grid else "JPEG"] = jpeg(mosaic, int(rng.integers(75, 96)))
            for kind, seen in kinds.items():
                found = find_mosaic(seen)
                count[kind] += 1
                right[kind] += (
                    found is not None
                    and found.region is None
                    and ((found.block, found.top, found.left) == (block, top, left))
                )
        shares = {kind: right[kind] / count[kind] for kind in count}
        table.append(
            (block, *(f"{shares.get(k, np.nan):.1%}" for k in ("clean", "JPEG", "on JPEG's grid")))
        )
        verdicts.add(f"blocks of {block}: {shares['clean']:.2%}", shares["clean"] >= LEAST_CLEAN)
        if block not in STATED:
            text = f"blocks of {block} after JPEG: {shares['JPEG']:.2%}"
            verdicts.add(text, shares["JPEG"] >= LEAST_JPEG)
    print_table(("block", "clean", "JPEG", "on JPEG's grid"), table)


def find_none(images: list[Pixels], rng: np.random.Generator, verdicts: Verdicts) -> None:
    """Look for blocks where there are none."""
    for name, quality in (("clean", 0), ("after JPEG", 1)):
        found = [
            find_mosaic(jpeg(image, int(rng.integers(75, 96))) if quality else image)
            for image in images
        ]
        alarms = [each for each in found if each is not None]
        parts = sum(each.region is not None for each in alarms)
        text = f"{name}: {len(alarms)} false alarms of {len(images)}, {parts} of a part"
        verdicts.add(text, len(alarms) <= MOST_ALARMS * len(images))


def find_parts(images: list[Pixels], rng: np.random.Generator) -> None:
    """Pixelate a part of each image; print how often its grid is found, and how much of it."""
    for quality in (None, 90, 75):
        right, covered, beyond = [], [], []
        for image in images:
            height, width = image.shape[:2]
            block = int(rng.choice((4, 6, 8, 12, 16)))
            side = int(rng.integers(96, min(height, width) * 2 // 3 + 1)) // block * block
            top, left = (int(rng.integers(0, length - side + 1)) for length in (height, width))
            part = np.s_[top : top + side, left : left + side]
            seen = image.copy()
            seen[part] = pixelated(image[part], block, 0, 0)
            found = find_mosaic(seen if quality is None else jpeg(seen, quality))
            grid = (block, top % block, left % block)
            is_right = found is not None and (found.block, found.top, found.left) == grid
            right.append(is_right)
            if is_right and found is not None and found.region is not None:
                inside: npt.NDArray[np.bool_] = np.zeros((height, width), bool)
                inside[part] = True
                covered.append(float(found.region[inside].mean()))
                beyond.append(float((found.region & ~inside).sum() / inside.sum()))
        name = "clean" if quality is None else f"JPEG {quality}"
        print(
            f"a part, {name}: grid right {np.mean(right):.1%}; of the part {np.mean(covered):.1%} "
            f"is found, and {np.mean(beyond):.1%} of its area beyond it"
        )


def main() -> int:
    """Give the exit code."""
    flags = options(__doc__).parse_args()
    rng = np.random.default_rng(0)
    verdicts = Verdicts()
    size = (224, 224)
    held_out = [face for _, face in held_out_faces(flags.data)]
    faces = some(held_out, FACES)
    images = [np.asarray(face.resize(size, Image.Resampling.BICUBIC)) for face in faces]
    crops, large = [], photos(flags.data)
    for number in range(CROPS):
        photo = large[number % len(large)]
        top, left = (int(rng.integers(0, max(1, length - 255))) for length in photo.shape[:2])
        crops.append(np.ascontiguousarray(photo[top : top + 256, left : left + 256]))
    everything = some(images, flags.limit) + some(crops, flags.limit)
    find_none(everything, rng, verdicts)
    find_all(everything, rng, verdicts)
    find_parts([photo for photo in some(large, flags.limit) if min(photo.shape[:2]) >= 256], rng)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
