"""A run's state: plans, extensions, attempts, commits, the end."""

import json
from collections import Counter
from pathlib import Path

import pytest

from redaction_core.commits import (
    Run,
    begin_attempt,
    end_attempt,
    part_key,
    read_commit,
    read_shard,
    remove_run,
)
from redaction_core.errors import Failure, StorageError, UsageError
from redaction_core.plan import PlannedInput, planned, shards
from redaction_core.storage import Store, open_store
from tests.unit.small_run import (
    CONFIG,
    KEYS,
    add_round,
    do_run,
    do_shard,
    listing,
    rows,
    state,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "out"))


def test_a_run_from_plan_to_success(store: Store) -> None:
    run = do_run(store)

    assert run.finished
    assert (run.inputs, run.shard_count) == (7, 3)
    assert [shard.number for shard in run.shards()] == [0, 1, 2]
    assert list(run.pending()) == []
    assert [item.key for item in run.planned()] == sorted(KEYS, key=str.encode)
    plan = json.loads(store.read("plan.json").data)
    assert (plan["inputs"], plan["bytes"], plan["failures"]) == (7, sum(map(len, KEYS)), 1)
    assert [key.split("/")[0] for key in state(store)] == [
        *["_SUCCESS"],
        *["commits"] * 3,
        *["images"] * 5,
        *["metrics"] * 3,
        *["plan.json"],
        *["plan"] * 3,
        *["run.json", "summary.json"],
    ]
    assert json.loads(store.read("summary.json").data) == {"inputs": 7}
    assert rows(store, run) == Counter(KEYS)


def test_an_empty_run(store: Store) -> None:
    run = do_run(store, ())
    assert run.finished
    assert Run(store, "reconstruct", CONFIG).rounds
    assert (run.inputs, run.shard_count) == (0, 0)


def test_inputs_come_back_from_the_plan_as_they_went(store: Store) -> None:
    run = Run(store, "reconstruct", CONFIG)
    wanted = list(planned(listing(), ".png"))
    run.add_round(shards(iter(wanted), 2), shard_size=2)
    found = [item for shard in run.shards() for item in read_shard(store, shard)]
    assert found == wanted == list(run.planned())
    assert [type(item) for item in found] == [PlannedInput] * len(KEYS)


def test_looking_at_an_output_writes_nothing(store: Store, tmp_path: Path) -> None:
    run = Run(store, "reconstruct", CONFIG)
    assert not run.finished
    assert list(run.pending()) == list(run.planned()) == list(run.commits()) == []
    assert run.changes(planned(listing(), ".png")).new == len(KEYS)
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_no_place_for_a_run(store: Store) -> None:
    for key in ("images/mine.png", "metrics/mine.parquet"):
        store.put(key, b"")
        with pytest.raises(UsageError, match="but no plan"):
            Run(store, "reconstruct", CONFIG)
        assert remove_run(store) is False
        assert list(state(store)) == [key]
        store.delete([key])


@pytest.mark.parametrize(
    ("verb", "config", "named"),
    [
        ("reconstruct", {**CONFIG, "redact": "blur:2"}, "redact: pixelate:4 -> blur:2"),
        ("reconstruct", {"redact": "pixelate:4"}, "network: enhancer -> (absent)"),
        ("audit", CONFIG, "verb: reconstruct -> audit"),
    ],
)
def test_other_settings_are_refused(
    store: Store, verb: str, config: dict[str, str], named: str
) -> None:
    do_run(store)
    before = state(store)
    with pytest.raises(UsageError, match="--overwrite") as caught:
        Run(store, verb, config)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert state(store) == before
    assert remove_run(store)
    Run(store, verb, config)


@pytest.mark.parametrize("name", ["images/a.png", "metrics/a", "summary.json", "run.json"])
def test_files_of_others_are_never_written_over(store: Store, name: str) -> None:
    store.put(name, b"theirs")
    with pytest.raises(UsageError, match=r"but no plan\.json: choose another output"):
        Run(store, "reconstruct", CONFIG)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"version": 1}', b'{"version": 2}', b"\xff"]
)
def test_a_damaged_plan_is_refused(store: Store, damage: bytes) -> None:
    store.put("plan.json", damage)
    with pytest.raises(UsageError, match=r"plan\.json"):
        Run(store, "reconstruct", CONFIG)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"{}"])
def test_damaged_state_is_one_line(store: Store, damage: bytes) -> None:
    run = do_run(store)
    shard = next(run.shards())
    for key in (f"plan/{shard.part}", f"commits/{shard.plan_id}-000000.json"):
        store.put(key, damage)
    with pytest.raises(UsageError, match=r"plan/.* is damaged: choose another output"):
        read_shard(store, shard)
    with pytest.raises(UsageError, match=r"commits/.* is damaged: choose another output"):
        read_commit(store, shard)


def test_a_missing_part_of_the_plan_says_what_to_do(store: Store) -> None:
    run = do_run(store)
    shard = next(run.shards())
    store.delete([f"plan/{shard.part}"])
    with pytest.raises(StorageError, match="use --overwrite"):
        read_shard(store, shard)


