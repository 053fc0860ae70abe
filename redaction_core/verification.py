"""Whether an output is what its plan and commits say: every input one row, every byte as written.

Shard by shard, so that a cluster can look at many at once. Nothing is written.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from redaction_core.commits.layout import (
    IMAGES,
    INFO,
    PLAN,
    companion_key,
    sha16,
)
from redaction_core.commits.marking import marked_parts
from redaction_core.commits.parts import read_part
from redaction_core.commits.shard import commit_key, read_commit, read_shard
from redaction_core.errors import InputError, ObjectMissingError, UsageError
from redaction_core.images import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from redaction_core.commits import Commit, Run, ShardRef
    from redaction_core.plan import PlannedInput
    from redaction_core.storage import Store

METRICS: Final = "metrics"
"""The table with a row an input; other verbs have theirs in several."""
FAILURES: Final = "failures"
"""Written by the last pass of an ingest, a part a shard at most: no commit names them."""

_READERS: Final = 16
OPTIONAL: Final = "blind.html"
"""Written only where originals are known."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is not as it should be."""

    where: str
    """Key of a file below the output."""
    what: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was looked at, and what was found."""

    files: int = 0
    bytes: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    """By table."""
    problems: tuple[Problem, ...] = ()

    def __add__(self, other: Checked) -> Checked:
        """Give both together."""
        return Checked(
            files=self.files + other.files,
            bytes=self.bytes + other.bytes,
            rows=self.rows + other.rows,
            problems=self.problems + other.problems,
        )


@dataclass(frozen=True, kw_only=True)
class ShardCheck:
    """One shard to look at."""

    store: Store
    shard: ShardRef
    tables: tuple[str, ...]
    companions: tuple[str, ...] = ()


def checks_of(run: Run) -> Iterator[ShardCheck]:
    """Yield what is to be looked at, for `check_shard`."""
    for shard in run.shards():
        layout = run.layout
        yield ShardCheck(
            store=run.store, shard=shard, tables=layout.tables, companions=layout.companions
        )


def check_shard(check: ShardCheck) -> Checked:
    """Look at one shard: plan, commit, parts, rows, and the images that rows name.

    Raises StorageError when storage fails.
    """
    look = _Look(check.store)
    key = PLAN + check.shard.part
    if look.read(key, sha16_in_name=True) is None:
        return look.found()
    try:
        inputs = read_shard(check.store, check.shard)
        commit = read_commit(check.store, check.shard)
    except UsageError as error:
        return look.found(key, str(error))
    if commit is None:
        return look.found(commit_key(check.shard), "is missing: this shard is not done")
    for table in check.tables:
        _check_table(look, check, commit, table, inputs)
    return look.found()


def check_whole(run: Run, checked: Checked) -> Checked:
    """Look at what no shard has of its own: the end, foreign parts, and how many rows there are."""
    look = _Look(run.store)
    ours = {f"{number:06d}" for number in range(run.shard_count)}
    for table in run.layout.tables:
        for entry in run.store.list(f"{table}/", missing_ok=True):
            number = entry.key.removeprefix(f"{table}/part-").partition("-")[0]
            if number not in ours:
                look.add(entry.key, "is of no shard of this run: readers of the table see it")
    if not run.finished:
        look.add("_SUCCESS", "is missing: the same command again finishes the run")
        return look.found()
    for key in (INFO, *(each for each in run.layout.extras if each != OPTIONAL)):
        look.read(key, sha16_in_name=False)
    try:
        told = run.summary()
    except (ObjectMissingError, UsageError):
        return look.found(run.layout.summary, "is missing, or cannot be read")
    rows = checked.rows[METRICS] if METRICS in run.layout.tables else None
    if told.get("inputs") != run.inputs:
        what = f"speaks of {told.get('inputs')} inputs, the plan of {run.inputs}"
        look.add(run.layout.summary, what)
    if rows is not None and rows != run.inputs:
        look.add(f"{METRICS}/", f"{rows} rows for {run.inputs} inputs")
    failed = checked.rows[FAILURES] if FAILURES in run.layout.tables else None
    if failed is not None and failed != told.get("failed"):
        look.add(f"{FAILURES}/", f"{failed} rows for {told.get('failed')} failed inputs")
    return look.found()


class _Look:
    """Reads files, and notes what is wrong with them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows: Counter[str] = Counter()
        self._files = self._bytes = 0
        self._lock = Lock()
        self._problems: list[Problem] = []

    def add(self, where: str, what: str) -> None:
        self._problems.append(Problem(where=where, what=what))

    def found(self, *problem: str) -> Checked:
        """Sum up, with one more problem: where, and what."""
        if problem:
            self.add(*problem)
        return Checked(
            files=self._files, bytes=self._bytes, rows=self.rows, problems=tuple(self._problems)
        )

    def read(self, key: str, *, sha16_in_name: bool) -> bytes | None:
        """Read a file whose name may end in its hash; None where there is none, or another."""
        try:
            data = self.store.read(key).data
        except ObjectMissingError:
            self.add(key, "is missing")
            return None
        with self._lock:
            self._files += 1
            self._bytes += len(data)
        if sha16_in_name and sha16(data) != key.rpartition("-")[2].partition(".")[0]:
            self.add(key, "was changed: its content is not what its name says")
            return None
        return data


