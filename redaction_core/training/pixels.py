"""Rows of a data set to pixels: decoded once per machine, then read from files in a cache.

A file of the cache holds some rows, most often those of one part, and is named after what is in
it: their pixels one after another, uint8 (rows, side, side) or (rows, side, side, 3), then their
`image_id`s.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from redaction_core.commits.layout import sha16
from redaction_core.errors import InputError, ObjectMissingError, StorageError
from redaction_core.training.outbox import PATIENCE_S
from redaction_core.training.pngs import decode_pngs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redaction_core.images import Pixels
    from redaction_core.training.cache import FileCache
    from redaction_core.training.samples import Part, Rows, Samples

_ID_BYTES: Final = 32
_CHUNK_BYTES: Final = 2**22
_POLL_S: Final = 0.02
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0
_OPEN: Final = 48  # files; one that was removed takes up space as long as it is open


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How storage that fails is waited for."""

    seconds: float = PATIENCE_S
    say: Callable[[str], None] = lambda _: None
    """Told once, in one line, when waiting begins."""


class _Block(NamedTuple):
    """Pixels and names of the rows in one file."""

    pixels: Pixels
    ids: npt.NDArray[np.bytes_]


class SourcePixels:
    """Pixels of chosen rows of one data set. May be used by several threads at once."""

    def __init__(  # noqa: PLR0913 - most by name
        self,
        samples: Samples,
        rows: Rows,
        *,
        cache: FileCache,
        channels: int,
        together: bool = False,
        patience: Patience | None = None,
    ) -> None:
        """Take rows in the order of parts; `channels` (1 or 3) are what is asked for.

        Colour images are kept as their luma where one is asked for; gray ones always as one.
        `together`: all rows go to one file, as they are seldom looked at and few.
        """
        self.channels = min(channels, samples.channels)
        """Of what `images` gives."""
        self._samples = samples
        self._rows = rows
        self._cache = cache
        self._patience = patience or Patience()
        self._blocks_of = np.zeros_like(rows.parts) if together else rows.parts
        blocks = 1 if together else len(samples.parts)
        self._starts = np.searchsorted(self._blocks_of, np.arange(blocks + 1))
        self._names: dict[int, str] = {}
        self._open: OrderedDict[int, _Block] = OrderedDict()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._told = False

    @property
    def block_rows(self) -> tuple[int, ...]:
        """Rows in each file; those of all files are counted through."""
        return tuple(np.diff(self._starts).tolist())

    @property
    def block_bytes(self) -> int:
        """Bytes of the largest file."""
        return max(map(self._bytes, range(len(self._starts) - 1)))

    def close(self) -> None:
        """End waiting, also in other threads, which then raise StorageError."""
        self._stopped.set()

    def prepare(self, positions: npt.NDArray[np.int64]) -> None:
        """Decode what these rows need, but for what others are decoding; raises as `images`."""
        for number in np.unique(self._blocks_of[positions]).tolist():
            with self._lock:
                known = number in self._open
            if not known and self._cache.path(self._name(number)) is None:
                self._make(number)

    def images(self, positions: npt.NDArray[np.int64]) -> Iterator[tuple[Pixels, str]]:
        """Yield pixels, uint8 (side, side) or (side, side, 3), read-only, and image_id of rows.

        Raises:
            StorageError: a part is gone, was changed, or could not be read for too long; the
                cache has no room; or this was closed.
        """
        numbers = self._blocks_of[positions]
        blocks = self._blocks(np.unique(numbers).tolist())
        places = positions - self._starts[numbers]
        for number, place in zip(numbers.tolist(), places.tolist(), strict=True):
            block = blocks[number]
            yield block.pixels[place], block.ids[place].decode()

    def _blocks(self, numbers: Sequence[int]) -> dict[int, _Block]:
        found: dict[int, _Block] = {}
        while True:
            for number in numbers:
                if number not in found:
                    block = self._opened(number)
                    # Those that others are making come last: meanwhile we make the next.
                    if block is None and self._make(number):
                        block = self._opened(number)
                    if block is not None:
                        found[number] = block
            if len(found) == len(numbers):
                return found
            if self._stopped.wait(_POLL_S):
                raise StorageError("stopped while images were decoded")

    def _opened(self, number: int) -> _Block | None:
        """Open a file, or give the one that is open; None when it is not there (any more)."""
        with self._lock:
            path = self._cache.path(self._name(number))
            if path is None:
                self._open.pop(number, None)
                return None
            block = self._open.get(number)
            if block is None:
                try:
                    block = self._block(number, np.memmap(path, np.uint8, "r"))
                except FileNotFoundError:  # removed since we looked
                    return None
            self._open[number] = block
            self._open.move_to_end(number)
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
            return block

    def _block(self, number: int, data: npt.NDArray[np.uint8]) -> _Block:
        count = self._starts[number + 1] - self._starts[number]
        shape = self._shape(count)
        values = int(np.prod(shape))
        plain = data.view(np.ndarray)  # slices of a memmap take microseconds more
        return _Block(plain[:values].reshape(shape), plain[values:].view(f"S{_ID_BYTES}"))

    def _make(self, number: int) -> bool:
        """Decode the rows of one file; False while another does."""
        end, wait_s = 0.0, _FIRST_WAIT_S
        while True:
            try:
                made = self._cache.make(
                    self._name(number), self._bytes(number), lambda file: self._write(number, file)
                )
            except _UnreadError as error:
                now = time.monotonic()
                end = end or now + self._patience.seconds
                if now >= end:
                    raise error.reason from error
                if not self._told:
                    self._told = True
                    self._patience.say(
                        f"{error.reason}: waiting for it, {self._patience.seconds:g} s at most"
                    )
                if self._stopped.wait(min(wait_s, end - now)):
                    raise error.reason from error
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            else:
                if end:
                    self._told = False
                self._forget_removed()
                return made

    def _forget_removed(self) -> None:
        """Close files that had to make room: they take it up for as long as they are open."""
        with self._lock:
            for number in list(self._open):
                if not self._cache.has(self._name(number)):
                    del self._open[number]

    def _write(self, number: int, file: BinaryIO) -> None:
        chosen = slice(self._starts[number], self._starts[number + 1])
        parts, rows = self._rows.parts[chosen], self._rows.rows[chosen]
        ids: list[bytes] = []
        for part in np.unique(parts).tolist():
            ids += self._write_part(self._samples.parts[part], rows[parts == part], file)
        file.write(b"".join(ids))

    def _write_part(
        self, part: Part, rows: npt.NDArray[np.int32], file: BinaryIO
    ) -> Iterator[bytes]:
        """Write the pixels of some rows of a part; gives their names."""
        samples = self._samples
        chunk = max(1, _CHUNK_BYTES // (samples.side**2 * samples.channels))
        wanted = np.zeros(part.rows, bool)
        wanted[rows] = True
        start = 0
        try:
            # In this thread: see `commits.parts.read_part`.
            table = pq.ParquetFile(pa.BufferReader(self._read(part)), pre_buffer=False)
            columns = ["image.bytes", "image_id"]
            for batch in table.iter_batches(chunk, columns=columns, use_threads=False):
                among = np.flatnonzero(wanted[start : start + len(batch)])
                start += len(batch)
                if not len(among):
                    continue
                column = batch["image"].field("bytes")
                files = [memoryview(column[row].as_buffer()).cast("B") for row in among.tolist()]
                pixels = decode_pngs(files, samples.side, samples.channels)
                if self.channels < samples.channels:
                    pixels = np.stack([_luma(each) for each in pixels])
                file.write(pixels.data)
                yield from map(_short, batch["image_id"].take(pa.array(among)).to_pylist())
        # Damaged Parquet comes as any of these, and is no trouble of the cache.
        except (pa.ArrowException, InputError, LookupError, ValueError) as error:
            raise self._changed(part) from error

    def _read(self, part: Part) -> bytes:
        store = self._samples.store
        try:
            data = store.read(part.key).data
        except ObjectMissingError as error:
            raise StorageError(
                f"{part.key} is gone from {store.location}: the data set was changed or removed "
                "while it was trained on"
            ) from error
        except StorageError as error:
            raise _UnreadError(error) from error
        if not part.key.endswith(f"-{sha16(data)}.parquet"):
            raise self._changed(part)
        return data

    def _changed(self, part: Part) -> StorageError:
        return StorageError(
            f"{part.key} in {self._samples.store.location} is not what it was when it was written: "
            "restore it, or make the data set again"
        )

    def _name(self, number: int) -> str:
        if number not in self._names:
            chosen = slice(self._starts[number], self._starts[number + 1])
            parts, rows = self._rows.parts[chosen], self._rows.rows[chosen]
            keys = [self._samples.parts[part].key for part in np.unique(parts).tolist()]
            text = f"{keys} {self._samples.side} {self.channels} "
            counts = np.unique_counts(parts).counts
            content = text.encode() + counts.tobytes() + rows.tobytes()
            self._names[number] = hashlib.sha256(content).hexdigest()[:32]
        return self._names[number]

    def _bytes(self, number: int) -> int:
        count = int(self._starts[number + 1] - self._starts[number])
        return int(np.prod(self._shape(count))) + count * _ID_BYTES

    def _shape(self, count: int) -> tuple[int, ...]:
        side = self._samples.side
        return (count, side, side) if self.channels == 1 else (count, side, side, self.channels)


class _UnreadError(Exception):
    """Storage did not give a part, but may later."""

    def __init__(self, reason: StorageError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _luma(pixels: Pixels) -> Pixels:
    """Make gray as `Transform` does."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def _short(image_id: str) -> bytes:
    """Give a name of the one length there is: most often the image_id itself."""
    if len(image_id) == _ID_BYTES and image_id.isascii():
        return image_id.encode()
    return hashlib.sha256(image_id.encode()).hexdigest()[:_ID_BYTES].encode()