def test_changes_are_counted_and_changed_inputs_refused(store: Store) -> None:
    do_run(store)
    run = Run(store, "reconstruct", CONFIG)
    run.changes(planned(listing(), ".png", run.planned())).refuse_changed()

    now = [
        *listing(("a.jpg", "new.jpg", "newer.jpg")),
        *listing(("b.jpg", "c/d.png", "c/e f.jpg", "ü.jpg"), version="2"),
    ]
    now.sort(key=lambda entry: entry.key.encode())
    changes = run.changes(planned(now, ".png", run.planned()))

    assert (changes.same, changes.new, changes.changed, changes.gone) == (1, 2, 4, 2)
    assert changes.new_bytes == len("new.jpg") + len("newer.jpg")
    with pytest.raises(UsageError, match=r"4 inputs changed .*\(b.jpg, c/d.png, c/e f.jpg\)"):
        changes.refuse_changed()


def test_an_extension_joins_as_further_shards(store: Store) -> None:
    do_run(store)
    before = state(store)
    run = Run(store, "reconstruct", CONFIG)
    extended = (*KEYS, "b.jpg.png", "0.jpg", "zz.jpg", "zzz.jpg")
    assert add_round(run, extended)

    assert not store.exists("_SUCCESS")
    assert not Run(store, "reconstruct", CONFIG).finished
    assert [shard.number for shard in run.pending()] == [3, 4]
    assert [item.key for item in run.planned()] == sorted(extended, key=str.encode)
    collided = next(item for item in run.planned() if item.key == "b.jpg.png")
    assert collided.output is None
    run = do_run(store)
    assert run.finished
    assert rows(store, run) == Counter(extended)
    after = state(store)
    kept = {key for key in before if not key.endswith(("_SUCCESS", "summary.json"))}
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}


def test_an_extension_takes_no_file_of_others_for_its_own(store: Store) -> None:
    do_run(store)
    store.put("images/zz.jpg.png", b"theirs")
    run = Run(store, "reconstruct", CONFIG)
    assert add_round(run, (*KEYS, "zz.jpg", "zzz.jpg"))

    failures = {item.key: item.failure for item in run.planned() if item.key.startswith("zz")}
    assert failures == {"zz.jpg": Failure.OUTPUT_CONFLICT, "zzz.jpg": None}


def test_extending_by_nothing_changes_nothing(store: Store) -> None:
    do_run(store)
    before = state(store)
    run = Run(store, "reconstruct", CONFIG)
    assert add_round(run)
    assert state(store) == before
    assert run.finished


def test_finishing_too_early_is_refused(store: Store) -> None:
    run = Run(store, "reconstruct", CONFIG)
    add_round(run)
    do_shard(store, next(run.pending()))
    with pytest.raises(StorageError, match="shard 1 is not done"):
        run.finish({}, {})
    assert not store.exists("_SUCCESS")


def test_finishing_while_another_extends_is_refused(store: Store) -> None:
    run = do_run(store)
    other = Run(store, "reconstruct", CONFIG)
    add_round(other, (*KEYS, "zz.jpg"))
    with pytest.raises(StorageError, match="another run extended"):
        run.finish({}, {})
    assert not other.finished


def test_only_parts_that_no_commit_names_are_removed_at_the_end(store: Store) -> None:
    run = Run(store, "reconstruct", CONFIG)
    add_round(run)
    shard = next(run.pending())
    orphan = part_key("metrics", shard.number, b"orphan")
    later = part_key("metrics", 9, b"of a later round")
    for key in (orphan, later, "metrics/notes.txt", "metrics/part-1.parquet", "attempts/mine"):
        store.put(key, b"")
    do_run(store)
    assert not store.exists(orphan)
    for key in (later, "metrics/notes.txt", "metrics/part-1.parquet", "attempts/mine"):
        assert store.exists(key)


def test_attempts_count_deaths_only(store: Store) -> None:
    run = Run(store, "reconstruct", CONFIG)
    add_round(run)
    shard, other, _ = run.pending()
    dead = [begin_attempt(store, shard) for _ in range(12)]
    assert [len(each.dead) for each in dead] == list(range(12))
    orderly = begin_attempt(store, shard)
    end_attempt(store, orderly, committed=False)
    assert set(begin_attempt(store, shard).dead) == {each.key for each in dead}
    assert begin_attempt(store, other).dead == ()
    do_run(store)
    assert not any(key.startswith("attempts/") for key in state(store))


def test_a_commit_takes_back_the_marks_of_the_dead(store: Store) -> None:
    run = Run(store, "reconstruct", CONFIG)
    add_round(run)
    shard, other, _ = run.pending()
    begin_attempt(store, shard)
    elsewhere = begin_attempt(store, other)
    do_shard(store, shard)
    assert [key for key in state(store) if key.startswith("attempts/")] == [elsewhere.key]


def test_the_first_commit_stands(store: Store) -> None:
    run = Run(store, "reconstruct", CONFIG)
    add_round(run)
    shard = next(run.pending())
    assert read_commit(store, shard) is None
    first = do_shard(store, shard, "first")
    assert do_shard(store, shard, "second") == first
    assert read_commit(store, shard) == first
    run = do_run(store)
    assert first.parts[0] in state(store)
    assert rows(store, run) == Counter(KEYS)


def test_the_loser_of_a_race_to_plan_takes_the_winners_plan(store: Store) -> None:
    winner, loser = Run(store, "reconstruct", CONFIG), Run(store, "reconstruct", CONFIG)
    other = Run(store, "reconstruct", {**CONFIG, "redact": "blur:2"})
    assert add_round(winner)
    assert add_round(loser, (*KEYS, "zz.jpg")) is False
    assert loser.plan_ids == winner.plan_ids
    assert list(loser.planned()) == list(winner.planned())
    with pytest.raises(UsageError, match="redact: pixelate:4 -> blur:2"):
        add_round(other)