def _check_table(
    look: _Look, check: ShardCheck, commit: Commit, table: str, inputs: Sequence[PlannedInput]
) -> None:
    prefix = f"{table}/part-{check.shard.number:06d}-"
    committed = {part for part in commit.parts if part.startswith(f"{table}/")}
    there = {entry.key for entry in check.store.list(prefix, missing_ok=True)}
    if table == FAILURES:
        expected = {min(there)} if there else set()
    else:
        marked = partial(marked_parts, check.store, check.shard.plan_id, check.shard.number, table)
        expected = committed if committed <= there else marked() & there or committed
    for key in sorted(there - expected):
        look.add(key, "is one part too many: its rows come twice until the same command runs again")
    rows: list[dict[str, Any]] = []
    for key in sorted(expected):
        data = look.read(key, sha16_in_name=True)
        if data is None:
            return
        try:
            part = read_part(data)
        except (pa.ArrowException, OSError, ValueError):
            look.add(key, "cannot be read as Parquet")
            return
        look.rows[table] += part.num_rows
        if table == METRICS:
            rows += part.select(["key", "status", "output_sha256"]).to_pylist()
    if table == METRICS:
        _check_rows(look, min(expected, default=prefix), inputs, rows, check.companions)


def _check_rows(
    look: _Look,
    part: str,
    inputs: Sequence[PlannedInput],
    rows: Iterable[dict[str, Any]],
    companions: Sequence[str],
) -> None:
    by_key = {item.key: item for item in inputs}
    counts: Counter[str] = Counter()
    images: list[tuple[str, str | None]] = []
    for row in rows:
        counts[row["key"]] += 1
        item = by_key.get(row["key"])
        if item is not None and row["status"] == "ok" and counts[row["key"]] == 1:
            images.append((f"{IMAGES}{item.output}", row["output_sha256"]))
            images += [(companion_key(each, item.output or ""), None) for each in companions]
    for key in by_key.keys() - counts.keys():
        look.add(part, f"has no row for {key}")
    for key, count in counts.items():
        if key not in by_key:
            look.add(part, f"has a row for {key}, which is no input of this shard")
        elif count > 1:
            look.add(part, f"has {count} rows for {key}")
    with ThreadPoolExecutor(_READERS) as readers:
        list(readers.map(partial(_check_image, look), images))


def _check_image(look: _Look, image: tuple[str, str | None]) -> None:
    key, digest = image
    data = look.read(key, sha16_in_name=False)
    if data is None:
        return
    if digest is None:
        # No row has its hash; PNG has sums of its own.
        try:
            decode(data, max_pixels=2**31)
        except InputError:
            look.add(key, "cannot be read as an image")
    elif hashlib.sha256(data).hexdigest() != digest:
        look.add(key, "was changed: its content is not what its row says")
