"""How well pixelations of every block size are undone: a table for the model card.

    python -m tests.evaluation.blocks --data DIR --work DIR

100 held-out faces (224x224, gray) and colour photographs of scikit-image are pixelated here, with
blocks of 2 to 16 pixels, and restored from the files: the command finds the blocks' size by itself.
Every metric is recomputed from the written files. Exits with 1 where results are worse than bicubic
interpolation of the blocks, a size is not found, or a metric does not agree.
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
    pixelate,
    pixelation_row,
    print_table,
    read,
    recompute,
    reconstruct,
)
from tests.evaluation.research_data import colour_photographs, held_out_faces, some

SIZES = range(2, 17)
FACES = 100
NAMES = ("mae", "baseline_mae", "bicubic_mae", "recovered", "ssim")
PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket")


def write_originals(data: Path, count: int, folder: Path) -> dict[str, Pixels]:
    """Write clean images below a folder a block size; give them by kind and name."""
    images = {
        f"face/{name}": face.resize((224, 224), Image.Resampling.BICUBIC)
        for name, face in some(held_out_faces(data), count)
    }
    for name, pixels in colour_photographs().items():
        if name in PHOTOGRAPHS:
            images[f"photograph/{name}"] = Image.fromarray(pixels)
    for name, image in images.items():
        first = folder / f"{SIZES[0]:02}" / f"{name}.png"
        first.parent.mkdir(parents=True, exist_ok=True)
        image.save(first)
        for size in SIZES[1:]:
            link = folder / f"{size:02}" / f"{name}.png"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(first)
    return {name: read(folder / f"{SIZES[0]:02}" / f"{name}.png") for name in images}


def write_pixelated(clean: dict[str, Pixels], folder: Path, *, nearest: bool) -> None:
    """Write every image pixelated with every block size."""
    for size in SIZES:
        for name, pixels in clean.items():
            path = folder / f"{size:02}" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixelate(pixels, size, nearest=nearest)).save(path)


def _row(key: str, result: Pixels, *, originals: Path, nearest: bool) -> Row:
    block = int(key.partition("/")[0])
    return pixelation_row(result, read(originals / key), block, nearest=nearest)


def main() -> int:
    """Give the exit code."""
    flags = options(__doc__).parse_args()
    work, verdicts = flags.work / "blocks", Verdicts()
    table: list[tuple[object, ...]] = []
    originals = fresh(work / "originals").resolve()
    clean = write_originals(flags.data, flags.limit or FACES, originals)
    for nearest in (False, True):
        value = "nearest" if nearest else "mean"
        pixelated, output = fresh(work / f"pixelated-{value}"), fresh(work / value)
        write_pixelated(clean, pixelated, nearest=nearest)
        found = reconstruct(
            pixelated, output, originals=originals, block_value=value, model=flags.model
        )
        measure = partial(_row, originals=originals, nearest=nearest)
        rows = dict(zip(found, recompute(found, pixelated, output, measure, verdicts), strict=True))
        gains: dict[str, float] = {}
        for kind in ("face", "photograph"):
            for size in SIZES:
                chosen = [row for key, row in rows.items() if key.startswith(f"{size:02}/{kind}/")]
                means = {name: mean(chosen, name) for name in NAMES}
                what = f"{kind} {value} {size}"
                gains[what] = 1 - means["mae"] / means["bicubic_mae"]
                table.append((what, len(chosen), *means.values(), gains[what]))
        least = min(gains, key=lambda what: gains[what])
        text = f"{value}: below bicubic at every size, least for {least} with {gains[least]:.1%}"
        verdicts.add(text, gains[least] > 0)
    print_table(("blocks", "n", *NAMES, "below bicubic"), table)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
