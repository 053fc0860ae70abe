"""The whole run, as its driver sees it: rounds of inputs, what is left to do, the end."""

import heapq
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Final, TypeVar

import pyarrow as pa

from redaction_core.commits.layout import (
    ATTEMPTS,
    COMMITS,
    IMAGES,
    INFO,
    PLAN,
    PLAN_FILE,
    SUCCESS,
    attempt_number,
    committed_shard,
    json_bytes,
    read_json,
    sha16,
    shard_of_part,
)
from redaction_core.commits.parts import plan_part, read_part
from redaction_core.commits.rounds import ELSEWHERE, Layout, Round, read_round
from redaction_core.commits.shard import (
    Commit,
    ShardRef,
    begun_attempts,
    read_commit,
    read_shard,
)
from redaction_core.errors import Failure, ObjectMissingError, StorageError, UsageError
from redaction_core.plan import (
    Change,
    Changes,
    PlannedInput,
    changes,
    compare,
    differences,
    fingerprint,
)
from redaction_core.storage import Store

_READERS: Final = 16
_COMMITS_AHEAD: Final = 256
_PARTS_AHEAD: Final = 16
_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


class Run:
    """A run as its driver sees it. Several drivers may work on one run at once."""

    def __init__(
        self,
        store: Store,
        verb: str,
        config: Mapping[str, object],
        *,
        layout: Layout | None = None,
        replaces: bool = False,
    ) -> None:
        """Read the plan of this output, if there is one.

        `config` is what changes the bytes of the output, as JSON values, and nothing else. With
        `replaces`, a run has just been removed here: what is left in images/ is not ours, and an
        input whose output would stand there fails with OUTPUT_CONFLICT.

        Raises:
            UsageError: the output holds a run with another verb or config, or files but no run.
        """
        self.store = store
        self.verb = verb
        self.config = dict(config)
        self.layout = layout or Layout()
        self.rounds: list[Round] = []
        self._read_rounds()
        self._foreign: frozenset[str] = frozenset()
        if replaces:
            found = [entry.key for entry in store.list(IMAGES, missing_ok=True)]
            # On disk no file can be where a folder is.
            folders = (str(folder) for key in found for folder in PurePosixPath(key).parents)
            self._foreign = frozenset((*found, *folders))
        elif not self.rounds and (stands := self._in_the_way()):
            self._read_rounds()  # another driver may have planned since, and begun
            if not self.rounds:
                raise UsageError(f"{store.location} has {stands} but no plan.json: {ELSEWHERE}")

    @classmethod
    def read(cls, store: Store) -> "Run":
        """Read the run that an output holds, whatever it is.

        Raises:
            UsageError: there is none, or its plan is damaged.
        """
        first = read_round(store, 0)
        if first is None:
            raise UsageError(f"{store.location} holds no run: there is no {PLAN_FILE}")
        return cls(store, first.verb, first.config, layout=first.layout)

    @property
    def plan_ids(self) -> list[str]:
        """Identities of the rounds."""
        return [each.plan_id for each in self.rounds]

    @property
    def inputs(self) -> int:
        """Number of inputs, over all rounds; one that was tried again counts once."""
        return sum(each.inputs for each in self.rounds if not each.retries)

    @property
    def shard_count(self) -> int:
        """Number of shards, over all rounds."""
        return sum(len(each.parts) for each in self.rounds)

    @property
    def finished(self) -> bool:
        """Say whether `_SUCCESS` stands for exactly these rounds."""
        try:
            found = read_json(self.store, SUCCESS)
        except ObjectMissingError:
            return False
        return bool(self.rounds) and found.get("plans") == self.plan_ids

    def add_round(
        self,
        shards: Iterable[Sequence[PlannedInput]],
        *,
        shard_size: int,
        retries: bool = False,
    ) -> bool:
        """Plan these inputs: the first round, or one that extends the run; nothing if empty later.

        With `retries` they are inputs of earlier rounds that failed there, to be tried again.

        Streams. False: another driver planned this round first, with the same config; ours is
        dropped and theirs is the plan.

        Raises:
            UsageError: another driver planned this round with another config.
        """
        number = len(self.rounds)
        names: list[str] = []
        inputs = size = failures = 0

        def parts() -> Iterator[tuple[str, bytes]]:
            nonlocal inputs, size, failures
            for listed in shards:
                shard = self._unless_taken(listed)
                data = plan_part(shard)
                names.append(f"{self.shard_count + len(names):06d}-{sha16(data)}.parquet")
                inputs += len(shard)
                size += sum(item.size for item in shard)
                failures += sum(item.failure is not None for item in shard)
                yield PLAN + names[-1], data

        for _ in _ahead(lambda part: self.store.put_if_absent(*part), parts(), _PARTS_AHEAD):
            pass
        if number and not names:
            return True
        config_sha256 = fingerprint({"verb": self.verb, "config": self.config})
        plan = Round(
            verb=self.verb,
            config=self.config,
            config_sha256=config_sha256,
            plan_id=sha16(json.dumps([config_sha256, number, names]).encode()),
            round=number,
            first_shard=self.shard_count,
            inputs=inputs,
            bytes=size,
            failures=failures,
            parts=tuple(names),
            shard_size=shard_size,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            layout=self.layout,
            retries=retries,
        )
        if number:
            self.store.delete([SUCCESS])
        ours = self.store.put_if_absent(plan.key, json_bytes(asdict(plan)))
        self._read_rounds()
        return ours or self.rounds[number].plan_id == plan.plan_id

    def planned(self) -> Iterator[PlannedInput]:
        """Read all inputs of all rounds, in the byte order of their keys; streams part by part."""
        rounds = [each for each in self.rounds if not each.retries]
        ahead = max(1, _PARTS_AHEAD // max(1, len(rounds)))  # of each: all are read at once
        inputs = (self._round_inputs(each, ahead) for each in rounds)
        return heapq.merge(*inputs, key=lambda item: item.key.encode())

    def changes(self, now: Iterable[PlannedInput]) -> Changes:
        """Count what is new, changed and gone in a new plan of the same location; streams.

        `now` is `planned(listing, suffix, earlier=run.planned())`.
        """
        return changes(self.planned(), now)

    def new_inputs(self, now: Iterable[PlannedInput]) -> Iterator[PlannedInput]:
        """Keep the inputs that joined since the last plan; `now` as for `changes`."""
        return (item for change, item in compare(self.planned(), now) if change is Change.NEW)

    def shards(self) -> Iterator[ShardRef]:
        """Yield all shards of all rounds."""
        for each in self.rounds:
            yield from each.shards()

    def pending(self) -> Iterator[ShardRef]:
        """Yield the shards that have no commit yet; a byte a shard in memory."""
        for each in self.rounds:
            done = bytearray(len(each.parts))
            prefix = f"{COMMITS}{each.plan_id}-"
            for entry in self.store.list(prefix, missing_ok=True):
                place = committed_shard(entry.key) - each.first_shard
                if 0 <= place < len(done):
                    done[place] = True
            pairs = zip(each.shards(), done, strict=True)
            yield from (shard for shard, is_done in pairs if not is_done)

    def inputs_of(self, shards: Iterable[ShardRef]) -> int:
        """Count the inputs of some shards."""
        rounds = {each.plan_id: each for each in self.rounds}
        return sum(rounds[shard.plan_id].size_of(shard) for shard in shards)

    def commits(self) -> Iterator[Commit]:
        """Read the commits of all shards, in order; streams.

        Raises:
            StorageError: a shard has none: the run is not done.
        """
        read = partial(read_commit, self.store)
        for shard, commit in _ahead(read, self.shards(), _COMMITS_AHEAD):
            if commit is None:
                raise StorageError(f"shard {shard.number} is not done: run again")
            yield commit

    def parts(self, table: str) -> Iterator[tuple[str, pa.Table]]:
        """Read one table's parts of all shards, in order, with their keys; streams.

        Raises:
            StorageError: a shard has no commit.
        """
        keys = (key for commit in self.commits() for key in commit.parts)
        wanted = (key for key in keys if key.startswith(f"{table}/"))
        return _ahead(lambda key: read_part(self.store.read(key).data), wanted, _PARTS_AHEAD)

    def doubled(self) -> bool:
        """Say whether a finished run has parts too many: an attempt outlived its end.

        To finish once more puts that right.
        """
        counts = read_json(self.store, SUCCESS).get("parts", {})
        return any(
            sum(1 for _ in self._parts_there(table)) > count for table, count in counts.items()
        )

    def summary(self) -> dict[str, Any]:
        """Read the summary of a finished run."""
        return read_json(self.store, self.layout.summary)

    def finish(
        self,
        summary: Mapping[str, object],
        info: Mapping[str, object],
        *,
        parts: Collection[str] | None = None,
    ) -> None:
        """End a run whose shards are all committed; may be repeated.

        Removes attempts, and parts of committed shards that are not among `parts` (left out: those
        that the commits name, and what else attempts that died may have left is removed, too);
        writes the summary, run.json (info) and, last, `_SUCCESS`.

        Raises:
            StorageError: a shard has no commit, or another driver extended the run meanwhile.
        """
        named = parts
        if named is None:
            named = {key for commit in self.commits() for key in commit.parts}
        known = len(self.rounds)
        self._read_rounds()
        if len(self.rounds) != known:
            raise StorageError("another run extended this output meanwhile: run again")
        there = (key for table in self.layout.tables for key in self._parts_there(table))
        extra: Iterable[str] = (key for key in there if key not in named)
        if parts is None:
            extra = list(extra)  # few: attempts that died wrote them
            self.store.delete(self._strays(extra))
        self.store.delete(extra)
        attempts = self.store.list(ATTEMPTS, missing_ok=True)
        self.store.delete(entry.key for entry in attempts if attempt_number(entry.key))
        self.store.sweep()
        self.store.put(self.layout.summary, json_bytes(summary))
        self.store.put(INFO, json_bytes(info))
        counts = Counter(key.partition("/")[0] for key in named)
        counted = {table: counts[table] for table in self.layout.tables}
        self.store.put(SUCCESS, json_bytes({"plans": self.plan_ids, "parts": counted}))

    def _parts_there(self, table: str) -> Iterator[str]:
        """List the parts of a table that are of this run's shards."""
        keys = (entry.key for entry in self.store.list(f"{table}/", missing_ok=True))
        return (key for key in keys if shard_of_part(key) in range(self.shard_count))

    def _strays(self, parts: Iterable[str]) -> Iterator[str]:
        """Name what attempts may have left at images of inputs that failed; `parts` they did leave.

        Only of shards with a trace of one, a mark or a part: whatever stands under such a name
        elsewhere, as in a run that finished long ago, is somebody else's.
        """
        touched = {shard_of_part(key) for key in parts}
        for plan_id in self.plan_ids:
            touched |= {attempt.shard for attempt in begun_attempts(self.store, plan_id)}
        for shard in self.shards() if touched else ():
            if shard.number in touched and (commit := read_commit(self.store, shard)):
                yield from commit.strays(self.layout.companions)

    def _unless_taken(self, shard: Sequence[PlannedInput]) -> Sequence[PlannedInput]:
        """Fail inputs under whose output's name something stands before they are even planned."""
        if not self.rounds and not self._foreign:
            return shard
        keys = [f"{IMAGES}{item.output}" if item.output else None for item in shard]
        if self.rounds:
            with ThreadPoolExecutor(_READERS) as readers:
                taken = list(readers.map(lambda key: bool(key) and self.store.exists(key), keys))
        else:
            taken = [key in self._foreign for key in keys]
        detail = "another file, which no run wrote, stands under the output's name"
        conflict = partial(replace, output=None, failure=Failure.OUTPUT_CONFLICT, detail=detail)
        return [
            conflict(item) if item.output and stands else item
            for item, stands in zip(shard, taken, strict=True)
        ]

    def _read_rounds(self) -> None:
        while plan := read_round(self.store, len(self.rounds)):
            if not self.rounds:
                self._refuse_other(plan)
            self.rounds.append(plan)

    def _in_the_way(self) -> str | None:
        """Name what stands where this run will write, and is not of a run."""
        folders = (IMAGES.rstrip("/"), *self.layout.tables, *self.layout.companions)
        for folder in dict.fromkeys(folders):
            if self.store.any_of(f"{folder}/") is not None:
                return f"files in {folder}/"
        files = (self.layout.summary, INFO, SUCCESS, *self.layout.extras)
        return next((key for key in files if self.store.exists(key)), None)

    def _refuse_other(self, plan: Round) -> None:
        mine = {"verb": self.verb, **self.config}
        if changed := differences({"verb": plan.verb, **plan.config}, mine):
            raise UsageError(
                f"{self.store.location} holds a run with other settings ({'; '.join(changed)}): "
                "choose another output, or replace that run with --overwrite"
            )

    def _round_inputs(self, plan: Round, ahead: int) -> Iterator[PlannedInput]:
        for _, shard in _ahead(partial(read_shard, self.store), plan.shards(), ahead):
            yield from shard


def _ahead(
    ask: Callable[[_Item], _Found], items: Iterable[_Item], ahead: int
) -> Iterator[tuple[_Item, _Found]]:
    """Ask storage for several items at once, so many before they are needed; in order."""
    left = iter(items)
    with ThreadPoolExecutor(min(ahead, _READERS)) as readers:
        while some := list(islice(left, ahead)):
            yield from zip(some, readers.map(ask, some), strict=True)
