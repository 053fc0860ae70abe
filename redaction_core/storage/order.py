"""Put a listing of any length into the byte order of its keys, in bounded memory."""

import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import IO, Final

from redaction_core.errors import Failure
from redaction_core.storage.store import Entry

_RUN: Final = 100_000  # entries, some 40 MB


def in_key_order(entries: Iterable[Entry], run: int = _RUN) -> Iterator[Entry]:
    """Sort by UTF-8 keys: runs of so many entries, spilled to temporary files and merged.

    Needed because only general-purpose buckets of AWS promise this order: others list a folder
    before what sorts between its name and its slash.
    """
    left = iter(entries)
    with ExitStack() as files:
        spilled: list[IO[str]] = []
        while True:
            part = sorted(islice(left, run), key=_order)
            if len(part) < run:
                break
            file = files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
            file.writelines(_line(entry) for entry in part)
            file.seek(0)
            spilled.append(file)
        yield from heapq.merge(*(map(_entry, file) for file in spilled), part, key=_order)


def _order(entry: Entry) -> bytes:
    return entry.key.encode()


def _line(entry: Entry) -> str:
    return json.dumps([entry.key, entry.size, entry.version, entry.problem, entry.detail]) + "\n"


def _entry(line: str) -> Entry:
    key, size, version, problem, detail = json.loads(line)
    problem = Failure(problem) if problem else None
    return Entry(key=key, size=size, version=version, problem=problem, detail=detail)
