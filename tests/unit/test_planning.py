"""A simulated listing through the driver's steps; a billion of it: tests.benchmarks.planning."""

from typing import Any

import pytest

from redaction_core.commits import Run
from redaction_core.plan import planned, shards
from tests.benchmarks.planning import SUFFIX, Simulated, listed, plan_and_finish


@pytest.mark.parametrize("shard_size", [999, 1000])
def test_the_same_listing_gives_the_same_plan(shard_size: int) -> None:
    """Each step checks itself, the rerun that all parts can be made again as they were."""
    plans: list[dict[str, Any]] = [
        plan_and_finish(keys, shard_size, rerun=keys < 20_000) for keys in (12_000, 12_000, 12_001)
    ]
    ids = [(plan["plan_id"], plan["digest"]) for plan in plans]
    assert ids[0] == ids[1]
    assert ids[1] != ids[2]


def test_shards_with_long_numbers_are_known_as_done() -> None:
    store = Simulated(1_000_020, 1)
    run = Run(store, "reconstruct", {})
    run.add_round(shards(planned(listed(0, 20), SUFFIX), 1), shard_size=1)
    (plan,) = run.rounds
    store.done = range(3, 20, 2)
    assert [shard.number for shard in run.pending()] == [0, 1, 2, *range(4, 20, 2)]
    assert run.inputs_of(run.pending()) == 11
    names = [entry.key for entry in store.list(f"commits/{plan.plan_id}-")]
    assert names == sorted(names)
    store.done = range(999_998, 1_000_002)
    names = [entry.key.rpartition("-")[2] for entry in store.list("commits/x-")]
    assert names == ["1000000.json", "1000001.json", "999998.json", "999999.json"]
