"""Rows of a list or an archive with their ids, in a database on disk, as they may be many.

SQLite, as rows may be wide: it sorts narrow keys and fetches the rows one by one.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

from redaction_core.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ID_DIGITS = 32
_SETTINGS = """
    pragma journal_mode = off;
    pragma synchronous = off;
    pragma locking_mode = exclusive;
    create table rows (number integer primary key, digest blob, name text, payload text);
    create table ids (number integer primary key, image_id text);
"""
_ROWS = "select image_id, name, payload, number from ids join rows using (number)"


class Row(NamedTuple):
    """One row, with its id."""

    image_id: str
    name: str
    payload: str
    """What was added with it."""
    number: int
    """Its place among all rows."""


class RowIndex:
    """Rows by name: added first, then read in order or by id."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    @contextmanager
    def of(cls, rows: Iterable[tuple[str, str]]) -> Iterator[Self]:
        """Index rows of a name and a payload each, until the context ends.

        Raises:
            StorageError: the temporary folder is full, or cannot be written.
        """
        with scratch_folder(sqlite3.Error) as folder:
            # Read by other threads than the one that filled it, in turn.
            database = sqlite3.connect(
                folder / "rows.sqlite", isolation_level=None, check_same_thread=False
            )
            with closing(database):
                index = cls(database)
                index._fill(rows)
                yield index

    def by_id(self) -> Iterator[Row]:
        """Read all rows in the order of their ids."""
        return self._read(f"{_ROWS} order by image_id")

    def in_place(self) -> Iterator[Row]:
        """Read all rows in the order in which they were added."""
        return self._read(f"{_ROWS} order by number")

    def find(self, image_id: str) -> Row | None:
        """Read one row."""
        return next(self._read(f"{_ROWS} where image_id = ?", image_id), None)

    def _fill(self, rows: Iterable[tuple[str, str]]) -> None:
        database = self._database
        database.executescript(_SETTINGS)
        database.execute("begin")
        database.executemany(
            "insert into rows (digest, name, payload) values (?, ?, ?)",
            ((hashlib.sha256(name.encode()).digest(), name, more) for name, more in rows),
        )
        database.execute("create index by_digest on rows (digest)")
        database.executemany("insert into ids values (?, ?)", self._ids())
        database.execute("create index by_id on ids (image_id)")
        database.execute("commit")

    def _ids(self) -> Iterator[tuple[int, str]]:
        """Count the rows of each name, and make ids of that."""
        before, repeat = b"", 0
        query = "select number, digest, name from rows order by digest, number"
        found = self._database.execute(query)
        for number, digest, name in found:
            repeat = repeat + 1 if digest == before else 0
            before = digest
            yield number, image_id(name, repeat)

    def _read(self, query: str, *values: str) -> Iterator[Row]:
        return map(Row._make, self._database.execute(query, values))


def image_id(name: str, repeat: int = 0) -> str:
    """Name an image by its URL or key, and its place among repeats: 128 bits of SHA-256, in hex."""
    return hashlib.sha256(f"{name}\n{repeat}".encode()).hexdigest()[:_ID_DIGITS]
