"""What a worker is trained and validated on: its slices of global batches that are always the same.

All that is random in a batch is drawn for the whole of it, from the seed and its step alone, and
then cut into slices: so no sample depends on how many workers there are.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from redaction_core.errors import StorageError, UsageError
from redaction_core.mixture import RedactionMixture, ScaleMixture
from redaction_core.models import FILLS_HOLES
from redaction_core.redaction import Hiding, Redaction, hidden_pixels
from redaction_core.training.ahead import ahead
from redaction_core.training.cache import FileCache, own_folder
from redaction_core.training.crops import Crops
from redaction_core.training.order import DRAWS, VALIDATION, WINDOW, Order, Plan, slice_of
from redaction_core.training.outbox import PATIENCE_S
from redaction_core.training.pixels import Patience, SourcePixels
from redaction_core.training.samples import some_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from redaction_core.training.recipe import Recipe
    from redaction_core.training.samples import Samples

_READY: Final = 4
"""Batches that are kept ready."""
_WINDOW_BYTES: Final = 2**32
"""Parts that take turns are fewer than `WINDOW` where so many would be larger than this."""
_PARTS_AHEAD: Final = 2
_STEPS_AHEAD: Final = 8
_POLL_S: Final = 0.05
_GIB: Final = 2**30


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's slice of a global batch."""

    step: int
    """Of training, over all epochs, from 0; of validation: the number of the batch."""
    images_u8: Tensor
    """uint8 (n, C, side, side), on the CPU, contiguous; n may be 0."""
    keys: list[str]
    """One an image: random holes derive from it."""
    how: Redaction
    """What to do to all of them."""
    hidden: Tensor | None
    """Where that hides pixels: bool (n, 1, side, side), on the CPU."""
    total: int
    """Samples of the global batch, over all workers."""


