"""What jobs.train is measured against: the same steps in a bare loop, and parts of it alone.

The bare loop is what a person would write for one network and one data set that fits in memory.
It checks, stores, tells and survives nothing.
"""

import copy
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from redaction_core.mixture import RedactionMixture, ScaleMixture
from redaction_core.models import BUILDERS, FILLS_HOLES
from redaction_core.redaction import Hiding, Redaction, hidden_pixels
from redaction_core.training.batches import BatchLoader
from redaction_core.training.cache import FileCache
from redaction_core.training.group import Group
from redaction_core.training.objectives import losses_of
from redaction_core.training.order import DRAWS
from redaction_core.training.output import Data, digest
from redaction_core.training.pixels import SourcePixels
from redaction_core.training.recipe import Recipe
from redaction_core.training.samples import Samples, read_samples
from redaction_core.training.session import Session, run_session

MOST_IN_MEMORY = 2000
_LONGEST_S = 3600.0
_START_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Course:
    """What everything that is compared does alike: one epoch of a recipe."""

    recipe: Recipe
    steps: int
    cache: Path
    """Of decoded images."""
    images: Path
    """Decoded images for bare loops, uint8 (n, C, side, side)."""

    @property
    def samples(self) -> Samples:
        return read_samples(self.recipe.sources[0].location)

    def write_images(self) -> None:
        """Decode images into the cache, and write them for the bare loops too."""
        samples = self.samples
        channels = 3 if self.recipe.network in FILLS_HOLES else 1
        rows = samples.train
        pixels = SourcePixels(samples, rows, cache=FileCache(self.cache), channels=channels)
        some = np.arange(min(len(rows), MOST_IN_MEMORY))
        images = np.stack([np.atleast_3d(image) for image, _ in pixels.images(some)])
        np.save(self.images, np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

    def redactions(self) -> list[Redaction]:
        """Give what the job draws for its steps, so that each step costs all of them the same."""
        mixture, seed = RedactionMixture.parse(self.recipe.redactions), self.recipe.seed
        return [
            mixture.draw(np.random.default_rng((DRAWS, seed, step))) for step in range(self.steps)
        ]


@dataclass(frozen=True)
class Trace:
    """After how many steps what time it was, and how much processor time had been taken."""

    steps: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    processor_s: npt.NDArray[np.float64]

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(*np.load(path))

    def took(self, first: float, last: float) -> tuple[float, float]:
        """Give seconds and processor seconds of the steps after `first` up to `last`."""
        ends = (first, last)
        seconds = np.interp(ends, self.steps, self.seconds)
        processor_s = np.interp(ends, self.steps, self.processor_s)
        return float(np.ptp(seconds)), float(np.ptp(processor_s))


class _Noted:
    """A trace that is being taken in this process."""

    def __init__(self) -> None:
        self._found: list[tuple[float, float, float]] = []

    def note(self, steps: int) -> None:
        self._found.append((steps, time.perf_counter(), time.process_time()))

    def save(self, path: Path) -> None:
        np.save(path, np.array(self._found).T)


def bare_loops(course: Course, folder: Path, *, count: int = 1, fused: bool = False) -> list[Trace]:
    """Run some bare loops at the same time, each on a core of its own."""
    spawn = multiprocessing.get_context("spawn")
    start, finished = spawn.Barrier(count, timeout=_START_S), spawn.Value("i", 0)

    def loop(core: int, path: Path) -> Any:  # noqa: ANN401 - a process of the spawn context
        together = _Together(count=count, start=start, finished=finished)
        return spawn.Process(target=_bare, args=(course, path, core, fused, together))

    return _run(loop, folder, count)


def session(course: Course, folder: Path) -> Trace:
    """Run one worker's part of the job without Ray."""
    spawn = multiprocessing.get_context("spawn")
    (trace,) = _run(
        lambda _, path: spawn.Process(target=_session, args=(course, path, folder / "session")),
        folder,
        1,
    )
    return trace


def pipeline(course: Course, folder: Path, *, last: int) -> Trace:
    """Make batches on one core, and learn from none; decodes what the cache of `folder` lacks."""
    spawn = multiprocessing.get_context("spawn")
    (trace,) = _run(
        lambda core, path: spawn.Process(
            target=_pipeline, args=(course, path, core, folder / "pixels", last)
        ),
        folder,
        1,
    )
    return trace


def _run(process: Callable[[int, Path], Any], folder: Path, count: int) -> list[Trace]:
    cores = sorted(os.sched_getaffinity(0))
    paths = [folder / f"trace-{number}.npy" for number in range(count)]
    processes = [process(cores[number % len(cores)], path) for number, path in enumerate(paths)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(_LONGEST_S)
    if any(each.exitcode != 0 for each in processes):
        raise RuntimeError("a loop failed: see above")
    return [Trace.load(path) for path in paths]


def _take(core: int | None) -> None:
    """Make this process run one thread, on one core alone if one is named."""
    torch.set_num_threads(1)
    if core is not None:
        os.sched_setaffinity(0, {core})


@dataclass(frozen=True, kw_only=True)
class _Together:
    """Loops that begin together, and go on until all of them have taken their steps."""

    count: int
    start: Any
    """A Barrier of the spawn context, which has no public type."""
    finished: Any
    """A Value."""


def _bare(course: Course, path: Path, core: int, fused: bool, together: _Together) -> None:  # noqa: FBT001 - a process has one call
    _take(core)
    torch.manual_seed(core)
    recipe, hows = course.recipe, course.redactions()
    rng = np.random.default_rng(core)
    images = torch.from_numpy(np.load(course.images))
    network = BUILDERS[recipe.network](**recipe.architecture).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=fused
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, course.steps)
    mixed = recipe.precision == "bfloat16"
    total, noted, batches = 0.0, _Noted(), _batches(images, recipe, rng)
    together.start.wait()
    noted.note(0)
    for step in itertools.count():
        if step == course.steps:
            with together.finished.get_lock():
                together.finished.value += 1
        # The others must not have the machine to themselves before their last step.
        if step >= course.steps and together.finished.value == together.count:
            break
        clean, names = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            how, hidden = hows[step % len(hows)], None
            if isinstance(how, Hiding):
                hidden = hidden_pixels(how, clean.shape, names, recipe.seed)
            losses = losses_of(network, clean, how, hidden, loss=recipe.loss)
        loss = losses.float().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(weight, 1 - recipe.ema_decay)
        total += loss.item()
        noted.note(step + 1)
    noted.save(path)


def _batches(
    images: Tensor, recipe: Recipe, rng: np.random.Generator
) -> Iterator[tuple[Tensor, list[str]]]:
    """Yield crops of images in a random order, over and over, and a name for each."""
    scales, side = ScaleMixture.parse(recipe.scales), images.shape[-1]
    crop, size = min(recipe.crop, side), recipe.batch_size
    for epoch in itertools.count():
        order = rng.permutation(len(images))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size].tolist()
            regions = np.clip(np.rint(crop / scales.draw(rng, size)), crop, side).astype(int)
            crops = [
                _crop(images[number], int(region), crop, rng)
                for number, region in zip(chosen, regions, strict=True)
            ]
            yield torch.stack(crops), [f"{number} {epoch}" for number in chosen]


