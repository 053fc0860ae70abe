"""Shards over a Ray cluster: the one way in which every verb runs its plan.

A row of the Ray Data pipeline is a shard: its name goes in, what its commit says comes out. Images
never pass through Ray. Whatever kills a worker or the driver, storage holds what is done.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import ray
import ray.data
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError

from jobs._cluster import joins_a_cluster
from jobs._command import say
from jobs._watch import Watch
from jobs._worker import Pool, ShardWorker
from redaction_core.errors import RedactionCoreError, UsageError, error_named
from redaction_core.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from jobs._verb import Verb
    from redaction_core.commits import ShardRef

_QUEUE = 4
"""With so many shards for each worker, the next one is queued with it."""
BATCH = 10_000
"""Shards that are given to Ray at once: each costs the driver 5 KB and a millisecond beforehand."""
BATCH_OF_A_WORKER = 64
"""More with many workers: at the end of a batch they wait for the last shard."""
_TASK_RETRIES = 3  # where a machine is lost
_LOST = (WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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


def run_shards(
    verb: Verb, pool: Pool, shards: Sequence[ShardRef], *, stuck_after_s: float
) -> Iterator[Totals]:
    """Run shards on the cluster; yields the totals of each as it is committed.

    Raises what a worker raised on purpose, as StorageError, UsageError or CheckpointError.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    left = iter(shards)
    # One batch after the other, each with workers of its own, so that the driver stays small.
    with Watch(verb, shards, after_s=stuck_after_s) as watch:
        while some := list(islice(left, max(BATCH, BATCH_OF_A_WORKER * pool.workers))):
            for totals in _run_batch(verb, pool, some):
                watch.count(totals)
                yield totals


def _run_batch(verb: Verb, pool: Pool, shards: Sequence[ShardRef]) -> Iterator[Totals]:
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
    for row in done.iter_rows():
        if row["error"] is not None:
            raise error_named(row["error_kind"], row["error"])
        yield Totals.of_json(json.loads(row["totals"]))


def map_tasks(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Call a function of an importable module with each item on the cluster; in any order.

    As many at once as the cluster has processors, each with one. Raises what the function raised
    on purpose.
    """
    task: Any = ray.remote(max_retries=_TASK_RETRIES)(_caught)
    running: list[Any] = []
    left = iter(items)
    while True:
        # Asked each time: a cluster grows with what is asked of it, and may shrink.
        room = max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
        running += (
            task.remote(function, item) for item in islice(left, max(0, room - len(running)))
        )
        if not running:
            return
        (done, *_), running = ray.wait(running)
        try:
            result = ray.get(done)
        except _LOST as error:
            raise RedactionCoreError(
                "processes of the cluster died again and again (machines lost, no memory, a full "
                "disk: see ray status): what is done is in the output, run the same command again"
            ) from error
        if isinstance(result, RedactionCoreError):
            raise result
        yield result


def _caught(function: Callable[[_Item], _Result], item: _Item) -> _Result | RedactionCoreError:
    """Return an error that was raised on purpose: Ray would make a stack trace of it."""
    try:
        return function(item)
    except RedactionCoreError as error:
        return error
