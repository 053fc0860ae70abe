"""What was published of masks, losses and networks, checked in a small experiment.

    python -m tests.evaluation.claims --sets DIR --data DIR --work DIR

DIR of --sets holds what `tests.evaluation.development_sets` wrote. --part chooses one of

a.  `redacto-baseline` given the mask at every layer, against at its input alone: several trainings
    of each, as so small a network depends on its start. Errors over the hole of `box:4x4@center`
    in CIFAR-10's test images.
b.  mae, mse and the published Laplacian-weighted loss, on a small `enhancer` and on
    `enhancer-baseline`: errors of restored faces and how sharp they are, which is their mean
    absolute Laplacian over the original's (false edges count as well: of blocks, of noise).
c.  `enhancer` against `enhancer-baseline`: the same data and number of training crops, then the
    same training time; errors, and images a second on one thread, measured in turn.

Faces are held back ones at 224x224, `pixelate:4:nearest`. Every training is a run of `jobs.train`
on one worker with one core, and the same command goes on where it was interrupted. Estimates come
from the models in memory, errors from this script. On a core of 150 GFLOPS the parts take some 20,
30 and 40 minutes. Prints tables in Markdown; exits with 1 where part c misses a mark.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from redaction_core.inference import Restorer, pixels_of, planes_of
from redaction_core.redaction import Pixelate
from tests.evaluation.independent import (
    Pixels,
    Row,
    Verdicts,
    bicubic,
    centre_box,
    errors,
    mean,
    pixelate,
)
from tests.evaluation.small_trainings import Bench, Run

BLOCK, HOLE = 4, 4
"""Pixels a side."""
FACE_FLAGS = ("--redact", "pixelate:4:nearest", "--scale", "0.64", "--crop", "56")
"""Faces of 350x350 are shrunk to what 224x224 shows."""
HOLE_FLAGS = ("--redact", "box:4x4@center", "--loss", "mse", "--crop", "16", "--batch-size", "64")
"""The network sees three pixels around the hole, so that crops of 16 pixels train it as well."""
SEEDS_OF_HOLES, SEEDS_OF_LOSSES = range(5), range(2)
PUBLISHED_GAIN = 0.25
LEAST_SPEED = 20
TURNS, TURN_S, AT_ONCE = 5, 2.0, 4
"""Of measuring speed: turns of each network, their length at least, and images of a batch."""


def print_markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for the README."""
    print()
    for cells in (header, ["---"] * len(header), *rows):
        print("|", " | ".join(map(str, cells)), "|")
    print(flush=True)


def spread(values: Sequence[float]) -> str:
    """Give mean and standard deviation, where there are several."""
    text = f"{statistics.mean(values):.3g}"
    return f"{text} ± {statistics.stdev(values):.1g}" if len(values) > 1 else text


def restored(restorer: Restorer, pixelated: Sequence[Pixels]) -> list[Pixels]:
    """Undo the pixelation of faces."""
    how = Pixelate(block=BLOCK, nearest=True)
    return [
        pixels_of(estimate.image)
        for start in range(0, len(pixelated), AT_ONCE)
        for estimate in restorer.enhance(
            [planes_of(image) for image in pixelated[start : start + AT_ONCE]], how
        )
    ]


def measured(results: Sequence[Pixels], originals: Sequence[Pixels]) -> dict[str, float]:
    """Give mean errors of restored faces, and how sharp they are."""
    rows: list[Row] = []
    for result, original in zip(results, originals, strict=True):
        detail, true = (np.abs(ndimage.laplace(i.astype(np.float64))) for i in (result, original))
        rows.append(errors(result, original) | {"sharpness": float(detail.mean() / true.mean())})
    return {name: mean(rows, name) for name in ("mae", "mse", "sharpness")}


def without_network(pixelated: Sequence[Pixels], faces: Sequence[Pixels]) -> list[list[str]]:
    """Give rows of tables: what there is to begin with, and interpolation."""
    smooth = [bicubic(image, BLOCK) for image in pixelated]
    rows = {"pixelated": measured(pixelated, faces), "bicubic": measured(smooth, faces)}
    return [[name, "-", *(f"{value:.3g}" for value in row.values())] for name, row in rows.items()]


