"""Finished data sets: the last word over several rounds, marks, counts, and twice the same."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from redaction_core.commits import commit_shard
from redaction_core.data_set import NEAR_DUPLICATES, finish_data_set
from redaction_core.errors import Failure, StorageError
from redaction_core.images import Transform, encode
from redaction_core.ledger import Ledger
from redaction_core.plan import PlannedInput
from redaction_core.splits import Splits
from redaction_core.storage import Store, open_store
from tests.data_sets import DataSet
from tests.unit.small_data_set import Given, do_run, finish, lost, noise, open_run, png, task


def failed(store: Store, *classes: str) -> list[PlannedInput]:
    with Ledger.open(open_run(store)) as ledger:
        return list(ledger.failed_inputs(classes))


def contents(store: Store) -> dict[str, bytes]:
    """All files but plan files, which say when they were written."""
    return {
        entry.key: store.read(entry.key).data
        for entry in store.list()
        if not entry.key.startswith("plan-") and entry.key != "plan.json"
    }


def splits(found: DataSet) -> dict[str, str]:
    return {row["url"]: row["split"] for row in found.images}


def copies(found: DataSet) -> dict[str, str]:
    names = {row["image_id"]: row["url"] for row in found.images}
    return {
        row["url"]: names[row["duplicate_of"]]
        for row in found.images
        if row["duplicate_of"] is not None
    }


def test_images_and_failures_are_the_inputs_and_the_summary_says_so(tmp_path: Path) -> None:
    inputs = {f"{number}": Given(data=png(number)) for number in range(8)}
    inputs |= {"x": lost(Failure.TIMEOUT), "y": lost(Failure.DNS), "z": Given(data=png(0))}
    given = task(inputs)
    summary = finish(do_run(open_store(str(tmp_path)), given), given)
    found = DataSet.read(str(tmp_path))
    assert found.failed == {"x": "timeout", "y": "dns"}
    assert copies(found) == {"z": "0"}
    found.check_splits()
    counts = {"train": 0, "val": 0}
    for split in splits(found).values():
        counts[split] += 1
    assert (
        found.summary
        == summary
        == {
            "inputs": 11,
            "ok": 9,
            "failed": 2,
            "failures": {"dns": 1, "timeout": 1},
            "splits": counts,
            "duplicates": 1,
            "near_duplicate_pairs": 0,
            "transform": {
                "size": 8,
                "color": "gray",
                "fit": "crop",
                "min_size": 0,
                "max_pixels": Transform().max_pixels,
                "version": 1,
            },
            "columns": {},
        }
    )


def test_what_is_tried_again_has_its_last_word(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    inputs = {"a": Given(data=png(1)), "b": lost(Failure.TIMEOUT), "c": lost(Failure.TIMEOUT)}
    inputs |= {"d": lost(Failure.NOT_FOUND), "e": Given(data=png(2))}
    given = task(inputs)
    finish(do_run(store, given, shard_size=2), given)
    committed = contents(store)
    # b heals; c fails otherwise, then heals; d is left alone, then fails otherwise.
    inputs["b"], inputs["c"] = Given(data=png(3)), lost(Failure.CONNECTION)
    finish(do_run(store, given, retry=failed(store, "timeout")), given)
    second = DataSet.read(str(tmp_path))
    assert second.failed == {"c": "connection", "d": "not_found"}
    inputs["c"], inputs["d"] = Given(data=png(2)), lost(Failure.FORBIDDEN)
    finish(do_run(store, given, retry=failed(store)), given)
    third = DataSet.read(str(tmp_path))
    assert third.failed == {"d": "forbidden"}
    assert sorted(splits(third)) == ["a", "b", "c", "e"]
    assert copies(third) == {"c": "e"}
    assert third.summary["failures"] == {"forbidden": 1}
    after = contents(store)
    kept = ("images/", "ledger/", "contents/", "commits/", "plan/")
    assert all(after[name] == data for name, data in committed.items() if name.startswith(kept))


def test_extending_adds_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    inputs = {"b": Given(data=png(1)), "c": lost(Failure.DNS), "d": Given(data=png(2))}
    given = task(inputs)
    finish(do_run(store, given), given)
    first = DataSet.read(str(tmp_path))
    # New names sort before and between the old ones.
    inputs |= {"a": Given(data=png(1)), "bb": Given(data=png(3)), "cc": lost(Failure.TIMEOUT)}
    finish(do_run(store, given), given)
    found = DataSet.read(str(tmp_path))
    assert found.summary["inputs"] == 6
    assert found.failed == {"c": "dns", "cc": "timeout"}
    # What was seen first stays the first, whatever its name.
    assert copies(found) == {"a": "b"}
    old = {row["url"]: row for row in first.images}
    assert {row["url"]: row for row in found.images if row["url"] in old} == old


def test_a_later_round_marks_earlier_parts_again_and_takes_marks_back(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    by_person = Splits(val_fraction=0.5, group_by=r"^(\w+)-", columns=())
    names = [f"{person}-{number}" for person in "abcdefgh" for number in (1, 2)]
    inputs = {name: Given(data=png(seed)) for seed, name in enumerate(names)}
    given = task(inputs, splits=by_person)
    finish(do_run(store, given, shard_size=4), given)
    plain = contents(store)
    first = splits(DataSet.read(str(tmp_path)))
    val, train = (
        next(name for name in names if first[name] == split) for split in ("val", "train")
    )
    # An image of one person is one of another's too: all of both must be in one split.
    inputs["joined-1"] = Given(data=inputs[val].data)
    inputs["joined-2"] = Given(data=inputs[train].data, split="test")
    finish(do_run(store, given, shard_size=4), given)
    found = DataSet.read(str(tmp_path))
    second = splits(found)
    linked = {name for name in second if name[:2] in (val[:2], train[:2]) or name[:2] == "jo"}
    assert {second[name] for name in linked} == {"test"}
    assert all(second[name] == first[name] for name in names if name not in linked)
    assert copies(found) == {"joined-1": val, "joined-2": train}
    moved = {name for name in plain if name.startswith("images/")} - set(found.names)
    assert len(moved) == len({names.index(val) // 4, names.index(train) // 4})

    # The commits of the second round go; what the first one committed stands again.
    run = open_run(store)
    gone = [run.rounds[1].key, *(f"commits/{run.plan_ids[1]}-{4 + n:06}.json" for n in range(1))]
    gone += [name for name in found.names if "/part-000004-" in name]
    store.delete(["_SUCCESS", *gone])
    summary, parts = finish_data_set(given, open_run(store), map)
    open_run(store).finish(summary, {}, parts=parts)
    after = contents(store)
    assert {name: after[name] for name in plain if name.startswith("images/")} == {
        name: data for name, data in plain.items() if name.startswith("images/")
    }
    assert splits(DataSet.read(str(tmp_path))) == first


def test_twice_is_the_same_to_the_byte(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    inputs = {f"{number}": Given(data=png(number % 7)) for number in range(20)}
    inputs |= {"x": lost(Failure.DNS), "y": Given(data=png(1), split="test")}
    given = task(inputs)
    run = do_run(store, given)
    summary = finish(run, given)
    before = contents(store)
    assert finish_data_set(given, open_run(store), map)[0] == summary
    assert finish(open_run(store), given) == summary
    assert contents(store) == before
    # And so is another run of the same inputs.
    other = open_store(str(tmp_path.with_name("other")))
    finish(do_run(other, given), given)
    names = ("images/", "contents/", "ledger/", "failures/", "near", "dataset.json")
    assert {name: data for name, data in contents(other).items() if name.startswith(names)} == {
        name: data for name, data in before.items() if name.startswith(names)
    }


def test_a_killed_last_pass_is_done_again(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    inputs = {f"{number}": Given(data=png(number % 3)) for number in range(9)}
    given = task(inputs)
    run = do_run(store, given)
    finish_data_set(given, run, map)  # never finished
    marked = contents(store)
    finish(open_run(store), given)
    assert len(copies(DataSet.read(str(tmp_path)))) == 6
    whole = contents(store)
    assert set(whole) - set(marked) == {"_SUCCESS", "dataset.json", "run.json"}
    # Killed while it removed what gave way: some parts, but not all, are gone.
    store.delete(["_SUCCESS"])
    finish(open_run(store), given)
    assert contents(store) == whole


def test_inputs_that_were_done_one_by_one_are_marked_alike(tmp_path: Path) -> None:
    inputs = {f"{number}": Given(data=png(number % 4)) for number in range(8)}
    inputs["3"] = lost(Failure.WORKER_CRASH)
    given = task(inputs)
    found = []
    for apart in (False, True):
        store = open_store(str(tmp_path / str(apart)))
        finish(do_run(store, given, shard_size=5, apart=apart), given)
        found.append(contents(store))
    images = [
        {name: data for name, data in each.items() if name.startswith(("images/", "dataset"))}
        for each in found
    ]
    assert images[0] == images[1]
    DataSet.read(str(tmp_path / "True")).check_splits()


@pytest.mark.parametrize("table", ["contents", "ledger"])
def test_counts_that_do_not_add_up_end_the_run(tmp_path: Path, table: str) -> None:
    store = open_store(str(tmp_path))
    given = task({"a": Given(data=png(1)), "b": lost(Failure.DNS), "c": Given(data=png(2))})
    run = do_run(store, given)
    (shard,) = run.shards()
    (commit,) = run.commits()
    store.delete([f"commits/{shard.plan_id}-{shard.number:06}.json"])
    parts = tuple(part for part in commit.parts if not part.startswith(f"{table}/"))
    commit_shard(store, shard, type(commit)(shard=shard.number, parts=parts))
    with pytest.raises(StorageError, match=r"are not the 3 inputs of the plan"):
        finish(open_run(store), given)
    assert not store.exists("_SUCCESS")


def test_pictures_that_look_alike_are_listed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    pixels, other = noise(1, 8, 8), noise(1, 8, 8)
    other[0, 0] ^= 1
    inputs = {"a": Given(data=encode(pixels, "png")), "b": Given(data=encode(other, "png"))}
    inputs |= {"c": Given(data=png(9, 8, 8)), "d": Given(data=png(1, 8, 8))}
    given = task(inputs)
    summary = finish(do_run(store, given), given)
    rows = pq.read_table(io.BytesIO(store.read(NEAR_DUPLICATES).data)).to_pylist()
    ids = {row["image_id"]: row["url"] for row in DataSet.read(str(tmp_path)).images}
    assert [{ids[row["image_id"]], ids[row["near_image_id"]]} for row in rows] == [{"a", "b"}]
    assert summary["near_duplicate_pairs"] == 1


def test_marks_say_which_part_took_the_place_of_which(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    given = task({"a": Given(data=png(1)), "b": Given(data=png(1))})
    run = do_run(store, given)
    (commit,) = run.commits()
    finish(run, given)
    names = DataSet.read(str(tmp_path)).names
    (mark,) = (name for name in names if name.startswith("marks/"))
    (image,) = (name for name in names if name.startswith("images/"))
    assert json.loads(store.read(mark).data) == {"part": image}
    assert image not in commit.parts
