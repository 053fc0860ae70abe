"""Temporary folders for what need not fit in memory, and a database in one."""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import duckdb

from redaction_core.storage.order import no_room_to_sort

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY: Final = "128MB"


@contextmanager
def scratch_folder(failure: type[Exception]) -> Iterator[Path]:
    """Make a folder that is removed at the end, for a database that raises `failure`.

    Raises:
        StorageError: the folder is full or cannot be made.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="redaction-scratch-")
    except OSError as error:
        raise no_room_to_sort(error) from error
    with folder as name:
        try:
            yield Path(name)
        except failure as error:
            raise no_room_to_sort(error) from error


@contextmanager
def scratch_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB database that is removed at the end; it loads nothing from elsewhere.

    Raises:
        StorageError: the temporary folder is full or cannot be written, also later on.
    """
    with scratch_folder(duckdb.Error) as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "temp_directory": str(folder),
            "threads": 1,  # each takes memory of its own
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with closing(duckdb.connect(folder / "scratch.duckdb", config=config)) as database:
            # What is asked for in order says so; without this, inserts are kept in memory.
            database.execute("set preserve_insertion_order = false")
            yield database
