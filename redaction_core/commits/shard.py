"""One shard, as the worker that does it sees it: inputs, attempts, the commit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import pyarrow as pa

from redaction_core.commits.layout import (
    ATTEMPTS,
    COMMITS,
    IMAGES,
    PLAN,
    attempt_number,
    companion_key,
    damaged,
    json_bytes,
    read_json,
)
from redaction_core.commits.parts import read_part
from redaction_core.errors import Failure, ObjectMissingError, StorageError
from redaction_core.plan import PlannedInput
from redaction_core.schemas import PLAN_PART
from redaction_core.storage import Store

_COMMIT_TRIES: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRef:
    """One shard: all that a worker needs to find its inputs and to commit it."""

    number: int  # counts on over rounds
    plan_id: str  # of its round
    part: str  # name of its part in plan/


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """What a finished shard left: names of its parts, planned outputs it did not write, totals."""

    shard: int
    parts: tuple[str, ...]  # keys, such as metrics/part-000000-0123456789abcdef.parquet
    unwritten: tuple[str, ...] = ()  # output names of inputs that failed
    conflicts: tuple[str, ...] = ()  # those of them under which what no run wrote may stand
    totals: Mapping[str, Any] = field(default_factory=dict)  # JSON: counts and sums of the shard

    def strays(self, companions: Sequence[str]) -> Iterator[str]:
        """Name images of inputs that failed: attempts that died or lost may have written them."""
        for output in self.unwritten:
            if output not in self.conflicts:
                yield IMAGES + output
                yield from (companion_key(folder, output) for folder in companions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """The mark of one begun attempt."""

    key: str
    number: int
    dead: tuple[str, ...] = ()
    """Marks of earlier attempts at the shard that neither committed nor failed in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BegunAttempt:
    """An attempt whose mark stands: it is under way, or died."""

    key: str
    plan_id: str
    shard: int
    number: int

    @property
    def commit_key(self) -> str:
        """Name the commit of its shard."""
        return _commit_key(self.plan_id, self.shard)


def read_shard(store: Store, shard: ShardRef) -> list[PlannedInput]:
    """Read the inputs of one shard, in the byte order of their keys."""
    key = PLAN + shard.part
    try:
        table = read_part(store.read(key).data).cast(PLAN_PART)
    except ObjectMissingError as error:
        raise StorageError(f"{key} is missing in {store.location}: use --overwrite") from error
    except (pa.ArrowException, ValueError, OSError) as error:
        raise damaged(store, key) from error
    return [_planned_input(row) for row in table.to_pylist()]


def begin_attempt(store: Store, shard: ShardRef, *, note: bytes = b"") -> Attempt:
    """Leave a mark, so that the death of this process is noticed by the next attempt.

    The note, such as where it is, is kept in the mark.
    """
    prefix = f"{ATTEMPTS}{shard.plan_id}-{shard.number:06d}-"
    found = (entry.key for entry in store.list(prefix, missing_ok=True))
    dead = {key: number for key in found if (number := attempt_number(key))}
    number = max(dead.values(), default=0) + 1
    # Another attempt may begin at this moment: each takes a number of its own.
    while not store.put_if_absent(f"{prefix}{number}", note):
        number += 1
    return Attempt(key=f"{prefix}{number}", number=number, dead=tuple(dead))


def begun_attempts(store: Store, plan_id: str) -> Iterator[BegunAttempt]:
    """List the marks of a round."""
    for entry in store.list(f"{ATTEMPTS}{plan_id}-", missing_ok=True):
        if number := attempt_number(entry.key):
            shard = int(entry.key.split("-")[-2])
            yield BegunAttempt(key=entry.key, plan_id=plan_id, shard=shard, number=number)


def end_attempt(store: Store, attempt: Attempt, *, committed: bool) -> None:
    """Take the mark back: this was no death. After a commit, none counts any more."""
    store.delete([attempt.key, *(attempt.dead if committed else ())])


def commit_meanwhile(store: Store, shard: ShardRef, attempt: Attempt) -> Commit | None:
    """Give the commit of another attempt, which was faster; None while there is none.

    Raises:
        StorageError: the run was removed, so that what this attempt writes would be of no run.
    """
    begun = store.exists(attempt.key)  # asked first: another's commit takes the mark away
    if (commit := read_commit(store, shard)) is None and not begun:
        raise StorageError(f"the run in {store.location} was removed meanwhile: run again")
    return commit


def commit_shard(
    store: Store, shard: ShardRef, commit: Commit, companions: Sequence[str] = ()
) -> Commit:
    """Mark a shard as done, whoever did it; return the commit that stands.

    Everything that the commit names is in storage before. What the one that stands does not name
    is removed then: our parts where it is another's, and its strays.
    """
    stands = _first_commit(store, shard, commit)
    store.delete([*sorted({*commit.parts} - {*stands.parts}), *stands.strays(companions)])
    return stands


def _first_commit(store: Store, shard: ShardRef, commit: Commit) -> Commit:
    data = json_bytes({"version": 1, **asdict(commit)})
    for _ in range(_COMMIT_TRIES):
        if store.put_if_absent(commit_key(shard), data):
            return commit
        # "It is there" may be the lost answer to our own write, or another's: what is read counts.
        if (found := read_commit(store, shard)) is not None:
            return found
    raise StorageError(f"shard {shard.number} cannot be committed in {store.location}: run again")


def read_commit(store: Store, shard: ShardRef) -> Commit | None:
    """Read the commit of a shard; None if it is not done."""
    try:
        found = read_json(store, commit_key(shard))
    except ObjectMissingError:
        return None
    try:
        return Commit(
            shard=found["shard"],
            parts=tuple(found["parts"]),
            unwritten=tuple(found["unwritten"]),
            # Without the field, any of them may be one.
            conflicts=tuple(found.get("conflicts", found["unwritten"])),
            totals=found["totals"],
        )
    except (KeyError, TypeError) as error:
        raise damaged(store, commit_key(shard)) from error


def _planned_input(row: Mapping[str, Any]) -> PlannedInput:
    failure = row["failure"]
    return PlannedInput(**{**row, "failure": Failure(failure) if failure else None})


def commit_key(shard: ShardRef) -> str:
    """Name the commit of a shard."""
    return _commit_key(shard.plan_id, shard.number)


def _commit_key(plan_id: str, number: int) -> str:
    return f"{COMMITS}{plan_id}-{number:06d}.json"
