"""A worker of a pool: what Ray calls with the name of a shard, from its inputs to its commit."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.exceptions import ActorUnschedulableError, OutOfMemoryError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs._telemetry import WorkerTelemetry
from redaction_core.commits import (
    Commit,
    ShardRef,
    begin_attempt,
    commit_meanwhile,
    commit_shard,
    end_attempt,
    part_bytes,
    part_key,
    read_commit,
    read_shard,
)
from redaction_core.commits.layout import json_bytes
from redaction_core.errors import Failure, InputError, RedactionCoreError, StorageError
from redaction_core.stages import stage
from redaction_core.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jobs._verb import Outcome, Verb, Work
    from redaction_core.plan import PlannedInput

DEATHS = 3
"""After so many attempts at a shard that ended in death, a process of its own runs it."""
_TRIES = 2  # of one input: where memory is short, a process may die for what its neighbours take
_DIED = (RayActorError, OutOfMemoryError)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """How many workers, and what each of them takes of the cluster."""

    workers: int
    cpus: float
    gpus: float


class ShardWorker:
    """A worker of the pool: one shard a call, from its name to its commit."""

    def __init__(self, verb: Verb, pool: Pool) -> None:
        self._verb = verb
        self._pool = pool
        self._work: Work | None = None
        self._opening = threading.Lock()
        self._telemetry = WorkerTelemetry(verb.name, gpu=pool.gpus > 0)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Do one shard; an error of storage comes back as a row, not as a stack trace."""
        (row,) = batch.to_pylist()
        shard = ShardRef(**row)
        try:
            with self._telemetry.shard():
                commit = self._do(shard)
        except RedactionCoreError as error:
            told = {"error_class": type(error).__name__, **self._told(shard)}
            _LOG.error("shard failed: %s", error, extra=told)
            return _answer(error=str(error), error_kind=type(error).__name__)
        return _answer(totals=json.dumps(commit.totals))

    def _told(self, shard: ShardRef) -> dict[str, Any]:
        """Give what each line of the log says beside its message; Ray adds job and machine."""
        return {"verb": self._verb.name, "shard": shard.number, "plan": shard.plan_id}

    def _do(self, shard: ShardRef) -> Commit:
        store = self._verb.output
        if (there := read_commit(store, shard)) is not None:
            return there
        work = self._open()
        started = time.monotonic()
        attempt = begin_attempt(store, shard, note=_whereabouts())
        told = {"attempt": attempt.number, "deaths": len(attempt.dead), **self._told(shard)}
        self._telemetry.attempts.inc(1)
        commit: Commit | None = None
        _LOG.info("shard begun", extra=told)
        try:
            inputs = read_shard(store, shard)
            apart = len(attempt.dead) >= DEATHS
            outcomes = self._apart(inputs, len(attempt.dead)) if apart else [work.run(inputs)]
            with stage("commit"):
                # Where another was faster, parts of ours would lie in a run that is over.
                found = commit_meanwhile(store, shard, attempt)
                written = found or self._write(shard, inputs, outcomes)
                commit = commit_shard(store, shard, written, self._verb.companions)
        finally:
            # Only death leaves the mark; where storage is gone, one mark too many is harmless.
            with contextlib.suppress(StorageError):
                end_attempt(store, attempt, committed=commit is not None)
        seconds = round(time.monotonic() - started, 3)
        done = {"seconds": seconds, "inputs": commit.totals["inputs"]}
        _LOG.info("shard committed", extra={**done, **told})
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
        # What a listing knows; of URLs only what came tells.
        totals.bytes = totals.bytes or sum(item.size for item in inputs)
        parts = []
        for table, schema in self._verb.tables.items():
            rows = [row for outcome in outcomes for row in outcome.tables.get(table, ())]
            if rows:
                data = part_bytes(rows, schema)
                parts.append(part_key(table, shard.number, data))
                self._verb.output.put_if_absent(parts[-1], data)
        unwritten = {
            item.output: failed[item.key] for item in inputs if item.key in failed and item.output
        }
        return Commit(
            shard=shard.number,
            parts=tuple(parts),
            unwritten=tuple(unwritten),
            conflicts=tuple(
                name for name, why in unwritten.items() if why == Failure.OUTPUT_CONFLICT
            ),
            totals=totals.to_json(),
        )

    def _apart(self, inputs: Sequence[PlannedInput], deaths: int) -> list[Outcome]:
        """Run a deadly shard in another process; an input that kills it becomes a row."""
        assert self._work is not None  # noqa: S101 - opened by the caller
        apart = _Process(self._verb.open_work, deaths)
        with contextlib.suppress(*_DIED):
            # As a whole: it may have died of kills alone, and batches of one round differently.
            return [apart.run(inputs)]
        outcomes: list[Outcome] = []
        for item in inputs:
            for _ in range(_TRIES):
                with contextlib.suppress(*_DIED):
                    outcomes.append(apart.run([item]))
                    break
            else:
                detail = "the process that worked on it died"
                error = InputError(Failure.WORKER_CRASH, detail)
                outcomes.append(self._work.failure(item, error))
        return outcomes


