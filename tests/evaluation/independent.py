"""Errors from the written files alone, and whether the job's own metrics agree.

Built on NumPy, Pillow and scikit-image; shares no code with `redaction_core`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image
from scipy import ndimage
from skimage.metrics import structural_similarity

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Row = dict[str, float | str | None]

ROUNDING_PSNR = 10 * math.log10(12 * 255**2)
"""dB of an estimate that is only rounded to 8 bits: what an exact one counts in a mean of PSNR."""
_CLOSE = {"ssim": 1e-5, "bicubic_mae": 1e-5}
"""How far the job may be off where it computes in float32 (half levels may round the other way)."""
_EQUAL = 1e-9


def options(description: str | None) -> argparse.ArgumentParser:
    """Give the flags that all these commands have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the research data")
    parser.add_argument("--work", type=Path, required=True, help="inputs and outputs go below it")
    parser.add_argument("--limit", type=int, help="a quick look at so many images")
    parser.add_argument("--model", help="model directory; default: the shipped weights")
    return parser


def fresh(folder: Path) -> Path:
    """Empty a folder that these commands write."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def reconstruct(images: Path, output: Path, **flags: object) -> dict[str, Row]:
    """Run the real command in a process of its own; give its metrics rows by key."""
    command = [sys.executable, "-m", "jobs.reconstruct", "--input", images, "--output", output]
    for name, value in flags.items():
        if value not in (None, False):
            command += ["--" + name.replace("_", "-"), *([] if value is True else [str(value)])]
    print("$ python", *command[1:], flush=True)
    subprocess.run(
        [str(part) for part in command],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parents[2],
    )
    rows = [
        row
        for part in sorted((output / "metrics").glob("*.parquet"))
        for row in pq.read_table(part).to_pylist()
    ]
    keys = sorted(str(path.relative_to(images)) for path in images.rglob("*") if path.is_file())
    assert sorted(row["key"] for row in rows) == keys, "not one row for every input"
    failed = [(row["key"], row["failure"], row["detail"]) for row in rows if row["status"] != "ok"]
    assert not failed, failed[:3]
    return {row["key"]: row for row in rows}


def result_path(output: Path, key: str) -> Path:
    """Where the restored image of an input lies."""
    return output / "images" / (key if key.endswith(".png") else key + ".png")


def read(path: Path) -> Pixels:
    """Gray, HxW, or colour, HxWx3."""
    with Image.open(path) as image:
        return np.array(image if image.mode == "L" else image.convert("RGB"))


def pixelate(image: Pixels, block: int, *, nearest: bool) -> Pixels:
    """Every block becomes its mean, or its pixel at row and column block//2."""
    result = image.copy()
    for top in range(0, image.shape[0], block):
        for left in range(0, image.shape[1], block):
            piece = image[top : top + block, left : left + block]
            middle = [min(block // 2, side - 1) for side in piece.shape[:2]]
            value = piece[middle[0], middle[1]] if nearest else np.rint(piece.mean((0, 1)))
            result[top : top + block, left : left + block] = value
    return result


def bicubic(pixelated: Pixels, block: int) -> Pixels:
    """Interpolate the blocks by cubic convolution with a = -0.75, as PyTorch and OpenCV do."""
    height, width = pixelated.shape[:2]
    blocks = pixelated[::block, ::block].astype(np.float64)
    down, across = _cubic(height, block), _cubic(width, block)
    smooth = np.einsum("yi,ij...,xj->yx...", down, blocks, across, optimize=True)
    return np.rint(smooth).clip(0, 255).astype(np.uint8)


def _cubic(size: int, block: int) -> npt.NDArray[np.float64]:
    """Weights of the blocks for each pixel, (size, blocks): Keys 1981, edges replicated."""
    count = -(-size // block)
    weights = np.zeros((size, count))
    for place in range(-2, count + 2):
        away = np.abs((np.arange(size) + 0.5) / block - 0.5 - place)
        near = 1.25 * away**3 - 2.25 * away**2 + 1
        far = -0.75 * (away**3 - 5 * away**2 + 8 * away - 4)
        value = np.where(away <= 1, near, np.where(away < 2, far, 0))
        weights[:, min(max(place, 0), count - 1)] += value
    return weights


def centre_box(shape: tuple[int, ...], *, side: int) -> Mask:
    """Hide a square in the centre."""
    height, width = shape[:2]
    hidden = np.zeros((height, width), bool)
    top, left = (height - side) // 2, (width - side) // 2
    hidden[top : top + side, left : left + side] = True
    return hidden


def random_box(shape: tuple[int, ...], fraction: float, *, key: str, seed: int) -> Mask:
    """Hide a square of a share of the area, at the place that the image's key gives."""
    height, width = shape[:2]
    side = round(math.sqrt(fraction * height * width))
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    top = int.from_bytes(digest[:8], "big") % (height - side + 1)
    left = int.from_bytes(digest[8:16], "big") % (width - side + 1)
    hidden = np.zeros((height, width), bool)
    hidden[top : top + side, left : left + side] = True
    return hidden


def errors(estimate: Pixels, original: Pixels, hidden: Mask | None = None) -> Row:
    """Errors on the 0-1 scale, over the hidden pixels where there are any."""
    where = np.ones(original.shape[:2], bool) if hidden is None else hidden
    difference = np.abs(estimate[where].astype(np.float64) - original[where]) / 255
    mse = float(np.square(difference).mean())
    row: Row = {"mae": float(difference.mean()), "mse": mse, "ssim": None}
    row["psnr"] = -10 * math.log10(mse) if mse else None
    for percent in (50, 95, 99):
        row[f"error_p{percent}"] = float(np.percentile(difference, percent, method="inverted_cdf"))
    return row


def similarity(estimate: Pixels, original: Pixels, hidden: Mask | None = None) -> float | None:
    """SSIM of Wang et al. 2004 by scikit-image; over the windows centred on hidden pixels."""
    if min(original.shape[:2]) < 11:
        return None
    mean, everywhere = structural_similarity(
        original,
        estimate,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=-1 if original.ndim == 3 else None,
        full=True,
    )
    return float(mean if hidden is None else everywhere[hidden].mean())


def pixelation_row(result: Pixels, original: Pixels, block: int, *, nearest: bool) -> Row:
    """Recompute the metrics of a restored pixelation."""
    pixelated = pixelate(original, block, nearest=nearest)
    row = errors(result, original) | {"ssim": similarity(result, original)}
    row["block_size"] = block
    again = pixelate(result, block, nearest=nearest)
    row["consistency_mae"] = errors(again, pixelated)["mae"]
    row["bicubic_mae"] = errors(bicubic(pixelated, block), original)["mae"]
    return row | _baseline(row, pixelated, original, None)


def blur(image: Pixels, sigma: float) -> Pixels:
    """Blur by a Gaussian, cut off at 4 sigma, edges replicated."""
    around = (sigma, sigma, 0)[: image.ndim]
    blurred = ndimage.gaussian_filter(image.astype(np.float64), around, mode="nearest")
    return np.rint(blurred).clip(0, 255).astype(np.uint8)


def blur_row(result: Pixels, original: Pixels, sigma: float) -> Row:
    """Recompute the metrics of a blur that was undone."""
    blurred = blur(original, sigma)
    row = errors(result, original) | {"ssim": similarity(result, original)}
    row |= {"block_size": None, "bicubic_mae": None}
    row["consistency_mae"] = errors(blur(result, sigma), blurred)["mae"]
    return row | _baseline(row, blurred, original, None)


def hole_row(result: Pixels, original: Pixels, hidden: Mask) -> Row:
    """Recompute the metrics of a filled hole."""
    row = errors(result, original, hidden) | {"ssim": similarity(result, original, hidden)}
    row["hidden_fraction"] = float(hidden.mean())
    row["consistency_mae"] = errors(result, original, ~hidden)["mae"]
    square = np.ones((3, 3), bool)
    if ndimage.label(hidden, square)[1] > 1:
        return row  # rings that touch each other have no single definition
    ring = ndimage.binary_dilation(hidden, square) & ~hidden
    filled = original.copy()
    filled[hidden] = np.rint(original[ring].mean(0))
    return row | _baseline(row, filled, original, hidden)


def _baseline(row: Row, before: Pixels, original: Pixels, hidden: Mask | None) -> Row:
    baseline = errors(before, original, hidden)
    mae = row["mae"]
    assert isinstance(mae, float)
    assert isinstance(baseline["mae"], float)
    return {
        "baseline_mae": baseline["mae"],
        "baseline_psnr": baseline["psnr"],
        "recovered": 1 - mae / baseline["mae"] if baseline["mae"] else None,
    }


def recompute(
    rows: Mapping[str, Row],
    images: Path,
    output: Path,
    measure: Callable[[str, Pixels], Row],
    verdicts: Verdicts,
) -> list[Row]:
    """Recompute every row by `measure`, from its key and result, and compare the two."""
    expected, differences = [], []
    for key, row in rows.items():
        result, image = result_path(output, key), images / key
        pixels = read(result)
        recomputed = measure(key, pixels) | {
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "input_sha256": hashlib.sha256(image.read_bytes()).hexdigest(),
            "output_sha256": hashlib.sha256(result.read_bytes()).hexdigest(),
        }
        expected.append(recomputed)
        differences += _disagreements(row, recomputed)
    _say_some(differences)
    text = f"metrics of {len(rows)} rows equal those recomputed from the written files"
    verdicts.add(text, not differences)
    told = json.loads((output / "summary.json").read_text())["means"]
    wrong = [
        f"mean {name} is {told.get(name)}, recomputed {value}"
        for name in ("mae", "mse", "psnr", "ssim", "baseline_mae", "recovered", "consistency_mae")
        for value in [_plain_mean(expected, name)]
        if value and not math.isclose(told.get(name, math.nan), value, rel_tol=1e-4)
    ]
    _say_some(wrong)
    verdicts.add("means of summary.json equal those recomputed", not wrong)
    return expected


def _disagreements(row: Row, expected: Row) -> list[str]:
    found = []
    for name, value in expected.items():
        there = row[name]
        if isinstance(value, float) and isinstance(there, float):
            equal = abs(there - value) <= _CLOSE.get(name, _EQUAL)
        else:
            equal = there == value
        if not equal:
            found.append(f"{row['key']}: {name} is {there}, recomputed {value}")
    return found


def _plain_mean(rows: Sequence[Row], name: str) -> float | None:
    values = [value for row in rows if isinstance(value := row.get(name), float)]
    return float(np.mean(values)) if len(values) == len(rows) else None


def _say_some(lines: Sequence[str]) -> None:
    for line in lines[:5]:
        print(f"      {line}")


def mean(rows: Iterable[Row], name: str) -> float:
    """Mean of a measure; an exact result counts with the PSNR of rounding."""
    values = [ROUNDING_PSNR if row[name] is None and "psnr" in name else row[name] for row in rows]
    return float(np.mean(np.array(values, np.float64)))


class Verdicts:
    """Lines of PASS and MISS, and the exit code that they come to."""

    def __init__(self) -> None:
        self.missed = False

    def add(self, what: str, passed: bool) -> None:  # noqa: FBT001 - a verdict is a bool
        print(f"{'PASS' if passed else 'MISS'}  {what}", flush=True)
        self.missed |= not passed


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns; floats with four digits."""
    lines = [[f"{c:.4f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    for line in (list(header), *lines):
        cells = zip(line, widths, strict=True)
        print("  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(cells)))
