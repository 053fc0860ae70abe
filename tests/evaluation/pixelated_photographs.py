"""The sharp pictures of scikit-image, pixelated and restored: better than bicubic on every one.

    python -m tests.evaluation.pixelated_photographs --data DIR --work DIR

Gray and colour, at native size; nothing was learnt from them. Every metric is recomputed from the
written files. Writes sheets to look at, WORK/pixelated/sheets/*.png: no number finds an artefact as
the eye does. Exits with 1 where bicubic interpolation of the blocks is better on one picture, or a
metric does not agree.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from redaction_core.contact_sheet import Row as Line
from redaction_core.contact_sheet import contact_sheet
from tests.evaluation.independent import (
    Pixels,
    Row,
    Verdicts,
    bicubic,
    fresh,
    options,
    pixelate,
    pixelation_row,
    print_table,
    read,
    recompute,
    reconstruct,
    result_path,
)
from tests.evaluation.research_data import colour_photographs, gray_photographs, some

PIXELATIONS = ((4, False), (4, True), (8, False))
"""Pixels a side of a block, and whether blocks hold their nearest pixel."""
ALSO = ("cell", "microaneurysms", "page", "text")
"""Gray pictures that are no photographs of the world: as far from faces as can be."""
DETAIL = 160
"""Pixels a side of what the sheets show of a picture: where it varies most."""
COLUMNS = ("pixelated", "bicubic", "restored", "original")


def pictures() -> dict[str, Pixels]:
    """All of them by name."""
    also = {name: getattr(skimage.data, name)() for name in ALSO}
    return colour_photographs() | gray_photographs() | also


def busiest(image: Pixels) -> tuple[slice, slice]:
    """Rows and columns of the square of DETAIL pixels, on a grid of its half, that varies most."""
    light = image.astype(np.float64).reshape(*image.shape[:2], -1).mean(2)
    rows, columns = (range(0, max(1, size - DETAIL + 1), DETAIL // 2) for size in image.shape[:2])
    squares = [
        (slice(top, top + DETAIL), slice(left, left + DETAIL)) for top in rows for left in columns
    ]
    return max(squares, key=lambda square: float(np.abs(np.diff(light[square])).mean()))


def _row(key: str, result: Pixels, *, images: Path, block: int, nearest: bool) -> Row:
    return pixelation_row(result, read(images / key), block, nearest=nearest)


def main() -> int:
    """Give the exit code."""
    flags = options(__doc__).parse_args()
    work, verdicts = flags.work / "pixelated", Verdicts()
    images, sheets = fresh(work / "pictures"), fresh(work / "sheets")
    for name, pixels in some(sorted(pictures().items()), flags.limit):
        Image.fromarray(pixels).save(images / f"{name}.png")
    below: dict[str, list[float]] = {}
    titles = []
    for block, nearest in PIXELATIONS:
        redact = f"pixelate:{block}" + (":nearest" if nearest else "")
        output = fresh(work / redact.replace(":", "-"))
        # Small shards, as some of these images are large.
        found = reconstruct(images, output, redact=redact, model=flags.model, shard_size=8)
        measure = partial(_row, images=images, block=block, nearest=nearest)
        rows = dict(zip(found, recompute(found, images, output, measure, verdicts), strict=True))
        lines = []
        for key, row in rows.items():
            name, original = key.removesuffix(".png"), read(images / key)
            mae, smooth = np.float64(row["mae"]), np.float64(row["bicubic_mae"])
            below.setdefault(name, []).append(float(1 - mae / smooth))
            note = f"MAE {mae:.4f}, bicubic {smooth:.4f}, {1 - mae / smooth:.1%} below"
            verdicts.add(f"{redact} {name}: {note}", bool(mae < smooth))
            seen = pixelate(original, block, nearest=nearest)
            panels = (seen, bicubic(seen, block), read(result_path(output, key)), original)
            where = busiest(original)
            shown = tuple(np.ascontiguousarray(panel[where]) for panel in panels)
            lines.append(Line(title=name, note=note, panels=shown))
        sheet = contact_sheet(redact, COLUMNS, lines, "the busiest part of each", side=2 * DETAIL)
        Image.fromarray(sheet).save(sheets / f"{output.name}.png")
        titles.append(redact)
    print_table(("below bicubic", *titles), [(name, *values) for name, values in below.items()])
    print(f"look at {sheets}")
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
