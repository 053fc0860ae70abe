"""Measure jobs.train beside bare loops, in turn: `python -m tests.benchmarks.train_speed --help`.

Ray's workers are pinned to no core; a bare loop is, and so is the pipeline alone.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
import torch
import tyro

from redaction_core.inference import best_precision
from redaction_core.storage import open_store
from redaction_core.training.defaults import REDACTIONS
from redaction_core.training.recipe import Recipe, Source
from redaction_core.training.samples import read_samples
from tests.benchmarks.train_loops import Course, Trace, bare_loops, pipeline, session

ROOT = Path(__file__).resolve().parents[2]
SIDE, IMAGES = 224, 1000
JOB, WHOLE, SESSION = "jobs.train", "jobs.train with validation", "one worker without Ray"
BARE, FUSED = "bare loop", "bare loop, fused AdamW"
JOB_TWO, BARE_TWO = "jobs.train, 2 workers", "two bare loops at once"
DECODING, CACHED = "pipeline alone, decoding", "pipeline alone, decoded"
_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
_SAMPLE_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class TrainSpeed:
    """Samples a second of everything in turn, several times, and ratios round by round."""

    networks: tuple[Literal["enhancer", "redacto"], ...] = ("enhancer", "redacto")
    data: str | None = None
    """A data set that jobs.ingest wrote; default: 1000 crops of photographs, 224x224, in colour."""
    rounds: int = 3
    """How often everything is measured; the bare loop comes first in every second round."""
    steps: int = 400
    """Of every training."""
    warm: int = 50
    """Steps that do not count."""
    batch_size: int = 16
    """Samples of a step that a worker takes."""
    crop: int = 96
    scale: tuple[str, ...] = ("1",)
    """As of jobs.train; the bare loops shrink images in the same way."""
    one_core: bool = False
    """Hold jobs.train with one worker, and all of Ray, to one core too."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the middle one of the ratios of all rounds must reach."""

    ours: str
    theirs: str
    least: Mapping[str, float] | None = None
    """By network; None: said, and no more."""