def _crop(image: Tensor, region: int, crop: int, rng: np.random.Generator) -> Tensor:
    top, left = rng.integers(0, image.shape[-1] - region + 1, 2).tolist()
    seen = image[:, top : top + region, left : left + region]
    if region != crop:
        seen = F.interpolate(seen[None], (crop, crop), mode="bicubic", antialias=True)[0]
    return seen.flip(-1) if rng.random() < 0.5 else seen


def _session(course: Course, path: Path, output: Path) -> None:
    _take(None)
    samples = course.samples
    own = Session(
        recipe=course.recipe,
        samples=(samples,),
        run=digest(course.recipe, [Data.of(samples)]),
        output=str(output),
        cache_dir=str(course.cache),
    )
    noted = _Noted()

    def tell(news: Mapping[str, Any]) -> None:
        if "images_per_s" in news:
            noted.note(news["step"])

    run_session(own, Group(), tell=tell)
    noted.save(path)


def _pipeline(course: Course, path: Path, core: int, cache: Path, last: int) -> None:
    _take(core)
    noted = _Noted()
    with BatchLoader(course.recipe, [course.samples], folder=cache) as loader:
        noted.note(0)
        for batch in itertools.islice(loader.batches(), last):
            noted.note(batch.step + 1)
    noted.save(path)
