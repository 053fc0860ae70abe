"""One shard of a reconstruction: read, redact if asked, restore, write, measure.

Files are read, decoded, encoded and written by threads while the network runs. Every input gives
one row; only broken storage or a bug raises.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from redaction_core.checkpoints import load_model, shipped
from redaction_core.commits.layout import IMAGES, companion_key
from redaction_core.comparison import AGAINST_ORIGINAL
from redaction_core.errors import Failure, InputError, UsageError
from redaction_core.gate import Gate
from redaction_core.images import Pixels, decode, encode, gray_planes
from redaction_core.inference import (
    Restoration,
    Restorer,
    best_precision,
    is_out_of_memory,
    pixels_of,
    planes_of,
)
from redaction_core.loading import Task, Work, check_hidden, load
from redaction_core.measuring import interval_map, mean_scale, measure
from redaction_core.metrics import mean_signed_chroma
from redaction_core.redaction import Hiding, Pixelate, Redaction, redact
from redaction_core.schemas import METRICS
from redaction_core.stages import stage
from redaction_core.totals import Totals
from redaction_core.uncertainty import calibration_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redaction_core.plan import PlannedInput
    from redaction_core.storage import Store
    from redaction_core.uncertainty import Factors, Floats

UNCERTAINTY = "uncertainty"
"""Folder of the maps of how far results may be off."""
_OF_MAP = "Half width of each pixel's 90 % interval, in levels of 8 bits."

Precision = Literal["auto", "float32", "bfloat16"]
"""What the network computes in; auto: bfloat16 where the device gains from it."""

_WINDOW = 32
"""Inputs that are looked at together for batches of one size."""
_WINDOW_VALUES = 25_000_000
"""Pixel values of a window; twice as many are in memory at most, but for single larger images."""
_BATCH_VALUES = 16 * 224 * 224
_OWN = ("consistency_mae", "expected_mae", "interval_p90", "coverage_p90")
MEASURES = tuple(name for name in METRICS.names if name in (*AGAINST_ORIGINAL, *_OWN, "seconds"))
"""Columns of `schemas.METRICS` whose means a run reports."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Rows of `schemas.METRICS` in the order of the inputs, and what they add up to."""

    rows: list[dict[str, Any]]
    totals: Totals

    @property
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The rows, by the name of their table."""
        return {"metrics": self.rows}

    @property
    def failed(self) -> dict[str, str]:
        """Keys of the inputs without a result, and why."""
        return {row["key"]: row["failure"] for row in self.rows if row["failure"] is not None}


def open_reconstruction(
    gpu: bool,  # noqa: FBT001 - the one thing that workers differ in
    *,
    task: Task,
    precision: Precision,
    threads: int,
) -> Reconstruction:
    """Get ready on the GPU or on `threads` processor cores; raises as `open_restorer`."""
    return Reconstruction(task, open_restorer(task, gpu=gpu, precision=precision, threads=threads))


def open_restorer(task: Task, *, gpu: bool, precision: Precision, threads: int) -> Restorer:
    """Load the task's model onto the GPU or `threads` processor cores.

    Raises CheckpointError, StorageError, and UsageError where torch cannot use the GPU.
    """
    if gpu and not torch.cuda.is_available():
        raise UsageError(
            f"torch {torch.__version__} cannot use the GPU that a worker has: install its build "
            "for GPUs and their driver, or compute on processors with --gpus-per-worker 0"
        )
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    device = torch.device("cuda" if gpu else "cpu")
    kind = best_precision(device) if precision == "auto" else getattr(torch, precision)
    # Looked up here, not by the caller: another machine keeps the package in another place.
    loaded = load_model(task.model or shipped(task.network), expected=task.network)
    return Restorer(
        loaded,
        device=device,
        precision=kind,
        self_ensemble=task.self_ensemble,
        project=task.project,
    )


class _Chroma:
    """Signed chroma of the results of gray inputs; a tint shows in its sums."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.totals = Totals()

    def add(self, cb: float, cr: float) -> None:
        with self._lock:
            self.totals.put("gray_cb", cb)
            self.totals.put("gray_cr", cr)


