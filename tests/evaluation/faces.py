"""Faces that nothing was learnt from, pixelated and restored: errors against bicubic.

    python -m tests.evaluation.faces --data DIR --work DIR

Held out are the identities with sha256(name without its number) mod 100 >= 28. Faces are shrunk
from 350x350 with Pillow's bicubic and stored as gray PNG. Every metric is recomputed from the
written files. Exits with 1 where a figure misses its mark or a metric does not agree.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from PIL import Image

from tests.evaluation.independent import (
    Pixels,
    Row,
    Verdicts,
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
BLOCK = 4
LEAST_RECOVERED = {(224, False): 0.64}
"""By side in pixels, and whether blocks hold their nearest pixel."""
LEAST_BELOW_BICUBIC = {(224, False): 0.20, (224, True): 0.40, (112, True): 0.18}
NAMES = ("mae", "baseline_mae", "bicubic_mae", "recovered", "psnr", "ssim", "consistency_mae")


def _row(key: str, result: Pixels, *, images: Path, nearest: bool) -> Row:
    return pixelation_row(result, read(images / key), BLOCK, nearest=nearest)


def main() -> int:
    """Give the exit code."""
    flags = options(__doc__).parse_args()
    work, verdicts = flags.work / "faces", Verdicts()
    table: list[tuple[object, ...]] = []
    faces = some(held_out_faces(flags.data), flags.limit)
    for setting in ((side, nearest) for side in SIDES for nearest in (False, True)):
        side, nearest = setting
        images = fresh(work / f"{side}")
        for name, face in faces:
            face.resize((side, side), Image.Resampling.BICUBIC).save(images / f"{name}.png")
        redact = f"pixelate:{BLOCK}" + (":nearest" if nearest else "")
        output = fresh(work / f"{side}-{redact.replace(':', '-')}")
        rows = reconstruct(images, output, redact=redact, model=flags.model)
        measure = partial(_row, images=images, nearest=nearest)
        expected = recompute(rows, images, output, measure, verdicts)
        means = {name: mean(expected, name) for name in NAMES}
        below = 1 - means["mae"] / means["bicubic_mae"]
        table.append((f"{side} {redact}", len(rows), *means.values(), below))
        if (least := LEAST_BELOW_BICUBIC.get(setting)) is not None:
            text = f"{side} {redact}: MAE {below:.1%} below bicubic, at least {least:.0%}"
            verdicts.add(text, below >= least)
        if (least := LEAST_RECOVERED.get(setting)) is not None:
            text = f"{side} {redact}: recovered {means['recovered']:.3f}, at least {least}"
            verdicts.add(text, means["recovered"] >= least)
    print_table(("faces", "n", *NAMES, "below bicubic"), table)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
