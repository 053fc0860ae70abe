"""A database of one's own in a temporary file: sorts and joins that need not fit in memory."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import duckdb

from redaction_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY: Final = "128MB"


@contextmanager
def scratch_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB database that is removed at the end; it loads nothing from elsewhere.

    Raises:
        StorageError: the temporary folder is full or cannot be written, also later on.
    """
    try:
        with _opened() as database:
            yield database
    except (duckdb.Error, OSError) as error:
        reason = str(error).partition("\n")[0]
        where = tempfile.gettempdir()
        raise StorageError(
            f"cannot sort in {where}: {reason}; free some space there, or set TMPDIR"
        ) from error


@contextmanager
def _opened() -> Iterator[duckdb.DuckDBPyConnection]:
    with tempfile.TemporaryDirectory(prefix="redaction-scratch-") as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "temp_directory": folder,
            "threads": 1,  # each takes memory of its own
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        database = duckdb.connect(Path(folder, "scratch.duckdb"), config=config)
        try:
            # What is asked for in order says so; without this, inserts are kept in memory.
            database.execute("set preserve_insertion_order = false")
            yield database
        finally:
            database.close()
