"""Shards over a Ray cluster: the one way in which every verb runs its plan.

A row of the Ray Data pipeline is a shard: its name goes in, what its commit says comes out. Images
never pass through Ray. Whatever kills a worker or the driver, storage holds what is done.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayActorError

from jobs._cluster import joins_a_cluster
from jobs._command import say
from redaction_core.commits import (
    IMAGES,
    Commit,
    ShardRef,
    begin_attempt,
    commit_shard,
    end_attempt,
    part_bytes,
    part_key,
    read_commit,
    read_shard,
)
from redaction_core.commits.layout import companion_key
from redaction_core.errors import (
    CheckpointError,
    Failure,
    InputError,
    RedactionCoreError,
    StorageError,
    UsageError,
)
from redaction_core.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from jobs._verb import Outcome, Verb, Work
    from redaction_core.plan import PlannedInput

DEATHS = 3
"""After so many attempts at a shard that ended in death, a process of its own runs it."""
_QUEUE = 4
"""With so many shards for each worker, the next one is queued with it."""
_TASK_RETRIES = 3  # where a machine is lost

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Pool:
    """How many workers, and what each of them takes of the cluster."""

    workers: int
    cpus: float
    gpus: float


def size_pool(workers: int | None, cpus: float, gpus: float | None) -> Pool:
    """Fill in what was left open from what the cluster has. Raises UsageError for too much."""
    has = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    if gpus is None:
        gpus = 1.0 if has.get("GPU", 0) else 0.0
    room = int(has.get("CPU", 0) / cpus)
    if gpus:
        # A worker's fraction is of one GPU, not of two.
        room = min(room, int(has.get("GPU", 0) / max(gpus, 1)) * max(1, int(1 / gpus)))
    if room < 1:
        what = f"no worker of {cpus:g} CPUs and {gpus:g} GPUs fits into"
        if not joins_a_cluster():
            raise UsageError(f"{what} this machine: ask for less")
        if workers is None:
            raise UsageError(
                f"{what} the cluster: ask for less, or name --workers to wait for it to grow"
            )
        say(f"{what} the cluster yet: waiting for it to grow")
    return Pool(workers=workers or room, cpus=cpus, gpus=gpus)


def run_shards(verb: Verb, pool: Pool, shards: Sequence[ShardRef]) -> Iterator[Totals]:
    """Run shards on the cluster; yields the totals of each as it is committed.

    Raises what a worker raised on purpose, as StorageError, UsageError or CheckpointError.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [asdict(shard) for shard in shards]
    # No more than a worker's share of them: the first to start would take what is another's.
    at_once = min(verb.at_once, math.ceil(len(rows) / pool.workers))
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        ShardWorker,
        fn_constructor_args=(verb, pool),
        batch_size=1,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        compute=ray.data.ActorPoolStrategy(
            size=min(pool.workers, len(rows)),
            # A worker waits a tenth of a second for what comes next, if nothing is queued with
            # it; of a few shards, a queue at one worker would leave the others idle at the end.
            max_tasks_in_flight_per_actor=at_once + (len(rows) >= _QUEUE * at_once * pool.workers),
            max_concurrent_calls_per_actor=at_once,
            enable_true_multi_threading=at_once > 1,
        ),
    )
    kinds = {kind.__name__: kind for kind in (StorageError, UsageError, CheckpointError)}
    for row in done.iter_rows():
        if row["error"] is not None:
            raise kinds.get(row["error_kind"], StorageError)(row["error"])
        yield Totals.of_json(json.loads(row["totals"]))


