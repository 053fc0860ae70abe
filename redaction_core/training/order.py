"""In which order samples are seen: from the seed and the epoch alone, whoever sees them.

Two levels: parts are put in a random order, and the rows of each are spread over a window of that
order, so that at any time the rows of no more than `window` parts take turns. (MosaicML's
streaming spreads samples in the same way, `shuffle/py1e.py`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

WINDOW: Final = 16
"""Parts of a data set that take turns, unless theirs are large."""

# First numbers of the seeds of everything that is random in training: no two streams are one.
_ORDER, _TURNS = 1, 2
DRAWS, VALIDATION, CHOICE = 3, 4, 5


@dataclass(frozen=True, kw_only=True)
class Order:
    """How the samples of one data set are put in order, in any epoch."""

    part_rows: tuple[int, ...]
    """Samples of each part; a sample's position counts through all parts."""
    batch_size: int
    repeats: int = 1
    """How often an epoch has each sample."""
    window: int = WINDOW
    seed: int = 0
    source: int = 0
    """Number of the data set: others with as many parts come in another order."""

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return sum(self.part_rows) * self.repeats

    @property
    def batches(self) -> int:
        """Batches of an epoch; the last one may be smaller, and nothing is left out."""
        return -(-self.samples // self.batch_size)

    def epoch(self, epoch: int) -> EpochOrder:
        """Put one epoch in order."""
        passes = [self._pass(epoch, number) for number in range(self.repeats)]
        return EpochOrder(positions=np.concatenate(passes), order=self)

    def _pass(self, epoch: int, number: int) -> npt.NDArray[np.int32]:
        rng = np.random.default_rng((_ORDER, self.seed, self.source, epoch, number))
        parts = len(self.part_rows)
        places = np.empty(parts)
        places[rng.permutation(parts)] = np.arange(parts) + 0.5
        low = np.maximum(places - self.window / 2, 0)
        high = np.minimum(places + self.window / 2, parts)
        of_row = np.repeat(np.arange(parts), self.part_rows)
        spread = low[of_row] + rng.random(len(of_row)) * (high - low)[of_row]
        return np.argsort(spread, kind="stable").astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class EpochOrder:
    """One epoch of one data set."""

    positions: npt.NDArray[np.int32]
    order: Order

    def rows(self, batch: int) -> Positions:
        """Give the positions of the samples of one batch, int64 (n,)."""
        start = batch * self.order.batch_size
        return self.positions[start : start + self.order.batch_size].astype(np.int64)

    def repeats(self, batch: int) -> Positions:
        """Give, for each sample of a batch, how often the epoch has had it before, int64 (n,)."""
        start = batch * self.order.batch_size
        stop = min(start + self.order.batch_size, len(self.positions))
        return np.arange(start, stop) // sum(self.order.part_rows)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What one step sees, over all workers."""

    step: int
    epoch: int
    source: int
    """Number of the data set that all its samples are of."""
    positions: Positions
    """Of the samples in it, int64 (n,)."""
    repeats: Positions
    """How often the epoch has had each before, int64 (n,)."""


class Plan:
    """Which samples every step sees: batches of all data sets, which take turns at random."""

    def __init__(self, orders: Sequence[Order], *, epochs: int, seed: int) -> None:
        self._orders = tuple(orders)
        self._seed = seed
        self.steps_per_epoch = sum(order.batches for order in orders)
        self.steps = self.steps_per_epoch * epochs
        # Two, as whoever looks ahead is in the next epoch before the other has left the last.
        self._epoch = lru_cache(maxsize=2)(self._arranged)

    def step(self, step: int) -> Planned:
        """Say what a step sees, 0 <= step < steps; any one costs as much."""
        if not 0 <= step < self.steps:
            raise IndexError(step)
        epoch, place = divmod(step, self.steps_per_epoch)
        orders, sources, batches = self._epoch(epoch)
        source, batch = int(sources[place]), int(batches[place])
        return Planned(
            step=step,
            epoch=epoch,
            source=source,
            positions=orders[source].rows(batch),
            repeats=orders[source].repeats(batch),
        )

    def _arranged(self, epoch: int) -> tuple[list[EpochOrder], Positions, Positions]:
        """Give the orders of one epoch, and data set and batch of each of its steps."""
        counts = [order.batches for order in self._orders]
        sources = np.repeat(np.arange(len(counts)), counts)
        sources = np.random.default_rng((_TURNS, self._seed, epoch)).permutation(sources)
        batches = np.empty_like(sources)
        for number, count in enumerate(counts):
            batches[sources == number] = np.arange(count)
        return [order.epoch(epoch) for order in self._orders], sources, batches


def slice_of(total: int, rank: int, world: int) -> slice:
    """Give one worker's share of the `total` samples of a step; shares differ by one at most."""
    return slice(rank * total // world, (rank + 1) * total // world)
