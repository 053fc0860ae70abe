"""The smallest data sets: inputs from memory, shards done and committed in this process."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redaction_core.commits import (
    Commit,
    Layout,
    Run,
    ShardRef,
    commit_shard,
    part_bytes,
    part_key,
    read_shard,
)
from redaction_core.data_set import finish_data_set
from redaction_core.errors import Failure, InputError
from redaction_core.images import Pixels, Transform, encode
from redaction_core.ingestion import Ingestion, Task
from redaction_core.plan import PlannedInput, shards
from redaction_core.sources import Content, Details
from redaction_core.sources.row_index import image_id
from redaction_core.sources.source import failed
from redaction_core.splits import Splits
from redaction_core.storage import Store

LAYOUT = Layout(
    tables=("images", "failures", "ledger", "contents"),
    summary="dataset.json",
    extras=("near_duplicates.parquet",),
)


def noise(seed: int, *shape: int) -> Pixels:
    """Give pixels that no other seed has."""
    return np.random.default_rng(seed).integers(0, 256, shape or (16, 16), np.uint8)


def png(seed: int, *shape: int) -> bytes:
    """Give a file of such pixels."""
    return encode(noise(seed, *shape), "png")


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the source has under one name."""

    data: bytes = b""
    pixels: Pixels | None = None
    error: InputError | None = None
    planned: Failure | None = None
    label: str | None = None
    split: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


def lost(failure: Failure, detail: str = "as told") -> Given:
    """Give an input that fails when it is read."""
    return Given(error=InputError(failure, detail))


@dataclass(kw_only=True)
class MemorySource:
    """Inputs by name; what they are may change between two rounds. Reads them in any order."""

    inputs: dict[str, Given]
    columns: dict[str, str] = field(default_factory=dict)
    labels: bool = False
    asked: list[str] = field(default_factory=list)

    location = "memory"
    at_once = 1

    def planned(self) -> Iterator[PlannedInput]:
        for name, given in sorted(self.inputs.items(), key=lambda pair: pair[0].encode()):
            details = Details(
                name=name,
                image_id=image_id(name),
                columns=given.columns,
                label=given.label,
                split=given.split,
            )
            yield PlannedInput(
                key=name,
                size=0,  # as of URLs: what is behind them may change
                version="1",
                failure=given.planned,
                detail="as planned" if given.planned else None,
                extra=details.to_json(),
            )

    def open(self) -> "MemorySource":
        return self

    def contents(self, inputs: Sequence[PlannedInput]) -> Iterator[Content]:
        for item in random.Random(len(inputs)).sample(inputs, len(inputs)):
            given = self.inputs[item.key]
            if (known := failed(item)) is not None:
                yield known
                continue
            self.asked.append(item.key)
            yield Content(
                item=item,
                data=given.data,
                pixels=given.pixels,
                error=given.error,
                http_status=200,
                attempts=2,
                received=len(given.data),
                seconds=1.5,
            )

    def close(self) -> None:
        pass


def task(inputs: dict[str, Given], **changes: Any) -> Task:  # noqa: ANN401 - any field
    """Give a task whose images have 8x8 pixels, half of them in `val`."""
    columns = changes.pop("columns", {})
    given: dict[str, Any] = {
        "source": MemorySource(
            inputs=inputs, columns=columns, labels=any(each.label for each in inputs.values())
        ),
        "transform": Transform(size=8),
        "splits": Splits(val_fraction=0.5, columns=tuple(columns)),
    }
    return Task(**(given | changes))


def open_run(store: Store) -> Run:
    """Open the run of a store; all these runs have one config."""
    return Run(store, "ingest", {}, layout=LAYOUT)


def do_shard(store: Store, shard: ShardRef, given: Task, *, apart: bool) -> None:
    """Do a shard and commit it; as a whole, or input by input where one may kill its process."""
    inputs = read_shard(store, shard)
    work = Ingestion(given)
    outcomes = [work.run([item]) for item in inputs] if apart else [work.run(inputs)]
    parts = []
    for table, schema in given.tables.items():
        if rows := [row for outcome in outcomes for row in outcome.tables[table]]:
            data = part_bytes(rows, schema)
            parts.append(part_key(table, shard.number, data))
            store.put_if_absent(parts[-1], data)
    commit_shard(store, shard, Commit(shard=shard.number, parts=tuple(parts)))


def do_run(
    store: Store,
    given: Task,
    *,
    retry: Sequence[PlannedInput] = (),
    shard_size: int = 3,
    apart: bool = False,
) -> Run:
    """Plan what is new, or what is to be tried again; do and commit every shard."""
    run = open_run(store)
    new = retry or run.new_inputs(given.source.planned())
    run.add_round(shards(iter(new), shard_size), shard_size=shard_size, retries=bool(retry))
    for shard in list(run.pending()):
        do_shard(store, shard, given, apart=apart)
    return run


def finish(run: Run, given: Task) -> dict[str, Any]:
    """Do the last pass, and end the run; gives the summary."""
    summary, parts = finish_data_set(given, run, map)
    run.finish(summary, {}, parts=parts)
    return summary