class Reconstruction:
    """Runs shards of one task with one model."""

    def __init__(self, task: Task, restorer: Restorer) -> None:
        """Get ready."""
        self.task = task
        self.restorer = restorer
        self._calibration = calibration_of(restorer.model)

    def run(
        self, inputs: Sequence[PlannedInput], look: Callable[[Work, Pixels], None] | None = None
    ) -> Outcome:
        """Reconstruct every input; outputs that exist already are kept and measured as they are.

        `look` is shown every result with its work, in any order, by any thread.

        Raises StorageError when storage fails.
        """
        gate = Gate(2 * _WINDOW_VALUES)
        chroma = _Chroma()
        rows: list[dict[str, Any] | Future[dict[str, Any]]] = []
        task = self.task
        stores = (task.inputs, task.outputs, task.originals, task.masks)
        threads = max(torch.get_num_threads(), *(store.in_flight for store in stores if store))
        # Two pools: loads may all be waiting at the gate, which finishing opens.
        with ThreadPoolExecutor(threads) as loaders, ThreadPoolExecutor(threads) as finishers:

            def finish(work: Work, result: Restoration) -> dict[str, Any]:
                try:
                    with stage("measure"):
                        return self._finish(work, result, chroma, look)
                finally:
                    gate.release(work.cost)

            try:
                for window in self._windows(loaders, gate, inputs):
                    for work, result in self._restored(window):
                        if isinstance(result, Restoration):
                            rows.append(finishers.submit(finish, work, result))
                        else:
                            rows.append(work.failed(result))
                            gate.release(work.cost)
                done = [row if isinstance(row, dict) else row.result() for row in rows]
            except BaseException:
                # A failed shard must not write on; what it wrote is adopted by the next attempt.
                gate.open()
                loaders.shutdown(wait=False, cancel_futures=True)
                finishers.shutdown(wait=False, cancel_futures=True)
                raise
        place = {item.key: number for number, item in enumerate(inputs)}
        done.sort(key=lambda row: place[row["key"]])
        totals = Totals.of_rows(done, MEASURES)
        totals.add(chroma.totals)
        return Outcome(rows=done, totals=totals)

    def seconds_of_one(self) -> float:
        """Measure the network on one gray image of 224x224, warm."""
        image = torch.zeros(1, 224, 224, dtype=torch.uint8)
        hidden = torch.zeros(1, 224, 224, dtype=torch.bool)
        hidden[:, 96:128, 96:128] = True
        seconds = 0.0
        for _ in range(3):
            started = time.perf_counter()
            if self.restorer.fills_holes:
                self.restorer.fill([image], [hidden])
            else:
                self.restorer.enhance([image], self.task.blur or Pixelate(block=4))
            seconds = time.perf_counter() - started
        return seconds

    def failure(self, item: PlannedInput, error: InputError) -> Outcome:
        """Give the outcome of one input that could not even be tried."""
        row = self._started(Work(item=item)).failed(error)
        return Outcome(rows=[row], totals=Totals.of_rows([row], MEASURES))

    def _started(self, work: Work) -> Work:
        work.row["network"] = self.restorer.model.name
        work.row["model_sha256"] = self.restorer.model.sha256
        return work

    def _windows(
        self, loaders: ThreadPoolExecutor, gate: Gate, inputs: Sequence[PlannedInput]
    ) -> Iterator[list[Work]]:
        """Yield loaded inputs in order, some at a time, while the next ones are being read."""
        waiting: deque[Future[Work]] = deque()
        coming = enumerate(inputs)
        window: list[Work] = []
        while True:
            for turn, item in itertools.islice(coming, _WINDOW - len(waiting)):
                waiting.append(loaders.submit(load, self.task, item, gate, turn))
            if not waiting:
                break
            window.append(self._started(waiting.popleft().result()))
            if len(window) == _WINDOW or sum(work.cost for work in window) >= _WINDOW_VALUES:
                yield window
                window = []
        yield window

    def _restored(self, window: Sequence[Work]) -> Iterator[tuple[Work, Restoration | InputError]]:
        """Yield every work of a window with its estimate, or the reason why there is none."""
        kinds: dict[tuple[object, ...], list[Work]] = {}
        for work in window:
            if work.error is not None:
                yield work, work.error
            else:
                grid = (work.mosaic.above, work.mosaic.before) if work.mosaic else None
                kinds.setdefault((work.pixels.shape, work.how, grid), []).append(work)
        for works in kinds.values():
            size = max(1, _BATCH_VALUES // works[0].pixels.size)
            for start in range(0, len(works), size):
                yield from self._restore(works[start : start + size])

    def _restore(self, batch: Sequence[Work]) -> Iterator[tuple[Work, Restoration | InputError]]:
        started = time.perf_counter()
        results: Sequence[Restoration | InputError]
        try:
            with stage("network"):
                results = self._estimates(batch)
        except InputError as error:
            results = [error] * len(batch)
        except (MemoryError, RuntimeError) as error:
            results = [_no_memory(error, "redact")] * len(batch)
        seconds = (time.perf_counter() - started) / len(batch)
        for work, result in zip(batch, results, strict=True):
            work.seconds += seconds
            yield work, result

    def _estimates(self, batch: Sequence[Work]) -> Sequence[Restoration | InputError]:
        if self.task.redaction is not None:
            self._redact(self.task.redaction, batch)
        how = batch[0].how
        if how is None:
            return self._fill(batch)
        return self.restorer.enhance([_for_network(work) for work in batch], how)

    def _redact(self, redaction: Redaction, batch: Sequence[Work]) -> None:
        clean = torch.stack([planes_of(work.pixels) for work in batch])
        keys = [work.item.key for work in batch]
        redacted = redact(redaction, clean, keys, self.task.seed)
        for place, work in enumerate(batch):
            work.original = work.pixels
            work.pixels = pixels_of(redacted.images_u8[place])
            if redacted.hidden is not None:
                work.hidden = redacted.hidden[place, 0].numpy()

    def _fill(self, batch: Sequence[Work]) -> Sequence[Restoration | InputError]:
        hidden = [work.hidden for work in batch if work.hidden is not None]
        if isinstance(self.task.redaction, Hiding):
            # One size, one share: it hides all of every image, or of none.
            try:
                check_hidden(hidden[0])
            except InputError as error:
                return [error] * len(batch)
        images = [planes_of(work.pixels) for work in batch]
        return self.restorer.fill(images, [torch.from_numpy(mask)[None] for mask in hidden])

    def _finish(
        self,
        work: Work,
        restored: Restoration,
        chroma: _Chroma,
        look: Callable[[Work, Pixels], None] | None,
    ) -> dict[str, Any]:
        started = time.perf_counter()
        try:
            scale = None if restored.scale is None else restored.scale[0].numpy()
            result = pixels_of(restored.image)
            if work.mosaic is not None and not work.mosaic.plain:
                of_means = not self.task.nearest
                result = work.mosaic.from_network(result, work.pixels, of_means=of_means)
                scale = None if scale is None else work.mosaic.cut(scale, work.pixels)
            factors = self._factors(work, scale)
            if self.task.outputs is not None:
                result = self._write(work, result, self.task.outputs)
                if self.task.uncertainty and scale is not None and factors is not None:
                    drawn = encode(interval_map(scale, factors, work.counted), "png", _OF_MAP)
                    key = companion_key(UNCERTAINTY, work.item.output or "")
                    self.task.outputs.put_if_absent(key, drawn)
            if work.pixels.ndim == 2 or gray_planes(work.pixels):  # noqa: PLR2004 - HxW
                chroma.add(*mean_signed_chroma(result))
            measure(work, result, scale, factors)
            if look is not None:
                look(work, result)
        except InputError as error:
            return work.failed(error)
        except (MemoryError, RuntimeError, cv2.error) as error:
            return work.failed(_no_memory(error, "measure"))
        work.row |= {"status": "ok", "detail": "; ".join(work.notes) or None}
        work.row["seconds"] = work.seconds + time.perf_counter() - started
        return work.row

    def _factors(self, work: Work, scale: Floats | None) -> Factors | None:
        """Give what makes intervals of a scale; None where nothing does."""
        if scale is None or self._calibration is None:
            return None
        mean = mean_scale(scale, work.counted)
        # A network may overflow on an image like none that it has seen.
        if not 0 < mean < math.inf:
            return None
        return self._calibration.of(work.how or self.task.redaction, mean)

    def _write(self, work: Work, result: Pixels, outputs: Store) -> Pixels:
        """Write the image, and give its pixels as they can be read back."""
        written = data = encode(result, self.task.format, self.task.description)
        key = IMAGES + (work.item.output or "")
        try:
            if not outputs.put_if_absent(key, written):
                # An earlier attempt, perhaps on another kind of device: its image stands.
                data = outputs.read(key).data
            work.row["output_sha256"] = hashlib.sha256(data).hexdigest()
            if data == written and self.task.format != "jpeg":
                return result
            return as_written(decode(data, max_pixels=self.task.max_pixels).pixels, result)
        except InputError as error:
            detail = "the output exists, and is not an image of the right size"
            raise InputError(Failure.OUTPUT_CONFLICT, detail) from error


def _for_network(work: Work) -> Tensor:
    if work.mosaic is None or work.mosaic.plain:
        return planes_of(work.pixels)
    return planes_of(work.mosaic.for_network(work.pixels))


def as_written(pixels: Pixels, expected: Pixels) -> Pixels:
    """Bring pixels that were read back to the shape they had; raises InputError where they differ.

    WebP has no gray: such an image comes back in three equal planes.
    """
    if pixels.ndim > expected.ndim and gray_planes(pixels):
        pixels = np.ascontiguousarray(pixels[..., 0])
    if pixels.shape != expected.shape:
        raise InputError(Failure.OUTPUT_CONFLICT, "another size, or colour for gray")
    return pixels


def _no_memory(error: Exception, purpose: str) -> InputError:
    """Give the failure of one image; raises the error again when it is another one."""
    if not is_out_of_memory(error):
        raise error
    return InputError(Failure.OUT_OF_MEMORY, f"no memory to {purpose} it")