def hole_errors(run: Run, images: Pixels) -> tuple[float, float]:
    """Give MSE and MAE over the holes of small images, of what is rounded to 8 bits."""
    hidden = centre_box(images.shape[1:3], side=HOLE)
    blind = images.copy()
    blind[:, hidden] = 0
    restorer, mask = run.restorer(), torch.from_numpy(hidden)[None]
    results = [
        pixels_of(filled.image)
        for start in range(0, len(blind), 100)
        for batch in [[planes_of(image) for image in blind[start : start + 100]]]
        for filled in restorer.fill(batch, [mask] * len(batch))
    ]
    difference = (np.stack(results)[:, hidden].astype(np.float64) - images[:, hidden]) / 255
    return float(np.square(difference).mean()), float(np.abs(difference).mean())


def masks(bench: Bench) -> None:
    """Part a."""
    images = bench.small_images()
    found: dict[int, list[tuple[float, float]]] = {1: [], 0: []}
    for seed in SEEDS_OF_HOLES:
        for everywhere, pairs in found.items():
            run = bench.train(
                f"a-{everywhere}-{seed}",
                "redacto-baseline",
                "cifar",
                *HOLE_FLAGS,
                *("--architecture", f"mask_everywhere={everywhere}", "--seed", seed),
                *("--epochs", 6, "--optimiser", "adamw", "--learning-rate", 0.005),
            )
            pairs.append(hole_errors(run, images))
    squared = {everywhere: [mse for mse, _ in pairs] for everywhere, pairs in found.items()}
    print_markdown(
        ("the mask is given to", "trainings", "MSE over the hole", "lowest", "MAE"),
        [
            (
                "every layer" if everywhere else "the first layer alone",
                len(pairs),
                spread(squared[everywhere]),
                f"{min(squared[everywhere]):.3g}",
                spread([mae for _, mae in pairs]),
            )
            for everywhere, pairs in found.items()
        ],
    )
    ours, theirs = (statistics.mean(squared[everywhere]) for everywhere in (1, 0))
    deviations = [statistics.stdev(values) for values in squared.values()]
    doubt = math.hypot(*deviations) / math.sqrt(len(SEEDS_OF_HOLES)) / theirs
    best = 1 - min(squared[1]) / min(squared[0])
    print(
        f"The mask at every layer: MSE {1 - ours / theirs:.1%} lower (standard error {doubt:.1%}); "
        f"best against best {best:.1%} lower; published: about {PUBLISHED_GAIN:.0%}"
    )


def losses(bench: Bench) -> None:
    """Part b."""
    faces = bench.faces()
    pixelated = [pixelate(face, BLOCK, nearest=True) for face in faces]
    rows: list[Sequence[object]] = [*without_network(pixelated, faces)]
    sizes = {
        "enhancer": ("--architecture", "width=32", "blocks=4", "--epochs", 10),
        "enhancer-baseline": ("--epochs", 1),
    }
    sharp: dict[tuple[str, str], float] = {}
    for network, size in sizes.items():
        for loss in ("mae", "mse", "laplacian"):
            found = []
            for seed in SEEDS_OF_LOSSES if network == "enhancer" else (0,):
                run = bench.train(
                    f"b-{network}-{loss}-{seed}",
                    network,
                    "faces",
                    *FACE_FLAGS,
                    *size,
                    *("--loss", loss, "--seed", seed, "--batch-size", 8),
                )
                found.append(measured(restored(run.restorer(), pixelated), faces))
            values = {name: [each[name] for each in found] for name in found[0]}
            sharp[network, loss] = statistics.mean(values["sharpness"])
            rows.append((f"`{network}`", loss, *map(spread, values.values())))
    print_markdown(("", "loss", "MAE", "MSE", "sharpness"), rows)
    for network in sizes:
        print(
            f"{network}: mse leaves a sharpness of {sharp[network, 'mse']:.3g}, mae "
            f"{sharp[network, 'mae']:.3g}, laplacian {sharp[network, 'laplacian']:.3g}; "
            "published: mse washes out"
        )