class BatchLoader:
    """Gives one worker its batches, from any step on. To be closed."""

    def __init__(  # noqa: PLR0913 - all by name
        self,
        recipe: Recipe,
        samples: Sequence[Samples],
        *,
        rank: int = 0,
        world: int = 1,
        folder: Path | None = None,
        cache_bytes: int | None = None,
        patience_s: float = PATIENCE_S,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Get ready; `samples` are those of `recipe.sources`, in their order.

        `folder` holds decoded images and may be shared by all processes of this machine (left
        out: one of this user's below the temporary folder); it takes up to `cache_bytes` (left
        out: half of what is free). `say` is told once, in one line, when storage has to be waited
        for; that ends after `patience_s`.

        Raises:
            UsageError: the mixtures are not understood, or the parts that take turns do not fit in
                the cache.
            StorageError: the cache's folder cannot be made.
        """
        self._recipe = recipe
        self._rank, self._world = rank, world
        self._redactions = RedactionMixture.parse(recipe.redactions)
        self._scales = ScaleMixture.parse(recipe.scales)
        self._fills = recipe.network in FILLS_HOLES
        self._sides = [each.side for each in samples]
        cache = FileCache(folder or own_folder(), cache_bytes)
        opened = partial(
            SourcePixels,
            cache=cache,
            channels=self._channels,
            patience=Patience(seconds=patience_s, say=say),
        )
        self._train = [opened(each, each.train) for each in samples]
        chosen = [some_rows(each.val, recipe.val_images, recipe.seed) for each in samples]
        self._val = [
            opened(each, rows, together=True) for each, rows in zip(samples, chosen, strict=True)
        ]
        self._val_rows = [len(rows) for rows in chosen]
        orders = [
            Order(
                part_rows=pixels.block_rows,
                batch_size=recipe.batch_size,
                repeats=source.repeats,
                window=_window(each),
                seed=recipe.seed,
                source=number,
            )
            for number, (source, each, pixels) in enumerate(
                zip(recipe.sources, samples, self._train, strict=True)
            )
        ]
        self._plan = Plan(orders, epochs=recipe.epochs, seed=recipe.seed)
        self.steps_per_epoch = self._plan.steps_per_epoch
        self.steps = self._plan.steps
        """Of all epochs."""
        self._steps_ahead = max(
            _STEPS_AHEAD,
            _PARTS_AHEAD
            * max(map(max, (order.part_rows for order in orders)))
            // recipe.batch_size,
        )
        self._check_room(cache, orders)

    def batches(self, first_step: int = 0) -> Iterator[Batch]:
        """Yield this worker's slice of every batch from a step on, to the end of the last epoch.

        Raises:
            StorageError: a part is gone, was changed, or could not be read for too long, or the
                cache has no room.
        """
        stopped = threading.Event()
        reached = [first_step]
        threading.Thread(
            target=self._prepare, args=(reached, stopped), name="prepare", daemon=True
        ).start()
        batches = ahead(map(self._batch, range(first_step, self.steps)), _READY)
        try:
            for batch in batches:
                reached[0] = batch.step
                yield batch
        finally:
            stopped.set()
            batches.close()

    def validation(self) -> Iterator[Batch]:
        """Yield this worker's slices of the validation batches, the same ones whenever asked for.

        Up to `recipe.val_images` images of the split `val` of each source, which come with each of
        the recipe's redactions, ranges at their middle. Nothing where no source has that split.

        Raises:
            StorageError: as `batches`.
        """
        return ahead(self._validation(), _READY)

    def close(self) -> None:
        """Stop what runs in the background."""
        for pixels in (*self._train, *self._val):
            pixels.close()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what runs in the background."""
        self.close()

    @property
    def _channels(self) -> int:
        return 3 if self._fills else 1

    def _batch(self, step: int) -> Batch:
        planned = self._plan.step(step)
        rng = np.random.default_rng((DRAWS, self._recipe.seed, step))
        how = self._redactions.draw(rng)
        mine, crops = self._drawn(rng, planned.source, len(planned.positions))
        images, ids = self._images(
            self._train[planned.source], planned.source, planned.positions[mine], crops[mine]
        )
        # Random holes lie elsewhere whenever an image comes again.
        keys = [
            f"{name} {planned.epoch} {repeat}"
            for name, repeat in zip(ids, planned.repeats[mine].tolist(), strict=True)
        ]
        return self._made(step, images, keys, how, len(planned.positions))

    def _made(
        self, step: int, images: Tensor, keys: list[str], how: Redaction, total: int
    ) -> Batch:
        hidden = None
        if isinstance(how, Hiding):
            hidden = hidden_pixels(how, images.shape, keys, self._recipe.seed)
        return Batch(step=step, images_u8=images, keys=keys, how=how, hidden=hidden, total=total)

    def _validation(self) -> Iterator[Batch]:
        number = 0
        size = self._recipe.batch_size
        # Two texts of one redaction would count its images twice.
        for how in dict.fromkeys(self._redactions.fixed):
            for source, rows in enumerate(self._val_rows):
                for start in range(0, rows, size):
                    positions = np.arange(start, min(start + size, rows))
                    # The same crops for every redaction, so that these can be compared.
                    rng = np.random.default_rng((VALIDATION, self._recipe.seed, source, start))
                    mine, crops = self._drawn(rng, source, len(positions))
                    images, ids = self._images(
                        self._val[source], source, positions[mine], crops[mine]
                    )
                    yield self._made(number, images, ids, how, len(positions))
                    number += 1

    def _drawn(self, rng: np.random.Generator, source: int, total: int) -> tuple[slice, Crops]:
        """Draw crops for a global batch, and say which of its samples are ours."""
        side = self._sides[source]
        crops = Crops.draw(
            rng,
            self._scales.draw(rng, total),
            side=side,
            crop=min(self._recipe.crop, side),
            on_grid=self._fills,
            gray_share=self._recipe.gray_share,
        )
        return slice_of(total, self._rank, self._world), crops

    def _images(
        self, pixels: SourcePixels, source: int, positions: npt.NDArray[np.int64], crops: Crops
    ) -> tuple[Tensor, list[str]]:
        crop = min(self._recipe.crop, self._sides[source])
        images = np.empty((len(positions), self._channels, crop, crop), np.uint8)
        ids = []
        for number, (image, name) in enumerate(pixels.images(positions)):
            crops.cut(number, image, images[number])
            ids.append(name)
        return torch.from_numpy(images), ids

    def _prepare(self, reached: Sequence[int], stopped: threading.Event) -> None:
        """Decode what the steps to come need, while those before them are trained on."""
        for step in range(reached[0], self.steps):
            while step > reached[0] + self._steps_ahead:
                if stopped.wait(_POLL_S):
                    return
            planned = self._plan.step(step)
            mine = slice_of(len(planned.positions), self._rank, self._world)
            try:
                self._train[planned.source].prepare(planned.positions[mine])
            except StorageError:
                return  # whoever needs the part raises it in its place
            if stopped.is_set():
                return

    def _check_room(self, cache: FileCache, orders: Sequence[Order]) -> None:
        """Refuse a cache in which parts would be decoded again and again."""
        coming = self._steps_ahead * self._recipe.batch_size
        needed = 0
        for order, train, val, rows in zip(
            orders, self._train, self._val, self._val_rows, strict=True
        ):
            parts = len(order.part_rows)
            ahead_of = -(-coming * parts // max(1, sum(order.part_rows)))
            needed += min(parts, order.window + ahead_of + 1) * train.block_bytes
            needed += val.block_bytes if rows else 0
        if needed > cache.max_bytes:
            raise UsageError(
                f"decoded images need {needed / _GIB:.3g} GiB in {cache.folder} at a time, and may "
                f"have {cache.max_bytes / _GIB:.3g}: give more --cache-gib, free some space there, "
                "or name another --cache-dir"
            )


def _window(samples: Samples) -> int:
    """Give the number of parts that take turns: it changes the order, so data alone decide."""
    largest = max(part.rows for part in samples.parts) * samples.side**2 * samples.channels
    return max(2, min(WINDOW, _WINDOW_BYTES // largest))
