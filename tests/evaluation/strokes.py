"""Held-out faces with 10 to 40 % hidden under strokes: mean squared error over what is hidden.

    python -m tests.evaluation.strokes --data DIR --work DIR

Gray faces of 224x224 of identities that nothing was learnt from; masks of free form, drawn here as
mask images. Rivals are OpenCV's Telea (radius 3) and scikit-image's biharmonic. Every metric is
recomputed from the written files. Exits with 1 where a figure misses its mark, a known pixel
changed, or a metric does not agree.
"""

from __future__ import annotations

import math
import sys

import cv2
import numpy as np
from PIL import Image

from tests.evaluation.independent import (
    Mask,
    Verdicts,
    fresh,
    mean,
    options,
    print_table,
    read,
    recompute,
    reconstruct,
)
from tests.evaluation.photographs import Holes, blinded
from tests.evaluation.research_data import held_out_faces, some

SIDE = 224
SHARES = (0.1, 0.4)
LEAST_BELOW = {"telea": 0.38, "biharmonic": 0.28}
"""By how much our MSE must be below that of others."""


def strokes(side: int, share: float, rng: np.random.Generator) -> Mask:
    """Hide a share of a square under strokes of a brush that turns: Yu et al. 2019."""
    hidden = np.zeros((side, side), np.uint8)
    while hidden.mean() < share:
        place, angle = rng.uniform(0, side, 2), rng.uniform(0, 2 * math.pi)
        brush = int(rng.uniform(0.05, 0.16) * side)
        for turn in range(int(rng.integers(4, 13))):
            away = angle + (-1) ** turn * rng.uniform(0.13, 0.27) * 2 * math.pi
            step = place + rng.uniform(0, 0.35) * side * np.array((math.cos(away), math.sin(away)))
            step = step.clip(0, side - 1)
            start, end = (np.rint(point).astype(int).tolist() for point in (place, step))
            cv2.line(hidden, start, end, color=1, thickness=brush)
            place = step
            if hidden.mean() >= share:
                break
    return hidden.astype(bool)


def main() -> int:
    """Give the exit code."""
    flags = options(__doc__).parse_args()
    work, verdicts, rng = flags.work / "strokes", Verdicts(), np.random.default_rng(0)
    clean, masks, inputs = (fresh(work / name) for name in ("clean", "masks", "inputs"))
    for name, face in some(held_out_faces(flags.data), flags.limit):
        image = np.asarray(face.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        hidden = strokes(SIDE, rng.uniform(*SHARES), rng)
        contents = ((clean, image), (masks, np.uint8(255) * hidden))
        for folder, content in (*contents, (inputs, blinded(image, hidden))):
            Image.fromarray(content).save(folder / f"{name}.png")
    holes = Holes(originals=clean, hidden_of=lambda key, _: read(masks / key) > 0)
    output = fresh(work / "restored")
    found = reconstruct(inputs, output, masks=masks, originals=clean, model=flags.model)
    rows = recompute(found, inputs, output, holes.row, verdicts)
    verdicts.add("known pixels come back bit for bit", not holes.touched)
    mse, table = mean(rows, "mse"), [("redacto", mean(rows, "mse"), mean(rows, "psnr"))]
    for rival, least in LEAST_BELOW.items():
        others = [holes.rival(key, rival) for key in found]
        table.append((rival, mean(others, "mse"), mean(others, "psnr")))
        below = 1 - mse / table[-1][1]
        text = f"MSE {mse:.5f} over {len(rows)} faces, {below:.1%} below {rival}"
        verdicts.add(f"{text} with {table[-1][1]:.5f}, at least {least:.0%}", below >= least)
    hidden_share = mean(rows, "hidden_fraction")
    print_table((f"{len(rows)} faces, {hidden_share:.1%} hidden", "mse", "psnr"), table)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