def speeds(restorers: Sequence[Restorer], images: Sequence[Pixels]) -> list[float]:
    """Give images a second of networks, in turn; seconds are those of the processor."""
    batch = list(images[:AT_ONCE])
    times: list[list[float]] = [[] for _ in restorers]
    for turn in range(TURNS + 1):
        for restorer, spent in zip(restorers, times, strict=True):
            started, done = time.process_time(), 0
            while done == 0 or time.process_time() - started < TURN_S:
                restored(restorer, batch)
                done += len(batch)
            # The first turn warms up.
            if turn:
                spent.append(done / (time.process_time() - started))
    return [statistics.median(each) for each in times]


def networks(bench: Bench, verdicts: Verdicts) -> None:
    """Part c."""
    faces = bench.faces()
    pixelated = [pixelate(face, BLOCK, nearest=True) for face in faces]
    flags = (*FACE_FLAGS, "--batch-size", 8, "--epochs", 3)
    theirs = bench.train("c-baseline", "enhancer-baseline", "faces", *flags)
    same_crops = bench.train("c-same-crops", "enhancer", "faces", *flags)
    # As many crops as are learnt from in the time that the other one took.
    repeats = max(1, round(same_crops.crops_per_s / theirs.crops_per_s))
    same_time = bench.train("c-same-time", "enhancer", "faces", *flags, "--repeats", repeats)
    runs = {"enhancer-baseline": theirs, "same crops": same_crops, "same time": same_time}
    restorers = {name: run.restorer() for name, run in runs.items()}
    found = {name: measured(restored(each, pixelated), faces) for name, each in restorers.items()}
    slow, fast = speeds([restorers["enhancer-baseline"], restorers["same crops"]], pixelated)
    rows: list[Sequence[object]] = [
        (name, *cells, "-", "-") for name, *cells in without_network(pixelated, faces)
    ]
    for name, run in runs.items():
        is_theirs = run is theirs
        rows.append(
            (
                f"`{name}`" if is_theirs else f"`enhancer`, {name}",
                f"{run.crops:,}",
                *(f"{value:.3g}" for value in found[name].values()),
                f"{run.minutes:.1f}",
                f"{slow if is_theirs else fast:.3g}",
            )
        )
    header = ("", "training crops", "MAE", "MSE", "sharpness", "minutes of training", "images/s")
    print_markdown(header, rows)
    ours, baseline = found["same crops"]["mae"], found["enhancer-baseline"]["mae"]
    text = f"same crops: MAE {ours:.5f}, below that of enhancer-baseline with {baseline:.5f}"
    verdicts.add(text, ours < baseline)
    text = f"{fast / slow:.1f} times its images a second, at least {LEAST_SPEED}"
    verdicts.add(text, fast / slow >= LEAST_SPEED)


def main() -> int:
    """Give the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--data", type=Path, required=True, help="folder of the research data")
    parser.add_argument("--work", type=Path, required=True, help="trainings go below it")
    parser.add_argument("--part", choices=("a", "b", "c"), help="one of them alone")
    parser.add_argument("--scale", type=float, default=1.0, help="share of all images that is used")
    flags = parser.parse_args()
    if not 0 < flags.scale <= 1:
        parser.error(f"--scale {flags.scale}: above 0, and at most 1")
    # A quick look must not go on with the whole, nor the other way round.
    work = flags.work.resolve() / f"claims-{flags.scale:g}"
    bench = Bench(sets=flags.sets.resolve(), data=flags.data, work=work, scale=flags.scale)
    verdicts = Verdicts()
    torch.set_num_threads(1)
    if flags.part in {None, "a"}:
        masks(bench)
    if flags.part in {None, "b"}:
        losses(bench)
    if flags.part in {None, "c"}:
        networks(bench, verdicts)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
