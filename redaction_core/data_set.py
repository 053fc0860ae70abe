"""A finished data set: made of the commits of all rounds, and of nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from redaction_core.commits import Run, part_bytes, part_key
from redaction_core.commits.layout import shard_of_part
from redaction_core.commits.marking import Marks, mark
from redaction_core.duplicates import find_duplicates, marks, near_duplicates
from redaction_core.errors import StorageError
from redaction_core.images import TRANSFORM_VERSION
from redaction_core.ingestion import IMAGES, Task
from redaction_core.ledger import Ledger
from redaction_core.schemas import FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from redaction_core.commits import ShardRef

FAILURES_TABLE: Final = "failures"
NEAR_DUPLICATES: Final = "near_duplicates.parquet"


def finish_data_set(
    task: Task, run: Run, spread: Callable[[Callable[[Marks], str], Iterable[Marks]], Iterator[str]]
) -> tuple[dict[str, Any], set[str]]:
    """Mark duplicates and what changes its split, write the last word on failures, and sum up.

    `spread` calls a function with many items, on whatever machines there are. Gives the summary
    and the keys of all parts that make up the data set.
    """
    with Ledger.open(run) as ledger:
        parts, images = set(), {}
        for each in ledger.shards():
            parts |= {key for key in each.commit.parts if not key.startswith(f"{IMAGES}/")}
            if (key := each.key(IMAGES)) is not None:
                images[each.shard.number] = (each.shard, key)
        there = {entry.key for entry in run.store.list(f"{IMAGES}/", missing_ok=True)}
        find_duplicates(ledger, [number for number, (_, key) in images.items() if key not in there])
        public = {number: key for number, (_, key) in images.items()}
        for key in spread(mark, _marks(run, ledger, images)):
            public[shard_of_part(key)] = key
        parts |= set(public.values()) | set(_write_failures(run, ledger))
        near, pairs = near_duplicates(ledger)
        run.store.put(NEAR_DUPLICATES, near)
        return _summary(task, run, ledger) | {"near_duplicate_pairs": pairs}, parts


def _marks(run: Run, ledger: Ledger, images: dict[int, tuple[ShardRef, str]]) -> Iterator[Marks]:
    for number, columns in marks(ledger):
        shard, part = images[number]
        yield Marks(
            store=run.store, plan_id=shard.plan_id, shard=number, part=part, columns=columns
        )


def _write_failures(run: Run, ledger: Ledger) -> Iterator[str]:
    for shard, rows in ledger.failures():
        data = part_bytes(rows, FAILURES)
        part = part_key(FAILURES_TABLE, shard, data)
        run.store.put_if_absent(part, data)
        yield part


def _summary(task: Task, run: Run, ledger: Ledger) -> dict[str, Any]:
    images = ledger.number("select count(*) from contents")
    failures = ledger.counts("select failure, count(*) from failed group by all")
    failed = sum(failures.values())
    if images + failed != run.inputs:
        raise StorageError(
            f"{images} images and {failed} failures are not the {run.inputs} inputs of the plan in "
            f"{run.store.location}: parts are missing or were changed"
        )
    return {
        "inputs": run.inputs,
        "ok": images,
        "failed": failed,
        "failures": failures,
        "splits": ledger.counts("select split, count(*) from splits group by all"),
        "duplicates": ledger.number("select count(*) from duplicates"),
        "transform": {**asdict(task.transform), "version": TRANSFORM_VERSION},
        "columns": dict(task.source.columns),
    }
