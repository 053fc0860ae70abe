"""The images of a data set that ingest wrote, row by row, as if each were a file.

A row's key is its part, its place there and its `image_id`: `part-000012/000034-<image_id>.png`.
So keys come in the order of parts and rows, and tell which row of the data set they are.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate, islice
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from redaction_core.commits.layout import (
    IMAGES,
    PLAN_FILE,
    SUCCESS,
    read_json,
    shard_of_part,
)
from redaction_core.errors import (
    Failure,
    InputError,
    ObjectMissingError,
    StorageError,
    UsageError,
)
from redaction_core.storage import Blob, Entry, Store, open_store

SUMMARY: Final = "dataset.json"
_NAME: Final = "image.path"
_DATA: Final = "image.bytes"
_READERS: Final = 8
_READ_AHEAD: Final = 64  # parts
_KEPT: Final = 3  # row groups: a shard of inputs seldom meets more


class Inputs(Protocol):
    """What reading images takes of a `Store`: its members are as there."""

    @property
    def location(self) -> str:
        """See `Store.location`."""

    @property
    def in_flight(self) -> int:
        """See `Store.in_flight`."""

    def list(self) -> Iterator[Entry]:
        """See `Store.list`."""

    def read(self, key: str, *, max_bytes: int | None = None) -> Blob:
        """See `Store.read`."""


def open_inputs(location: str) -> Inputs:
    """Open a folder of images, or a data set that ingest wrote.

    Raises:
        UsageError: as `open_store`, there is nothing, or a data set that is not finished.
        StorageError: as `open_store`, or storage fails.
    """
    store = open_store(location)
    store.check(to_read=True)
    if store.exists(SUMMARY) and store.exists(SUCCESS):
        return DataSetImages(store)
    if _is_ingests(store):
        raise UsageError(
            f"{store.location} is no finished data set (it has no {SUCCESS}): "
            "run jobs.ingest again to its end"
        )
    return store


def _is_ingests(store: Store) -> bool:
    try:
        return store.exists(PLAN_FILE) and read_json(store, PLAN_FILE).get("verb") == "ingest"
    except UsageError:  # a file of that name, but no plan
        return False


class DataSetImages:
    """Reads the images of a finished data set; safe to share between threads."""

    in_flight = 2
    """Rows come by the group: more threads would wait for each other."""

    def __init__(self, store: Store) -> None:
        """Take the store of the data set."""
        self.location = store.location
        self._store = store
        self._lock = threading.Lock()
        self._parts: dict[str, tuple[str, tuple[int, ...]]] = {}
        """Key of each part, and the first row of each of its groups, by the folder of its keys."""
        self._groups: OrderedDict[tuple[str, int], list[bytes]] = OrderedDict()

    def __reduce__(self) -> tuple[object, tuple[Store]]:
        """Pickle by location, without what is kept in memory."""
        return DataSetImages, (self._store,)

    def list(self) -> Iterator[Entry]:
        """Yield every image, in the order of keys; its size is the mean of its row group.

        Raises:
            UsageError: a part is damaged.
            StorageError: storage fails.
        """
        keys = (each.key for each in self._store.list(IMAGES) if shard_of_part(each.key) >= 0)
        with ThreadPoolExecutor(_READERS) as readers:
            while some := list(islice(keys, _READ_AHEAD)):
                for entries in readers.map(self._entries, some):
                    yield from entries

    def read(self, key: str, *, max_bytes: int | None = None) -> Blob:
        """Read the image of one row.

        Raises:
            ObjectMissingError: there is no such row.
            InputError: UNREADABLE (its part is damaged), or TOO_MANY_BYTES.
            StorageError: storage fails.
        """
        folder, _, name = key.partition("/")
        row = int(name.partition("-")[0])
        with self._lock:
            part, starts = self._part(folder)
            group = bisect_right(starts, row) - 1
            data = self._group(part, group)[row - starts[group]]
        if max_bytes is not None and len(data) > max_bytes:
            detail = f"{len(data)} bytes are more than the limit of {max_bytes}"
            raise InputError(Failure.TOO_MANY_BYTES, detail)
        return Blob(data=data, version=_version(part))

    def _entries(self, key: str) -> Sequence[Entry]:
        try:
            with self._opened(key) as part:
                # In this thread: see `commits.parts.read_part`.
                rows = part.read([_NAME], use_threads=False)["image"].to_pylist()
                sizes = [size for group in _groups(part) for size in group]
        except InputError as error:
            raise UsageError(f"{error.detail}: make the data set again") from error
        return [
            Entry(key=f"{_folder(key)}/{place:06d}-{row['path']}", size=size, version=_version(key))
            for place, (row, size) in enumerate(zip(rows, sizes, strict=True))
        ]

    def _part(self, folder: str) -> tuple[str, tuple[int, ...]]:
        if folder not in self._parts:
            prefix = f"{IMAGES}{folder}-"
            found = self._store.any_of(prefix)
            if found is None:
                raise ObjectMissingError(f"no part {prefix} in {self.location}")
            with self._opened(found.key) as part:
                starts = (0, *accumulate(len(group) for group in _groups(part)))
            self._parts[folder] = found.key, starts
        return self._parts[folder]

    def _group(self, part: str, number: int) -> Sequence[bytes]:
        """Read a row group, or take it from the last few."""
        if (part, number) not in self._groups:
            with self._opened(part) as file:
                table = file.read_row_group(number, [_DATA], use_threads=False)
                self._groups[part, number] = [row["bytes"] for row in table["image"].to_pylist()]
        self._groups.move_to_end((part, number))
        while len(self._groups) > _KEPT:
            self._groups.popitem(last=False)
        return self._groups[part, number]

    @contextmanager
    def _opened(self, key: str) -> Iterator[pq.ParquetFile]:
        try:
            with self._store.open(key) as file, pq.ParquetFile(file, pre_buffer=False) as part:
                yield part
        except (StorageError, InputError):
            raise
        # Damaged Parquet comes as any of these.
        except (pa.ArrowException, LookupError, OSError, TypeError, ValueError) as error:
            detail = f"{key} in {self.location} is damaged"
            raise InputError(Failure.UNREADABLE, detail) from error


def _groups(part: pq.ParquetFile) -> Iterator[list[int]]:
    """Give the sizes of the images of each row group, as far as they are known without reading."""
    metadata = part.metadata
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(column) for column in range(group.num_columns)]
        (data,) = (each for each in columns if each.path_in_schema == _DATA)
        yield [data.total_compressed_size // max(1, group.num_rows)] * group.num_rows


def _folder(part: str) -> str:
    """Name the folder of the keys of a part: `images/part-000012-HASH.parquet`, `part-000012`."""
    return part.removeprefix(IMAGES).rpartition("-")[0]


def _version(part: str) -> str:
    """Take the hash of a part's bytes from its name."""
    return part.rpartition("-")[2].removesuffix(".parquet")
