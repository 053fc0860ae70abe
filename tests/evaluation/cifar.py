"""CIFAR-10's test images with holes in the centre: mean squared error over the hole.

    python -m tests.evaluation.cifar --data DIR --work DIR

Holes of 4x4 pixels by our network and the published one, and by ours where it was tuned for them
alone (--tuned-model); holes of 8x8 by ours, alone and with --self-ensemble, OpenCV's Telea (radius
3) and scikit-image's biharmonic, which get the whole image. Every metric is recomputed from the
written files. Exits with 1 where a figure misses its mark or a metric does not agree.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tests.evaluation.independent import (
    Pixels,
    Row,
    Verdicts,
    centre_box,
    errors,
    fresh,
    hole_row,
    mean,
    options,
    print_table,
    read,
    recompute,
    reconstruct,
)
from tests.evaluation.photographs import blinded, fill
from tests.evaluation.research_data import cifar_files, some

MOST_MSE = {"redacto": 0.0054, "redacto-baseline": 0.0088}
MOST_MSE_TUNED = 0.0045
LEAST_BELOW = {"telea": 0.38, "biharmonic": 0.28}
"""By how much our MSE must be below that of others, over 8x8 holes."""
NAMES = ("mse", "mae", "baseline_mae", "recovered", "ssim")


def fill_centres(
    images: Path, output: Path, side: int, verdicts: Verdicts, **flags: object
) -> list[Row]:
    """Run the command on holes in the centre; give the recomputed rows."""
    rows = reconstruct(images, fresh(output), redact=f"box:{side}x{side}@center", **flags)
    touched: list[str] = []

    def measure(key: str, result: Pixels) -> Row:
        original = read(images / key)
        hidden = centre_box(original.shape, side=side)
        if not np.array_equal(result[~hidden], original[~hidden]):
            touched.append(key)
        return hole_row(result, original, hidden)

    expected = recompute(rows, images, output, measure, verdicts)
    verdicts.add(f"{output.name}: known pixels come back bit for bit", not touched)
    return expected


def rival_rows(images: Path, side: int, rival: str) -> list[Row]:
    """Fill the same holes by another method."""
    rows = []
    for path in sorted(images.rglob("*.jpg")):
        original = read(path)
        hidden = centre_box(original.shape, side=side)
        rows.append(errors(fill(rival, blinded(original, hidden), hidden), original, hidden))
    return rows


def main() -> int:
    """Give the exit code."""
    parser = options(__doc__)
    parser.add_argument("--baseline-model", help="the same for redacto-baseline")
    parser.add_argument("--tuned-model", help="redacto's, trained for box:4x4@center alone")
    flags = parser.parse_args()
    work, verdicts = flags.work / "cifar", Verdicts()
    table: list[tuple[object, ...]] = []
    images = fresh(work / "test")
    for name, file in some(list(cifar_files(flags.data, "test").items()), flags.limit):
        path = images / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file)
    runs = [
        ("redacto", "redacto", flags.model, MOST_MSE["redacto"]),
        (
            "redacto-baseline",
            "redacto-baseline",
            flags.baseline_model,
            MOST_MSE["redacto-baseline"],
        ),
    ]
    if flags.tuned_model is not None:
        runs.append(("redacto-tuned", "redacto", flags.tuned_model, MOST_MSE_TUNED))
    for title, network, model, most in runs:
        rows = fill_centres(images, work / title, 4, verdicts, network=network, model=model)
        table.append((f"{title} 4x4", len(rows), *(mean(rows, name) for name in NAMES)))
        mse = mean(rows, "mse")
        verdicts.add(f"{title}: MSE {mse:.5f} over 4x4 holes, at most {most}", mse <= most)
    rivals = {rival: mean(rival_rows(images, 8, rival), "mse") for rival in LEAST_BELOW}
    for title, ensemble in (("redacto", False), ("redacto, self-ensemble", True)):
        output = work / f"{title.replace(', ', '-')}-8x8"
        rows = fill_centres(images, output, 8, verdicts, model=flags.model, self_ensemble=ensemble)
        table.append((f"{title} 8x8", len(rows), *(mean(rows, name) for name in NAMES)))
        mse = mean(rows, "mse")
        for rival, others in rivals.items():
            below = 1 - mse / others
            text = f"{title}: MSE {mse:.5f} over 8x8 holes, {below:.1%} below {rival}"
            least = LEAST_BELOW[rival]
            verdicts.add(f"{text} with {others:.5f}, at least {least:.0%}", below >= least)
    print_table(("network", "n", *NAMES), table)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
