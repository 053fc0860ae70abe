"""What attempts leave that died or came late, and what is somebody else's and stays."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from redaction_core.commits import (
    Commit,
    Layout,
    Run,
    begin_attempt,
    commit_meanwhile,
    commit_shard,
    read_commit,
    remove_run,
)
from redaction_core.commits.layout import companion_key
from redaction_core.errors import Failure, StorageError
from redaction_core.storage import Store, open_store
from tests.unit.small_run import CONFIG, KEYS, add_round, do_run, do_shard, rows, state


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "out"))


def test_what_the_standing_commit_does_not_name_is_removed(store: Store) -> None:
    run = Run(store, "reconstruct", CONFIG)
    add_round(run)
    shard = next(run.pending())
    given = ("metrics/part-000000-0123456789abcdef.parquet", "metrics/part-000000-" + "0" * 16)
    images = ("images/a.jpg", "images/a.jpg.png", "images/mine.png", "shades/a.jpg.png")
    for key in (*given, *images):
        store.put(key, b"")
    commit = Commit(
        shard=0,
        parts=given[:1],
        unwritten=("a.jpg", "a.jpg.png"),
        conflicts=("a.jpg",),
        totals={"inputs": 3},
    )
    late = replace(commit, parts=given, unwritten=())

    assert commit_shard(store, shard, commit) == commit
    assert commit_shard(store, shard, late, ["shades"]) == commit

    assert [store.exists(key) for key in given] == [True, False]
    assert [store.exists(key) for key in images] == [True, False, True, False]
    assert read_commit(store, shard) == commit


def test_the_end_removes_what_an_attempt_left_that_died_after_its_commit(store: Store) -> None:
    run = do_run(store)
    assert not run.doubled()
    store.put(f"metrics/part-000001-{'0' * 16}.parquet", b"of a late attempt")
    store.put("images/z.bad.png", b"of a late attempt")
    assert run.doubled()

    do_run(store)

    assert not run.doubled()
    assert not store.exists("images/z.bad.png")
    assert rows(store, run) == Counter(KEYS)


def test_a_mark_is_trace_enough_of_an_attempt_that_died(store: Store) -> None:
    run = do_run(store)
    store.delete(["_SUCCESS"])
    begin_attempt(store, list(run.shards())[1])
    store.put("images/z.bad.png", b"of a late attempt")

    do_run(store)

    assert not store.exists("images/z.bad.png")


def test_a_late_part_of_a_table_that_its_shard_has_not_is_noticed(store: Store) -> None:
    run = Run(store, "reconstruct", CONFIG, layout=Layout(tables=("metrics", "images")))
    add_round(run)
    for shard in run.pending():
        do_shard(store, shard)
    run.finish({}, {})
    assert not run.doubled()
    late = f"images/part-000001-{'0' * 16}.parquet"
    store.put(late, b"")
    assert run.doubled()
    run.finish({}, {})
    assert not run.doubled()
    assert not store.exists(late)


def test_what_somebody_puts_at_the_image_of_a_failed_input_stays(store: Store) -> None:
    do_run(store)
    store.put("images/z.bad.png", b"theirs")
    add_round(Run(store, "reconstruct", CONFIG), (*KEYS, "zz.jpg"))

    assert do_run(store).finished

    assert store.read("images/z.bad.png").data == b"theirs"


def test_a_commit_that_tells_nothing_of_conflicts_takes_nothing_away(store: Store) -> None:
    run = Run(store, "reconstruct", CONFIG)
    add_round(run)
    shard = list(run.shards())[1]
    do_shard(store, shard)
    key = next(key for key in state(store) if key.startswith("commits/"))
    told = json.loads(store.read(key).data)
    del told["conflicts"]
    store.put(key, json.dumps(told).encode())
    begin_attempt(store, shard)
    store.put("images/z.bad.png", b"theirs")

    do_run(store)

    assert store.read("images/z.bad.png").data == b"theirs"


def test_an_attempt_hears_of_a_faster_one_and_of_a_run_that_was_removed(store: Store) -> None:
    run = Run(store, "reconstruct", CONFIG)
    add_round(run)
    shard = next(run.pending())
    late = begin_attempt(store, shard)
    assert commit_meanwhile(store, shard, late) is None
    commit = do_shard(store, shard)
    assert not store.exists(late.key)
    assert commit_meanwhile(store, shard, late) == commit
    remove_run(store)
    with pytest.raises(StorageError, match="was removed meanwhile"):
        commit_meanwhile(store, shard, late)


def test_a_companion_is_of_one_output_alone() -> None:
    for outputs in (("a.png", "a.PNG", "a.PNG.png"), ("a.webp", "a.WEBP", "a.webp.webp")):
        assert len({companion_key("shades", output) for output in outputs}) == len(outputs)
    assert companion_key("shades", "a/b.webp") == "shades/a/b.webp.png"


def test_what_was_left_may_be_a_folder_where_an_output_would_stand(store: Store) -> None:
    do_run(store)
    remove_run(store)
    store.put("images/b.jpg.png/theirs.png", b"")
    run = Run(store, "reconstruct", CONFIG, replaces=True)
    add_round(run)
    failures = {item.key: item.failure for item in run.planned() if item.failure}
    assert failures == {"a.jpg": Failure.NAME_COLLISION, "b.jpg": Failure.OUTPUT_CONFLICT}
