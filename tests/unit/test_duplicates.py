"""The last pass: the same contents, and splits that do not leak, over several rounds."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from redaction_core import schemas
from redaction_core.commits import Commit, Layout, Run, commit_shard, part_bytes, part_key
from redaction_core.duplicates import find_duplicates, marks, near_duplicates
from redaction_core.ledger import Ledger
from redaction_core.plan import PlannedInput
from redaction_core.storage import open_store

LAYOUT = Layout(tables=("images", "failures", "ledger", "contents"), summary="dataset.json")


@dataclass(frozen=True, kw_only=True)
class Image:
    content: str
    unit: str
    split: str = "train"
    fixed: bool = False
    looks: int = 0


def committed(folder: Path, shards: Sequence[Sequence[Image]]) -> Run:
    """Commit shards of a data set with nothing but their table of contents."""
    store = open_store(str(folder))
    run = Run(store, "ingest", {}, layout=LAYOUT)
    plan = [
        [PlannedInput(key=f"{shard:03}-{row:03}", size=1, version="") for row in range(len(images))]
        for shard, images in enumerate(shards)
    ]
    run.add_round(iter(plan), shard_size=max(map(len, shards)))
    for ref, images in zip(run.shards(), shards, strict=True):
        rows = [
            {
                "image_id": f"{ref.number:03}-{row:03}",
                "content": image.content,
                "unit": image.unit,
                "split": image.split,
                "fixed": image.fixed,
                "difference_hash": image.looks,
            }
            for row, image in enumerate(images)
        ]
        data = part_bytes(rows, schemas.CONTENTS)
        part = part_key("contents", ref.number, data)
        store.put_if_absent(part, data)
        commit_shard(store, ref, Commit(shard=ref.number, parts=(part,)))
    return run


def marked(run: Run) -> dict[tuple[int, int], tuple[str | None, str]]:
    with Ledger.open(run) as ledger:
        find_duplicates(ledger)
        return {
            (shard, row): (duplicate, split)
            for shard, columns in marks(ledger)
            for row, (duplicate, split) in enumerate(
                zip(columns["duplicate_of"], columns["split"], strict=True)
            )
        }


def test_what_was_seen_first_has_the_others_for_duplicates(tmp_path: Path) -> None:
    a, b = Image(content="a", unit="a"), Image(content="b", unit="b")
    found = marked(committed(tmp_path, [[a, b], [b, b], [Image(content="c", unit="c")]]))
    assert found == {
        (1, 0): ("000-001", "train"),
        (1, 1): ("000-001", "train"),
    }


def test_the_source_s_test_split_takes_its_copies_with_it(tmp_path: Path) -> None:
    shards = [
        [Image(content="a", unit="a"), Image(content="b", unit="b", split="val")],
        [Image(content="a", unit="a", split="test", fixed=True)],
    ]
    found = marked(committed(tmp_path, shards))
    assert found == {
        (0, 0): (None, "test"),
        (0, 1): (None, "val"),
        (1, 0): ("000-000", "test"),
    }


@pytest.mark.parametrize("seed", range(5))
def test_no_content_and_no_group_is_in_two_splits(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    split_of = {unit: chance.choice(["train", "val"]) for unit in map(str, range(60))}
    shards = []
    for _ in range(12):
        images = []
        for _ in range(chance.randint(1, 20)):
            unit = str(chance.randrange(60))
            fixed = chance.random() < 0.05
            images.append(
                Image(
                    content=str(chance.randrange(150)),
                    unit=unit,
                    split="test" if fixed else split_of[unit],
                    fixed=fixed,
                )
            )
        shards.append(images)
    found = marked(committed(tmp_path, shards))
    splits: defaultdict[str, set[str]] = defaultdict(set)
    first: dict[str, str] = {}
    for shard, images in enumerate(shards):
        for row, image in enumerate(images):
            name = f"{shard:03}-{row:03}"
            duplicate, split = found.get((shard, row), (None, image.split))
            splits[f"content {image.content}"].add(split)
            splits[f"unit {image.unit}"].add(split)
            if image.fixed:
                assert split == "test"
            original = first.setdefault(image.content, name)
            assert duplicate == (original if original != name else None)
    assert all(len(each) == 1 for each in splits.values())
    assert {"train", "val", "test"} >= set().union(*splits.values())


def test_nothing_is_marked_where_nothing_is_to_be_said(tmp_path: Path) -> None:
    shards = [[Image(content="a", unit="u"), Image(content="b", unit="u")]]
    assert marked(committed(tmp_path, shards)) == {}


def test_pictures_that_look_alike_are_paired(tmp_path: Path) -> None:
    chance = random.Random(0)
    looks = [chance.getrandbits(64) - 2**63 for _ in range(200)]
    images = [Image(content=str(n), unit=str(n), looks=each) for n, each in enumerate(looks)]
    wanted = set()
    for number, flips in enumerate([(0,), (63,), (21, 42), (1, 2), (5, 30, 60)]):
        near = looks[number]
        for bit in flips:
            near ^= -(2**63) if bit == 63 else 1 << bit
        images.append(Image(content=f"near {number}", unit=f"near {number}", looks=near))
        if len(flips) <= 2:
            wanted.add((f"000-{number:03}", f"000-{len(images) - 1:03}", len(flips)))
    run = committed(tmp_path, [images])
    with Ledger.open(run) as ledger:
        find_duplicates(ledger)
        data, count = near_duplicates(ledger)
    import io

    import pyarrow.parquet as pq

    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    assert {tuple(row.values()) for row in rows} == wanted
    assert count == len(wanted)


def test_pictures_that_all_look_the_same_are_each_compared_once(tmp_path: Path) -> None:
    images = [Image(content=str(number), unit=str(number), looks=7) for number in range(500)]
    with Ledger.open(committed(tmp_path, [images])) as ledger:
        find_duplicates(ledger)
        _, count = near_duplicates(ledger)
    assert count == len(images) - 1


def test_what_may_have_been_trained_on_stays_in_train(tmp_path: Path) -> None:
    trained = Image(content="a", unit="z", split="train")
    later = [Image(content="a", unit="b", split="val"), Image(content="c", unit="b", split="val")]
    found = marked(committed(tmp_path, [[trained], later]))
    assert found == {(1, 0): ("000-000", "train"), (1, 1): (None, "train")}
