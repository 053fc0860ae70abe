"""What became of every input over all rounds."""

import random
from collections import Counter
from pathlib import Path

import pytest

from redaction_core.commits import Commit, commit_shard
from redaction_core.errors import Failure, StorageError
from redaction_core.ledger import Ledger
from redaction_core.plan import PlannedInput
from redaction_core.schemas import FAILURES
from redaction_core.sources.row_index import image_id
from redaction_core.storage import Store, open_store
from tests.unit.small_data_set import Given, do_run, lost, open_run, png, task


def last_words(store: Store) -> dict[str, tuple[str, int]]:
    """Failure and shard by name."""
    with Ledger.open(open_run(store)) as ledger:
        found = {
            row["url"]: (row["failure"], shard) for shard, rows in ledger.failures() for row in rows
        }
        assert len(found) == ledger.number("select count(*) from failed")
        return found


def failed(store: Store, *classes: str) -> list[PlannedInput]:
    with Ledger.open(open_run(store)) as ledger:
        return list(ledger.failed_inputs(classes))


def test_the_last_round_has_the_last_word(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    inputs = {"a": Given(data=png(1)), "b": lost(Failure.TIMEOUT), "c": lost(Failure.DNS)}
    inputs |= {"d": lost(Failure.TIMEOUT), "e": lost(Failure.NOT_FOUND)}
    given = task(inputs)
    do_run(store, given, shard_size=2)
    assert last_words(store) == {
        "b": ("timeout", 0),
        "c": ("dns", 1),
        "d": ("timeout", 1),
        "e": ("not_found", 2),
    }
    inputs["b"], inputs["d"] = Given(data=png(2)), lost(Failure.CONNECTION)
    do_run(store, given, retry=failed(store, "timeout"), shard_size=2)
    assert last_words(store) == {"c": ("dns", 1), "d": ("connection", 3), "e": ("not_found", 2)}
    inputs["d"] = lost(Failure.TIMEOUT)
    do_run(store, given, retry=failed(store, "connection", "not_found"), shard_size=2)
    # Both were tried again; what they say stands in the later shard.
    assert last_words(store) == {"c": ("dns", 1), "d": ("timeout", 4), "e": ("not_found", 4)}


def test_failed_inputs_are_those_of_the_classes_as_they_were_planned(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    chance = random.Random(0)
    kinds = (None, Failure.TIMEOUT, Failure.DNS, Failure.SERVER_ERROR)
    inputs = {
        f"{number:02}": lost(kind) if (kind := chance.choice(kinds)) else Given(data=png(number))
        for number in range(40)
    }
    inputs["planned"] = Given(planned=Failure.BAD_URL)
    given = task(inputs)
    do_run(store, given, shard_size=7)
    planned = {item.key: item for item in given.source.planned()}
    of_class: dict[str, set[str]] = {}
    for name, each in inputs.items():
        if kind := each.planned or (each.error and each.error.failure):
            of_class.setdefault(str(kind), set()).add(name)
    every = [item.key for item in failed(store)]
    assert Counter(every) == Counter(name for names in of_class.values() for name in names)
    for kind, names in of_class.items():
        found = failed(store, kind)
        assert {item.key for item in found} == names
        assert all(item == planned[item.key] for item in found)
    both = {item.key for item in failed(store, "timeout", "dns")}
    assert both == of_class["timeout"] | of_class["dns"]
    assert failed(store, "rate_limited") == []


def test_an_input_tried_again_is_found_in_its_last_round(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    inputs = {name: lost(Failure.TIMEOUT) for name in "abcdef"}
    given = task(inputs)
    do_run(store, given, shard_size=4)
    for left in ("bcdef", "def", "f", ""):
        for name in inputs.keys() - set(left):
            inputs[name] = Given(data=png(ord(name)))
        do_run(store, given, retry=failed(store, "timeout"), shard_size=2)
        assert {item.key for item in failed(store)} == set(left)
    assert open_run(store).inputs == 6


def test_failures_come_by_shard_and_id_with_all_that_is_known(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    given = task({f"{number:02}": lost(Failure.DNS, f"no {number}") for number in range(20)})
    do_run(store, given, shard_size=6)
    with Ledger.open(open_run(store)) as ledger:
        found = list(ledger.failures())
        assert ledger.counts("select failure, count(*) from failed group by all") == {"dns": 20}
    assert [shard for shard, _ in found] == [0, 1, 2, 3]
    for _, rows in found:
        assert [row["image_id"] for row in rows] == sorted(row["image_id"] for row in rows)
        assert all(list(row) == FAILURES.names for row in rows)
    (row,) = (row for _, rows in found for row in rows if row["url"] == "07")
    assert row == {
        "image_id": image_id("07"),
        "url": "07",
        "failure": "dns",
        "detail": "no 7",
        "http_status": 200,
        "attempts": 2,
        "bytes": 0,
        "seconds": 1.5,
    }


def test_rows_know_their_shard_and_their_place_there(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    given = task({f"{number}": Given(data=png(number)) for number in range(7)})
    do_run(store, given, shard_size=3)
    with Ledger.open(open_run(store)) as ledger:
        query = "select shard, row, image_id from contents order by shard, row"
        assert list(ledger.rows(query)) == [
            (number // 3, number % 3, image_id(f"{number}")) for number in range(7)
        ]


@pytest.mark.parametrize("bad", [False, True])
def test_tables_without_any_row_are_there(tmp_path: Path, *, bad: bool) -> None:
    store = open_store(str(tmp_path))
    do_run(store, task({"a": lost(Failure.DNS) if bad else Given(data=png(1))}))
    with Ledger.open(open_run(store)) as ledger:
        assert ledger.number("select count(*) from contents") == 1 - bad
        assert ledger.number("select count(*) from failed") == bad
        assert len(list(ledger.failures())) == bad


def test_more_shards_than_are_read_ahead(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    given = task({f"{number:03}": lost(Failure.DNS) for number in range(80)})
    do_run(store, given, shard_size=1)
    assert {shard for _, shard in last_words(store).values()} == set(range(80))


def test_a_shard_without_commit_ends_it(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    given = task({"a": lost(Failure.DNS)})
    run = do_run(store, given)
    (shard,) = run.shards()
    store.delete([f"commits/{shard.plan_id}-{shard.number:06}.json"])
    with pytest.raises(StorageError, match="shard 0 is not done"), Ledger.open(run):
        pass


def test_a_damaged_part_is_one_line(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    run = do_run(store, task({"a": lost(Failure.DNS)}))
    (commit,) = run.commits()
    (part,) = commit.parts
    store.put(part, b"nothing of Parquet's")
    with pytest.raises(StorageError, match=r"\Aledger/\S+ in \S+ is damaged\Z"), Ledger.open(run):
        pass


def test_what_lies_beside_the_commits_counts_for_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    given = task({"a": lost(Failure.DNS), "b": Given(data=png(1))})
    run = do_run(store, given)
    (commit,) = run.commits()
    # Parts of an attempt that never committed.
    for part in commit.parts:
        table = part.partition("/")[0]
        store.put(f"{table}/part-000000-{'0' * 16}.parquet", store.read(part).data)
    shard = next(run.shards())
    commit_shard(store, shard, Commit(shard=0, parts=("ledger/other",)))  # it is done already
    with Ledger.open(run) as ledger:
        assert ledger.number("select count(*) from contents") == 1
        (parts,) = ledger.shards()
        assert parts.key("images") in commit.parts
        assert parts.key("failures") is None