def map_tasks(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Call a function of an importable module with each item on the cluster; in any order.

    As many at once as the cluster has processors, each with one. Raises what the function raised
    on purpose.
    """
    task: Any = ray.remote(max_retries=_TASK_RETRIES)(_caught)
    room = max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
    running: list[Any] = []
    left = iter(items)
    while True:
        running += (task.remote(function, item) for item in islice(left, room - len(running)))
        if not running:
            return
        (done, *_), running = ray.wait(running)
        result = ray.get(done)
        if isinstance(result, RedactionCoreError):
            raise result
        yield result


def _caught(function: Callable[[_Item], _Result], item: _Item) -> _Result | RedactionCoreError:
    """Return an error that was raised on purpose: Ray would make a stack trace of it."""
    try:
        return function(item)
    except RedactionCoreError as error:
        return error


class ShardWorker:
    """A worker of the pool: one shard a call, from its name to its commit."""

    def __init__(self, verb: Verb, pool: Pool) -> None:
        self._verb = verb
        self._pool = pool
        self._work: Work | None = None
        self._opening = threading.Lock()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Do one shard; an error of storage comes back as a row, not as a stack trace."""
        (row,) = batch.to_pylist()
        try:
            commit = self._do(ShardRef(**row))
        except RedactionCoreError as error:
            return _answer(error=str(error), error_kind=type(error).__name__)
        return _answer(totals=json.dumps(commit.totals))

    def _do(self, shard: ShardRef) -> Commit:
        store = self._verb.output
        if (there := read_commit(store, shard)) is not None:
            return there
        work = self._open()
        attempt = begin_attempt(store, shard)
        try:
            inputs = read_shard(store, shard)
            apart = attempt.deaths >= DEATHS
            outcomes = self._apart(inputs) if apart else [work.run(inputs)]
            written = self._write(shard, inputs, outcomes)
            commit = commit_shard(store, shard, written)
            if commit == written:
                # An attempt that died may have written what failed in the end.
                store.delete(_strays(inputs, outcomes, self._verb.companions))
        finally:
            # Only death leaves the mark; where storage is gone, one mark too many is harmless.
            with contextlib.suppress(StorageError):
                end_attempt(store, attempt)
        return commit

    def _open(self) -> Work:
        with self._opening:
            if self._work is None:
                if 0 < self._pool.gpus < 1:
                    from redaction_core.inference import share_gpu

                    share_gpu(self._pool.gpus)
                self._work = self._verb.open_work(self._pool.gpus > 0)
            return self._work

    def _write(
        self, shard: ShardRef, inputs: Sequence[PlannedInput], outcomes: Sequence[Outcome]
    ) -> Commit:
        totals = Totals()
        failed: dict[str, str] = {}
        for outcome in outcomes:
            totals.add(outcome.totals)
            failed |= outcome.failed
        parts = []
        for table, schema in self._verb.tables.items():
            rows = [row for outcome in outcomes for row in outcome.tables.get(table, ())]
            if rows:
                data = part_bytes(rows, schema)
                parts.append(part_key(table, shard.number, data))
                self._verb.output.put_if_absent(parts[-1], data)
        unwritten = (item.output for item in inputs if item.key in failed and item.output)
        return Commit(
            shard=shard.number,
            parts=tuple(parts),
            unwritten=tuple(unwritten),
            totals=totals.to_json(),
        )

    def _apart(self, inputs: Sequence[PlannedInput]) -> list[Outcome]:
        """Run a deadly shard in another process; an input that kills it becomes a row."""
        assert self._work is not None  # noqa: S101 - opened by the caller
        # Takes nothing of the cluster, as its parent waits meanwhile; Ray must not revive it.
        start: Any = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(_Apart)
        with contextlib.suppress(RayActorError):
            # As a whole: it may have died of kills alone, and batches of one round differently.
            return [_result(start.remote(self._verb.open_work), inputs)]
        apart = None
        outcomes: list[Outcome] = []
        for item in inputs:
            apart = apart or start.remote(self._verb.open_work)
            try:
                outcomes.append(_result(apart, [item]))
            except RayActorError:
                apart = None
                detail = "the process that worked on it died"
                error = InputError(Failure.WORKER_CRASH, detail)
                outcomes.append(self._work.failure(item, error))
        return outcomes


def _strays(
    inputs: Sequence[PlannedInput], outcomes: Sequence[Outcome], companions: Sequence[str]
) -> Iterator[str]:
    """Name the images that must not be there, as their inputs failed; not what is not ours."""
    failed = {
        key
        for outcome in outcomes
        for key, failure in outcome.failed.items()
        if failure != Failure.OUTPUT_CONFLICT
    }
    for item in inputs:
        if item.output and item.key in failed:
            yield IMAGES + item.output
            yield from (companion_key(folder, item.output) for folder in companions)


class _Apart:
    """Work in a process that may die."""

    def __init__(self, open_work: Callable[[bool], Work]) -> None:
        self._open_work = open_work
        self._work: Work | None = None

    def run(self, inputs: Sequence[PlannedInput]) -> Outcome | RedactionCoreError:
        """Do some inputs; an error is returned, as Ray would make a stack trace of it."""
        try:
            # The GPU is its parent's.
            self._work = self._work or self._open_work(False)  # noqa: FBT003 - its one argument
            return self._work.run(inputs)
        except RedactionCoreError as error:
            return error


def _result(apart: Any, inputs: Sequence[PlannedInput]) -> Outcome:  # noqa: ANN401 - Ray's handle
    result: Outcome | RedactionCoreError = ray.get(apart.run.remote(inputs))
    if isinstance(result, RedactionCoreError):
        raise result
    return result


_ANSWER = pa.schema([("totals", pa.string()), ("error", pa.string()), ("error_kind", pa.string())])


def _answer(**values: str) -> pa.Table:
    return pa.Table.from_pylist([values], schema=_ANSWER)
