"""What a data set that ingest wrote has to train and to validate on; images stay where they are."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redaction_core.commits.layout import IMAGES, SUCCESS, shard_of_part
from redaction_core.data_set_images import SUMMARY
from redaction_core.errors import InputError, ObjectMissingError, StorageError, UsageError
from redaction_core.storage import Store, open_store
from redaction_core.training.order import CHOICE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_COLUMNS: Final = ["split", "duplicate_of", "source_sha256"]
_READERS: Final = 8
_READ_AHEAD: Final = 64  # parts
_TOGETHER: Final = 16  # rows
_CHANNELS: Final = {"gray": 1, "rgb": 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One Parquet file of images; its name holds a hash of its bytes."""

    key: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows of a data set, in the order of parts and rows."""

    parts: npt.NDArray[np.int32]
    """Number of the part of each row."""
    rows: npt.NDArray[np.int32]
    """Place of each row in its part."""
    sources: npt.NDArray[np.uint64]
    """First bytes of the hash of each row's source file."""

    def __getitem__(self, chosen: npt.NDArray[Any]) -> Rows:
        """Give some of them, by number or by whether they are chosen."""
        return Rows(parts=self.parts[chosen], rows=self.rows[chosen], sources=self.sources[chosen])

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.parts)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The index of one finished data set: which rows of which parts are seen. May be pickled."""

    store: Store
    parts: tuple[Part, ...]
    train: Rows
    """Rows of the split `train`; those that repeat the content of another are left out."""
    val: Rows
    """The same, of the split `val`."""
    side: int
    """Pixels a side of every image."""
    channels: int
    """1 (gray) or 3 (RGB)."""
    transform: Mapping[str, Any]
    """What made images of sources, as `dataset.json` has it."""

    @property
    def fingerprint(self) -> str:
        """Hash of what the data set is, wherever it lies: names of parts hold their contents'."""
        found = [self.side, self.channels, [(part.key, part.rows) for part in self.parts]]
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def read_samples(location: str) -> Samples:
    """Read which rows of a data set there are to train on; reads no images.

    Raises:
        UsageError: there is no finished data set, its files are damaged, or it has nothing to
            train on.
        StorageError: storage fails.
    """
    store = open_store(location)
    side, channels, transform, count = _summary(store)
    keys = (entry.key for entry in store.list(IMAGES) if shard_of_part(entry.key) >= 0)
    parts: list[Part] = []
    found: dict[str, list[Rows]] = {"train": [], "val": []}
    with ThreadPoolExecutor(_READERS) as readers:
        while some := list(islice(keys, _READ_AHEAD)):
            for key, table in zip(some, readers.map(lambda key: _read(store, key), some)):  # noqa: B905
                for split, rows in found.items():
                    rows.append(_rows_of(store, key, table, split, len(parts)))
                parts.append(Part(key=key, rows=len(table)))
    if (there := sum(part.rows for part in parts)) != count:
        raise UsageError(
            f"{store.location} has {there} images, and says that it has {count}: "
            "make the data set again"
        )
    samples = Samples(
        store=store,
        parts=tuple(parts),
        train=_rows(found["train"]),
        val=_rows(found["val"]),
        side=side,
        channels=channels,
        transform=transform,
    )
    if not len(samples.train):
        raise UsageError(f"{store.location} has no images to train on (none in the split 'train')")
    return samples


def read_all(locations: Iterable[str]) -> tuple[Samples, ...]:
    """Read the indexes of several data sets that are learnt from together, as `read_samples`.

    What is made of a file that any of them trains on is validated on in none: a data set keeps its
    own splits apart, but knows nothing of another one's.
    """
    found = [read_samples(location) for location in locations]
    learnt = np.concatenate([np.empty(0, np.uint64), *(each.train.sources for each in found)])
    return tuple(replace(each, val=each.val[~np.isin(each.val.sources, learnt)]) for each in found)


def some_rows(rows: Rows, count: int, seed: int) -> Rows:
    """Choose up to `count` rows of many parts, but not one of each, as parts are read whole."""
    rng = np.random.default_rng((CHOICE, seed))
    turns = rng.permutation(int(rows.parts.max(initial=-1)) + 1)[rows.parts]
    place_in_part = np.arange(len(rows)) - np.searchsorted(rows.parts, rows.parts)
    # The first 16 of every part in turn, then the next 16.
    chosen = np.sort(np.lexsort((turns, place_in_part // _TOGETHER))[:count])
    return rows[chosen]


def _summary(store: Store) -> tuple[int, int, Mapping[str, Any], int]:
    """Give pixels a side, channels, transform and images, as the data set says itself."""
    try:
        if not store.exists(SUCCESS):
            store.check(to_read=True)
            raise UsageError(
                f"{store.location} is no finished data set (it has no {SUCCESS}): "
                "make one with jobs.ingest, or run that again to its end"
            )
        summary = json.loads(store.read(SUMMARY).data)
        transform, count = summary["transform"], int(summary["ok"])
        side, channels = transform["size"], _CHANNELS[transform["color"]]
    except ObjectMissingError as error:
        raise UsageError(
            f"{store.location} is no data set that jobs.ingest wrote: it has no {SUMMARY}"
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        raise _damaged(store, SUMMARY) from error
    if not isinstance(side, int) or side < 1:
        raise _damaged(store, SUMMARY)
    return side, channels, transform, count


def _read(store: Store, key: str) -> pa.Table:
    try:
        with store.open(key) as file, pq.ParquetFile(file, pre_buffer=False) as part:
            # In this thread: see `commits.parts.read_part`.
            return part.read(_COLUMNS, use_threads=False).select(_COLUMNS)
    except StorageError:
        raise
    # Damaged Parquet comes as any of these.
    except (pa.ArrowException, InputError, KeyError, OSError, ValueError) as error:
        raise _damaged(store, key) from error


def _rows_of(store: Store, key: str, table: pa.Table, split: str, part: int) -> Rows:
    """Give the rows of one part that are of a split."""
    try:
        used = np.flatnonzero(_usable(table, split)).astype(np.int32)
        sources = _sources(table, used)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise _damaged(store, key) from error
    return Rows(parts=np.full(len(used), part, np.int32), rows=used, sources=sources)


def _usable(table: pa.Table, split: str) -> npt.NDArray[np.bool_]:
    chosen = pc.and_(pc.equal(table["split"], split), pc.is_null(table["duplicate_of"]))
    return np.asarray(pc.fill_null(chosen, fill_value=False).to_numpy(), bool)


def _sources(table: pa.Table, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.uint64]:
    hashes = table["source_sha256"].take(pa.array(rows)).to_pylist()
    return np.array([int(found[:16], 16) for found in hashes], np.uint64)


def _rows(found: list[Rows]) -> Rows:
    none = np.empty(0, np.int32)
    return Rows(
        parts=np.concatenate([none, *(each.parts for each in found)]),
        rows=np.concatenate([none, *(each.rows for each in found)]),
        sources=np.concatenate([none.astype(np.uint64), *(each.sources for each in found)]),
    )


def _damaged(store: Store, key: str) -> UsageError:
    return UsageError(f"{key} in {store.location} is damaged: make the data set again")
