"""Faces that nothing was learnt from, redacted and restored: errors against what is used today.

    python -m tests.evaluation.faces --data DIR --work DIR

Held out are the identities with sha256(name without its number) mod 100 >= 28. Faces are shrunk
from 350x350 with Pillow's bicubic and stored as gray PNG. Pixelations are compared with bicubic
interpolation of the blocks, blur with scikit-image's Wiener and Richardson-Lucy deconvolutions at
their best settings. Every metric is recomputed from the written files. Exits with 1 where a figure
misses its mark or a metric does not agree.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.evaluation.deblurring import (
    BALANCES,
    ITERATIONS,
    at_its_best,
    by_richardson_lucy,
    by_wiener,
)
from tests.evaluation.independent import (
    Pixels,
    Row,
    Verdicts,
    blur,
    blur_row,
    fresh,
    mean,
    options,
    pixelation_row,
    print_table,
    read,
    recompute,
    reconstruct,
)
from tests.evaluation.research_data import held_out_faces, some

SIDES = (224, 112)
PIXELATIONS = ((4, False), (4, True), (8, False))
"""Pixels a side of a block, and whether blocks hold their nearest pixel."""
LEAST_RECOVERED = {(224, 4, False): 0.64}
"""By side in pixels, block and sampling."""
LEAST_BELOW_BICUBIC = {
    (224, 4, False): 0.25,
    (224, 4, True): 0.42,
    (224, 8, False): 0.18,
    (112, 4, False): 0.20,
    (112, 4, True): 0.24,
    (112, 8, False): 0.12,
}
BLUR_SIDE, SIGMAS = 112, (1, 2, 4)
NAMES = ("mae", "baseline_mae", "bicubic_mae", "recovered", "psnr", "ssim", "consistency_mae")
BLUR_NAMES = ("mae", "baseline_mae", "recovered", "psnr", "ssim", "consistency_mae")


def _pixelation(key: str, result: Pixels, *, images: Path, block: int, nearest: bool) -> Row:
    return pixelation_row(result, read(images / key), block, nearest=nearest)


def _blur(key: str, result: Pixels, *, images: Path, sigma: float) -> Row:
    return blur_row(result, read(images / key), sigma)


def undo_pixelations(folder: Path, side: int, model: str | None, verdicts: Verdicts) -> None:
    """Pixelate and restore the faces of one size, `folder`/side; judge and print their errors."""
    table: list[tuple[object, ...]] = []
    images = folder / f"{side}"
    for block, nearest in PIXELATIONS:
        redact = f"pixelate:{block}" + (":nearest" if nearest else "")
        output = fresh(folder / f"{side}-{redact.replace(':', '-')}")
        rows = reconstruct(images, output, redact=redact, model=model)
        measure = partial(_pixelation, images=images, block=block, nearest=nearest)
        expected = recompute(rows, images, output, measure, verdicts)
        means = {name: mean(expected, name) for name in NAMES}
        below = 1 - means["mae"] / means["bicubic_mae"]
        table.append((f"{side} {redact}", len(rows), *means.values(), below))
        least = LEAST_BELOW_BICUBIC[side, block, nearest]
        text = f"{side} {redact}: MAE {below:.1%} below bicubic, at least {least:.0%}"
        verdicts.add(text, below >= least)
        if (least := LEAST_RECOVERED.get((side, block, nearest), 0)) > 0:
            text = f"{side} {redact}: recovered {means['recovered']:.3f}, at least {least}"
            verdicts.add(text, means["recovered"] >= least)
    print_table(("faces", "n", *NAMES, "below bicubic"), table)


def undo_blur(folder: Path, model: str | None, verdicts: Verdicts) -> None:
    """Blur and restore the faces of one size; judge and print their errors."""
    table: list[tuple[object, ...]] = []
    images = folder / f"{BLUR_SIDE}"
    for sigma in SIGMAS:
        output = fresh(folder / f"{BLUR_SIDE}-blur-{sigma}")
        rows = reconstruct(images, output, redact=f"blur:{sigma}", model=model)
        measure = partial(_blur, images=images, sigma=sigma)
        expected = recompute(rows, images, output, measure, verdicts)
        means = {name: mean(expected, name) for name in BLUR_NAMES}
        originals = np.stack([read(images / key) for key in rows])
        blurred = np.stack([blur(image, sigma) for image in originals])
        rivals = {
            "wiener": at_its_best(by_wiener, BALANCES, blurred, originals, sigma),
            "richardson-lucy": at_its_best(
                by_richardson_lucy, ITERATIONS, blurred, originals, sigma
            ),
        }
        cells = [cell for pair in rivals.values() for cell in pair]
        table.append((f"{BLUR_SIDE} blur:{sigma}", len(rows), *means.values(), *cells))
        for rival, (mae, setting) in rivals.items():
            text = f"{BLUR_SIDE} blur:{sigma}: MAE {means['mae']:.5f}, below {rival} with {mae:.5f}"
            verdicts.add(f"{text} (best setting {setting:g})", means["mae"] < mae)
    header = ("wiener mae", "balance", "richardson-lucy mae", "iterations")
    print_table(("faces", "n", *BLUR_NAMES, *header), table)


def main() -> int:
    """Give the exit code."""
    parser = options(__doc__)
    parser.add_argument("--only", choices=("pixelations", "blur"), help="half of it")
    flags = parser.parse_args()
    folder, verdicts = flags.work / "faces", Verdicts()
    faces = some(held_out_faces(flags.data), flags.limit)
    for side in SIDES:
        images = fresh(folder / f"{side}")
        for name, face in faces:
            face.resize((side, side), Image.Resampling.BICUBIC).save(images / f"{name}.png")
        if flags.only != "blur":
            undo_pixelations(folder, side, flags.model, verdicts)
    if flags.only != "pixelations":
        undo_blur(folder, flags.model, verdicts)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
