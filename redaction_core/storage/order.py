"""Put a listing of any length into the byte order of its keys, in bounded memory."""

import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from operator import attrgetter
from typing import IO, Final

from redaction_core.errors import Failure, StorageError
from redaction_core.storage.store import Entry

_RUN: Final = 100_000  # entries, some 40 MB
_FILES: Final = 64  # open at once, of each size
_AT_A_TIME: Final = 100  # entries, read and written
_key: Final = attrgetter("key")


def in_key_order(entries: Iterable[Entry], run: int = _RUN) -> Iterator[Entry]:
    """Sort by UTF-8 keys: runs of so many entries, spilled to temporary files and merged.

    Needed because most servers list a folder before what sorts between its name and its slash; and
    those that list names in order know nothing of the escapes that we show some of them with.

    Raises StorageError where the temporary folder has no room for it.
    """
    left = iter(entries)
    with ExitStack() as files:
        levels: list[list[IO[str]]] = [[]]
        while True:
            part = sorted(islice(left, run), key=_key)
            if len(part) < run:
                break
            levels[0].append(files.enter_context(_spilled(part)))
            for level, spilled in enumerate(levels):
                if len(spilled) < _FILES:
                    break
                if level + 1 == len(levels):
                    levels.append([])
                levels[level + 1].append(files.enter_context(_spilled(_merged(spilled))))
                for file in spilled:
                    file.close()
                spilled.clear()
        # What was found last lies in the lowest level, and stays behind what is equal to it.
        yield from heapq.merge(*map(_merged, reversed(levels)), part, key=_key)


def no_room_to_sort(error: Exception) -> StorageError:
    """Say that the temporary folder is full, or cannot be written."""
    reason = str(error).partition("\n")[0]
    where = tempfile.gettempdir()
    return StorageError(f"cannot sort in {where}: {reason}; free some space there, or set TMPDIR")


def _spilled(entries: Iterable[Entry]) -> IO[str]:
    try:
        file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise no_room_to_sort(error) from error
    try:
        left = iter(entries)
        while some := list(islice(left, _AT_A_TIME)):
            file.write(_line(some))
        file.seek(0)
    except OSError as error:
        with suppress(OSError):  # it tries once more to write what is left
            file.close()
        raise no_room_to_sort(error) from error
    return file


def _merged(files: Iterable[IO[str]]) -> Iterator[Entry]:
    return heapq.merge(*map(_entries, files), key=_key)


def _line(entries: Iterable[Entry]) -> str:
    rows = [(each.key, each.size, each.version, each.problem, each.detail) for each in entries]
    return json.dumps(rows) + "\n"


def _entries(file: IO[str]) -> Iterator[Entry]:
    for line in file:
        for key, size, version, problem, detail in json.loads(line):
            failure = Failure(problem) if problem else None
            yield Entry(key=key, size=size, version=version, problem=failure, detail=detail)