class _Process:
    """Another process, and a new one after each death."""

    def __init__(self, open_work: Callable[[bool], Work], deaths: int) -> None:
        self._open_work = open_work
        self._deaths = deaths
        self._here = ray.get_runtime_context().get_node_id()
        self._gone: set[str] = set()
        self._node = self._here
        self._actor: Any = None

    def run(self, inputs: Sequence[PlannedInput]) -> Outcome:
        """Do some inputs there; raises one of `_DIED` when it died of them."""
        while True:
            actor = self._actor or self._start()
            self._actor = None  # after an error, it is not to be asked again
            try:
                result: Outcome | RedactionCoreError = ray.get(actor.run.remote(inputs))
            except ActorUnschedulableError:
                # The machine is gone, or about to go: no input's fault.
                if self._node == self._here:
                    os._exit(1)  # Ray has the shard done elsewhere
                self._gone.add(self._node)
                continue
            if isinstance(result, RedactionCoreError):
                raise result
            self._actor = actor
            return result

    def _start(self) -> Any:  # noqa: ANN401 - Ray's handle
        nodes = [node for node in ray.nodes() if node["NodeID"] not in self._gone]  # type: ignore[no-untyped-call]
        self._node = place_apart(self._deaths, self._here, nodes)
        there = NodeAffinitySchedulingStrategy(self._node, soft=False)
        # Takes nothing of the cluster, as its parent waits meanwhile. Ray may restart it, which
        # nobody waits for: so it is the first to go where memory is short, before its parent.
        start: Any = ray.remote(num_cpus=0, max_restarts=1, max_task_retries=0)(_Apart)
        return start.options(scheduling_strategy=there).remote(self._open_work)


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


def place_apart(deaths: int, here: str, nodes: Sequence[Mapping[str, Any]]) -> str:
    """Choose the node, by its id, for the process that runs a deadly shard.

    First its parent's: the end of that machine is then no input's fault, as the parent dies with
    it. Where the parent died of it again and again, an input may take down all of its machine (as
    where Kubernetes ends a pod whose memory is full): then another one's, which has processors.
    """
    if deaths < 2 * DEATHS:
        return here
    working = (each for each in nodes if each["Alive"] and each["Resources"].get("CPU"))
    return next((each["NodeID"] for each in working if each["NodeID"] != here), here)


def _whereabouts() -> bytes:
    """Say who has begun an attempt, for the mark that it leaves."""
    machine = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    where = {"machine": machine, "pid": os.getpid()}
    return json_bytes({**where, "started": datetime.now(UTC).isoformat(timespec="seconds")})


_ANSWER = pa.schema([("totals", pa.string()), ("error", pa.string()), ("error_kind", pa.string())])


def _answer(**values: str) -> pa.Table:
    return pa.Table.from_pylist([values], schema=_ANSWER)
