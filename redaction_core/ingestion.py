"""One shard of a data set: fetch or read, check, normalise; a row of images or of the ledger."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2

from redaction_core import schemas
from redaction_core.errors import Failure, InputError
from redaction_core.images import (
    Normalised,
    Transform,
    difference_hash,
    encode,
    normalise,
    normalise_pixels,
    refuse_small,
)
from redaction_core.sources import Content, Details
from redaction_core.stages import stage
from redaction_core.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from redaction_core.plan import PlannedInput
    from redaction_core.sources import Source
    from redaction_core.splits import Splits

IMAGES = "images"
LEDGER = "ledger"
"""Every attempt that failed, over all rounds; what is public is made of it at the end."""
CONTENTS = "contents"

_CONTENT_DIGITS = 32
_HALF = 2**63


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to do with every input."""

    source: Source
    transform: Transform
    splits: Splits

    @cached_property
    def tables(self) -> dict[str, pa.Schema]:
        """What a shard writes."""
        images = schemas.dataset(self.source.columns, labels=self.source.labels)
        return {IMAGES: images, LEDGER: schemas.FAILURES, CONTENTS: schemas.CONTENTS}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Rows by table, in the order of the inputs; every input is in `images` or in `ledger`."""

    tables: dict[str, list[dict[str, Any]]]
    failed: dict[str, str]
    totals: Totals


@dataclass(kw_only=True)
class _Rows:
    """What becomes of one input."""

    image: dict[str, Any] | None = None
    content: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None


def open_ingestion(gpu: bool, *, task: Task) -> Ingestion:  # noqa: FBT001, ARG001 - as every verb
    """Get ready in a worker."""
    # Several shards are at work in threads of their own.
    cv2.setNumThreads(1)
    return Ingestion(task)


class Ingestion:
    """Runs shards of one task. `run` may be called from several threads."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._reader = task.source.open()
        # Threads that all decode at once only take the processor from each other.
        self._turn = threading.Lock()

    def close(self) -> None:
        """Let go of connections and open files."""
        self._reader.close()

    def run(self, inputs: Sequence[PlannedInput]) -> Outcome:
        """Make a row of every input.

        Raises StorageError when storage fails.
        """
        found: dict[str, _Rows] = {}
        received = 0
        contents = self._reader.contents(inputs)
        while True:
            with stage("read"):
                content = next(contents, None)
            if content is None:
                break
            received += content.received
            with self._turn, stage("normalise"):
                found[content.item.key] = self._rows(content)
        outcome = self._outcome([(item, found[item.key]) for item in inputs])
        outcome.totals.bytes = received
        return outcome

    def failure(self, item: PlannedInput, error: InputError) -> Outcome:
        """Give the outcome of one input that could not even be tried."""
        return self._outcome([(item, self._failed(Content(item=item, error=error), error))])

    def seconds_of_one(self) -> float:
        """Measure the processor time of one input, without its source."""
        import numpy as np

        data = encode(np.zeros((350, 350), np.uint8), "jpeg")
        seconds = 0.0
        for _ in range(3):
            started = time.perf_counter()
            encode(normalise(data, self._task.transform).pixels, "png")
            seconds = time.perf_counter() - started
        return seconds

    def _rows(self, content: Content) -> _Rows:
        started = time.perf_counter()
        if content.error is not None:
            return self._failed(content, content.error)
        try:
            normalised = self._normalised(content)
            return self._done(content, normalised, encode(normalised.pixels, "png"))
        except InputError as error:
            return self._failed(content, error, time.perf_counter() - started)
        except MemoryError:
            no_memory = InputError(Failure.OUT_OF_MEMORY, "no memory to decode it")
            return self._failed(content, no_memory, time.perf_counter() - started)

    def _normalised(self, content: Content) -> Normalised:
        if content.pixels is not None:
            height, width = content.pixels.shape[:2]
            refuse_small(width, height, self._task.transform)
            pixels = normalise_pixels(content.pixels, self._task.transform)
            return Normalised(pixels=pixels, source_width=width, source_height=height)
        return normalise(content.data, self._task.transform)

    def _done(self, content: Content, normalised: Normalised, png: bytes) -> _Rows:
        details = Details.of(content.item)
        image_id = details.image_id or content.item.key
        pixels = hashlib.sha256(normalised.pixels.data).hexdigest()[:_CONTENT_DIGITS]
        group = self._task.splits.group(details.name, details.columns)
        unit = pixels if group is None else hashlib.sha256(group.encode()).hexdigest()
        split = details.split or self._task.splits.split(unit)
        image = {
            "image": {"bytes": png, "path": f"{image_id}.png"},
            "image_id": image_id,
            "url": details.name,
            "source_sha256": hashlib.sha256(content.data).hexdigest(),
            "source_width": normalised.source_width,
            "source_height": normalised.source_height,
            "split": split,
            "duplicate_of": None,
            **details.columns,
        }
        if self._task.source.labels:
            image["label"] = details.label
        row = {
            "image_id": image_id,
            "content": pixels,
            "unit": unit,
            "split": split,
            "fixed": details.split is not None,
            # Signed, as databases have no other.
            "difference_hash": difference_hash(normalised.pixels) - _HALF,
        }
        return _Rows(image=image, content=row)

    def _failed(self, content: Content, error: InputError, seconds: float = 0.0) -> _Rows:
        details = Details.of(content.item)
        row = {
            "image_id": details.image_id or content.item.key,
            "url": details.name,
            "failure": str(error.failure),
            "detail": error.detail,
            "http_status": content.http_status,
            "attempts": content.attempts,
            "bytes": content.received,
            "seconds": content.seconds + seconds,
        }
        return _Rows(failure=row)

    def _outcome(self, found: Sequence[tuple[PlannedInput, _Rows]]) -> Outcome:
        images = [rows.image for _, rows in found if rows.image is not None]
        contents = [rows.content for _, rows in found if rows.content is not None]
        failures = [rows.failure for _, rows in found if rows.failure is not None]
        totals = Totals.of_rows([{"failure": None}] * len(images), ())
        totals.add(Totals.of_rows(failures, ()))
        return Outcome(
            tables={IMAGES: images, LEDGER: failures, CONTENTS: contents},
            failed={
                item.key: rows.failure["failure"]
                for item, rows in found
                if rows.failure is not None
            },
            totals=totals,
        )