_THRICE = {"enhancer": 3.0, "redacto": 3.0}
TARGETS = (
    Target(ours=JOB, theirs=BARE, least={"enhancer": 0.95, "redacto": 0.90}),
    Target(ours=JOB, theirs=FUSED),
    Target(ours=SESSION, theirs=BARE),
    Target(ours=WHOLE, theirs=BARE),
    Target(ours=JOB_TWO, theirs=BARE_TWO, least={"enhancer": 0.93, "redacto": 0.93}),
    Target(ours=CACHED, theirs=JOB, least=_THRICE),
    Target(ours=DECODING, theirs=JOB, least=_THRICE),
)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What one measurement found."""

    rate: float
    """Samples a second."""
    processor_ms: float | None = None
    """Processor time a sample, of all that takes part; means the same on a busy machine."""


Figures = dict[str, list[Figure]]


def main(config: TrainSpeed) -> int:
    """Return 1 if a ratio misses its target."""
    missed, told = 0, {}
    with tempfile.TemporaryDirectory(prefix="train-speed-") as name:
        folder = Path(name)
        data = config.data or _write_data_set(folder)
        for network in config.networks:
            course = _course(config, network, data, folder)
            course.write_images()
            figures: Figures = {}
            for number in range(config.rounds):
                for measured, figure in _round(config, course, folder, number).items():
                    figures.setdefault(measured, []).append(figure)
                    print(f"{number + 1}/{config.rounds} {network}, {measured}: {figure}")
                    sys.stdout.flush()
            missed += _report(network, figures)
            told[network] = {
                name: [vars(figure) for figure in found] for name, found in figures.items()
            }
    print(json.dumps(told))
    return 1 if missed else 0


def _round(config: TrainSpeed, course: Course, folder: Path, number: int) -> dict[str, Figure]:
    """Measure everything once; all trainings are measured over the same steps."""
    own = folder / "round"
    own.mkdir()
    one, two = own / "one", own / "two"
    runs = {
        BARE: lambda: bare_loops(course, own),
        JOB: lambda: [_job(course, 1, one, one_core=config.one_core)],
        SESSION: lambda: [session(course, own)],
        FUSED: lambda: bare_loops(course, own, fused=True),
        JOB_TWO: lambda: [_job(course, 2, two)],
        BARE_TWO: lambda: bare_loops(course, own, count=2),
    }
    # What the machine does meanwhile changes slowly: whoever comes first takes turns.
    traces = {}
    for name in reversed(runs) if number % 2 else runs:
        print(f"round {number + 1}, {course.recipe.network}: {name}", file=sys.stderr)
        traces[name] = runs[name]()
    found = {}
    for name, many in traces.items():
        (reports,) = traces[JOB_TWO if name in (JOB_TWO, BARE_TWO) else JOB]
        first = float(min(step for step in reports.steps if step >= config.warm))
        last = float(max(step for step in reports.steps if step < course.steps))
        if last <= first:
            raise RuntimeError(f"over within two reports: take more than {course.steps} --steps")
        samples = (last - first) * course.recipe.batch_size
        took = [trace.took(first, last) for trace in many]
        workers = 2 if name == JOB_TWO else 1
        found[name] = Figure(
            rate=workers * sum(samples / seconds for seconds, _ in took),
            processor_ms=1000 * sum(each for _, each in took) / (samples * workers * len(took)),
        )
        if name == JOB:
            ended_s = (one / "_SUCCESS").stat().st_mtime
            begun_s = float(np.interp(first, reports.steps, reports.seconds))
            samples = (course.steps - first) * course.recipe.batch_size
            found[WHOLE] = Figure(rate=samples / (ended_s - begun_s))
    a_pass = -(-len(course.samples.train) // course.recipe.batch_size)
    for name in (DECODING, CACHED):
        last = min(a_pass, course.steps)
        trace = pipeline(course, own, last=last)
        seconds, processor_s = trace.took(0, last)
        samples = last * course.recipe.batch_size
        found[name] = Figure(rate=samples / seconds, processor_ms=1000 * processor_s / samples)
    shutil.rmtree(own)
    return found


def _course(config: TrainSpeed, network: str, data: str, folder: Path) -> Course:
    able = best_precision(torch.device("cpu")) == torch.bfloat16
    location = open_store(data).location
    images = len(read_samples(location).train)
    repeats = -(-config.steps * config.batch_size // images)
    recipe = Recipe(
        network=network,
        sources=(Source(location=location, repeats=repeats),),
        redactions=REDACTIONS[network],
        scales=config.scale,
        crop=config.crop,
        batch_size=config.batch_size,
        epochs=1,
        precision="bfloat16" if able else "float32",
    )
    return Course(
        recipe=recipe,
        steps=-(-images * repeats // config.batch_size),
        cache=folder / f"cache-{network}",
        images=folder / f"{network}.npy",
    )


def _job(course: Course, workers: int, output: Path, *, one_core: bool = False) -> Trace:
    """Run the command, and give its own reports with the processor time of all its processes."""
    recipe = course.recipe
    (source,) = recipe.sources
    # As many steps for two workers as for one.
    command = [
        *(["taskset", "-c", "0"] if one_core else []),
        *(sys.executable, "-m", "jobs.train", "--network", recipe.network),
        *("--data", source.location, "--repeats", str(source.repeats * workers)),
        *("--batch-size", str(recipe.batch_size * workers), "--workers", str(workers)),
        *("--redact", *recipe.redactions, "--scale", *recipe.scales, "--crop", str(recipe.crop)),
        *("--epochs", "1", "--precision", recipe.precision, "--cache-dir", str(course.cache)),
        *("--device", "cpu", "--cpus-per-worker", "1", "--output", str(output)),
    ]
    used: list[tuple[float, float]] = []
    with tempfile.TemporaryFile("w+") as errors:
        # Ray's workers give way to all other processes otherwise, which bare loops do not.
        job = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"RAY_worker_niceness": "0"},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        while job.poll() is None:
            used.append((time.time(), _processor_s(job.pid)))
            time.sleep(_SAMPLE_S)
        if job.returncode:
            errors.seek(0)
            raise RuntimeError(f"jobs.train failed: {errors.read()[-2000:]}")
    steps, seconds = _reports(output)
    return Trace(steps, seconds, np.interp(seconds, *np.array(used).T))


def _reports(output: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give steps done, and the time, of all reports of the first worker."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output / "tensorboard"), {"scalars": 0}).Reload()
    found = [(each.step, each.wall_time) for each in events.Scalars("train/images_per_s")]
    steps, seconds = np.array(found, float).T
    return steps, seconds


def _processor_s(root: int) -> float:
    """Give the processor seconds of a process and of all that it has started."""
    parents, seconds = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        # Processes end while they are looked at.
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
            seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / _TICKS
    total = 0.0
    for process in parents:
        above = process
        while above not in (root, 0):
            above = parents.get(above, 0)
        total += seconds[process] if above == root else 0.0
    return total


def _write_data_set(folder: Path) -> str:
    """Write photographs as JPEG files, and give the data set that jobs.ingest makes of them."""
    source, target = folder / "photographs", folder / "data"
    source.mkdir()
    rng = np.random.default_rng(0)
    pictures = [getattr(skimage.data, name)() for name in _PHOTOGRAPHS]
    for number in range(IMAGES):
        picture = pictures[number % len(pictures)]
        cut = int(rng.integers(SIDE // 2, min(picture.shape[:2]) + 1))
        top, left = (int(rng.integers(0, length - cut + 1)) for length in picture.shape[:2])
        crop = picture[top : top + cut, left : left + cut]
        method = cv2.INTER_AREA if cut > SIDE else cv2.INTER_CUBIC
        crop = cv2.resize(crop, (SIDE, SIDE), interpolation=method)
        cv2.imwrite(str(source / f"{number:04}.jpg"), crop[..., ::-1])
    command = [sys.executable, "-m", "jobs.ingest", "--images", str(source), "--color", "rgb"]
    command += ["--output", str(target), "--shard-size", "100"]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return str(target)


def _report(network: str, figures: Figures) -> int:
    """Print medians and ratios; gives how many of these miss their target."""
    print(f"\n{network}: samples a second, median (lowest to highest); processor ms a sample")
    for name, found in figures.items():
        rates = [figure.rate for figure in found]
        used = [figure.processor_ms for figure in found if figure.processor_ms is not None]
        processor = f"{statistics.median(used):8.2f}" if used else ""
        spread = f"({min(rates):.1f} to {max(rates):.1f})"
        print(f"  {name:40}{statistics.median(rates):9.1f}  {spread:22}{processor}".rstrip())
    print(f"\n{network}: ratios round by round, median (lowest to highest)")
    missed = 0
    for target in TARGETS:
        pairs = zip(figures[target.ours], figures[target.theirs], strict=True)
        ratios = [ours.rate / theirs.rate for ours, theirs in pairs]
        middle, verdict = statistics.median(ratios), ""
        if target.least is not None:
            reached = middle >= target.least[network]
            missed += not reached
            verdict = f"at least {target.least[network]:g}: {'PASS' if reached else 'MISSED'}"
        spread = f"({min(ratios):.3f} to {max(ratios):.3f})"
        text = f"{target.ours} / {target.theirs}"
        print(f"  {text:54}{middle:8.3f}  {spread:22}{verdict}".rstrip())
    return missed


if __name__ == "__main__":
    sys.exit(main(tyro.cli(TrainSpeed)))
