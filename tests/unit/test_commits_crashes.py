"""Runs that are killed at every change, hear wrong answers, or are driven twice at once."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from redaction_core.commits import (
    Commit,
    Run,
    begin_attempt,
    commit_shard,
    read_commit,
    read_shard,
    remove_run,
)
from redaction_core.errors import StorageError
from redaction_core.storage import Entry, Store, open_store
from tests.unit.crashing_store import Crash, CrashingStore
from tests.unit.small_run import CONFIG, KEYS, add_round, do_run, rows, state


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "out"))


@pytest.mark.parametrize(("lost", "conflicts"), [(1, 0), (0, 1), (0, 4), (1, 3)])
def test_answers_that_say_nothing(store: Store, lost: int, conflicts: int) -> None:
    run = Run(store, "reconstruct", CONFIG)
    add_round(run)
    shard = next(run.pending())
    unsure = CrashingStore(store)
    unsure.lost, unsure.conflicts = lost, conflicts
    commit = Commit(shard=0, parts=("metrics/x",), totals={"n": 1})
    assert commit_shard(unsure, shard, commit) == commit
    assert read_commit(store, shard) == commit


def test_conflicts_without_end_are_an_error_and_no_success(store: Store) -> None:
    run = Run(store, "reconstruct", CONFIG)
    add_round(run)
    shard = next(run.pending())
    unsure = CrashingStore(store)
    unsure.conflicts = 1000
    with pytest.raises(StorageError, match="cannot be committed"):
        commit_shard(unsure, shard, Commit(shard=0, parts=()))
    assert read_commit(store, shard) is None


@pytest.mark.parametrize("lost", range(1, 6))
def test_planning_when_answers_are_lost(store: Store, lost: int) -> None:
    unsure = CrashingStore(store)
    unsure.lost = lost
    run = Run(unsure, "reconstruct", CONFIG)
    assert add_round(run) is True
    assert run.inputs == len(KEYS)


@pytest.mark.parametrize("after", [False, True])
def test_a_run_killed_at_every_change_ends_as_if_undisturbed(
    tmp_path: Path,
    after: bool,  # noqa: FBT001
) -> None:
    undisturbed = open_store(str(tmp_path / "undisturbed"))
    do_run(undisturbed)
    wanted = state(undisturbed)
    for crash_at in range(1000):
        store = open_store(str(tmp_path / f"{crash_at}"))
        try:
            do_run(CrashingStore(store, crash_at=crash_at, after=after))
        except Crash:
            run = do_run(store)
            assert run.finished
            assert state(store) == wanted, crash_at
        else:
            assert crash_at > 20
            break


@pytest.mark.parametrize("after", [False, True])
def test_a_removal_killed_at_every_change_can_be_repeated_or_the_run_resumed(
    tmp_path: Path,
    after: bool,  # noqa: FBT001
) -> None:
    foreign = {"images/mine.png": b"1", "images/z.bad.png": b"2", "metrics/m": b"3", "x": b"4"}
    for crash_at in range(1000):
        store = open_store(str(tmp_path / f"{crash_at}"))
        add_round(do_run(store), (*KEYS, "zz.jpg"))
        do_run(store)
        begin_attempt(store, next(Run(store, "reconstruct", CONFIG).shards()))
        for key, data in foreign.items():
            store.put(key, data)
        try:
            remove_run(CrashingStore(store, crash_at=crash_at, after=after))
        except Crash:
            if not store.exists("plan.json"):
                continue  # nothing was left to do
            run = Run(store, "reconstruct", CONFIG)
            assert not run.finished or crash_at == 0
            done = {shard.number for shard in run.shards()} - {s.number for s in run.pending()}
            for shard in run.shards():
                if shard.number in done:  # what counts as done is there
                    commit = read_commit(store, shard)
                    assert commit is not None
                    assert all(store.exists(part) for part in commit.parts)
                    outputs = {item.output for item in read_shard(store, shard) if item.output}
                    for output in outputs - set(commit.unwritten):
                        assert store.exists(f"images/{output}")
            remove_run(store)
        else:
            assert crash_at > 20
            assert {key: store.read(key).data for key in state(store)} == foreign
            break
        left = {key: store.read(key).data for key in state(store)}
        # A file of another's at the name of a failed input: known to be such until its commit goes.
        assert left.items() >= {k: v for k, v in foreign.items() if "z.bad" not in k}.items()
        assert left.keys() <= foreign.keys()


def test_two_drivers_plan_and_work_at_once(store: Store) -> None:
    keys = tuple(f"{number:03d}.jpg" for number in range(30))
    for _ in range(5):
        start = threading.Barrier(2)
        runs: list[Run] = []

        def drive(worker: str, start: threading.Barrier = start, runs: list[Run] = runs) -> None:
            start.wait()
            runs.append(do_run(store, keys, worker))

        drivers = [threading.Thread(target=drive, args=(name,)) for name in ("one", "two")]
        for driver in drivers:
            driver.start()
        for driver in drivers:
            driver.join()
        assert [run.finished for run in runs] == [True, True]
        run = runs[0]
        assert rows(store, run) == Counter(keys)
        found = {part for commit in run.commits() for part in commit.parts}
        assert found == {entry.key for entry in store.list("metrics/")}
        remove_run(store)
        assert state(store) == {}


def test_a_driver_that_comes_while_another_begins_joins_it(store: Store) -> None:
    class Meanwhile(CrashingStore):
        """Another driver plans and works between our look for a plan and our look for files."""

        def list(self, prefix: str = "", *, missing_ok: bool = False) -> Iterator[Entry]:
            if not self.exists("plan.json"):
                do_run(self.store)
            return super().list(prefix, missing_ok=missing_ok)

    assert Run(Meanwhile(store), "reconstruct", CONFIG).finished
