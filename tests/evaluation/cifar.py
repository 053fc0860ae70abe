"""CIFAR-10's test images with the 4x4 hole in the centre: mean squared error over the hole.

    python -m tests.evaluation.cifar --data DIR --work DIR

Runs our network and the published one. Every metric is recomputed from the written files. Exits
with 1 where a figure misses its mark or a metric does not agree.
"""

from __future__ import annotations

import sys

import numpy as np

from tests.evaluation.independent import (
    Pixels,
    Row,
    Verdicts,
    centre_box,
    fresh,
    hole_row,
    mean,
    options,
    print_table,
    read,
    recompute,
    reconstruct,
)
from tests.evaluation.research_data import cifar_files, some

MOST_MSE = {"redacto": 0.0066, "redacto-baseline": 0.0088}
SIDE = 4
NAMES = ("mse", "mae", "baseline_mae", "recovered", "ssim")


def main() -> int:
    """Give the exit code."""
    parser = options(__doc__)
    parser.add_argument("--baseline-model", help="the same for redacto-baseline")
    flags = parser.parse_args()
    work, verdicts = flags.work / "cifar", Verdicts()
    table: list[tuple[object, ...]] = []
    images = fresh(work / "test")
    for name, file in some(list(cifar_files(flags.data, "test").items()), flags.limit):
        path = images / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file)
    for network, most in MOST_MSE.items():
        output = fresh(work / network)
        model = flags.model if network == "redacto" else flags.baseline_model
        redact = f"box:{SIDE}x{SIDE}@center"
        rows = reconstruct(images, output, network=network, redact=redact, model=model)
        touched: list[str] = []

        def measure(key: str, result: Pixels, touched: list[str] = touched) -> Row:
            original = read(images / key)
            hidden = centre_box(original.shape, side=SIDE)
            if not np.array_equal(result[~hidden], original[~hidden]):
                touched.append(key)
            return hole_row(result, original, hidden)

        expected = recompute(rows, images, output, measure, verdicts)
        table.append((network, len(rows), *(mean(expected, name) for name in NAMES)))
        verdicts.add(f"{network}: known pixels come back bit for bit", not touched)
        mse = mean(expected, "mse")
        verdicts.add(f"{network}: MSE {mse:.5f} over the hole, at most {most}", mse <= most)
    print_table(("network", "n", *NAMES), table)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
