"""The index of a data set: which rows are seen, what it is, and what is refused."""

import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redaction_core.commits.parts import part_bytes, read_part
from redaction_core.errors import UsageError
from redaction_core.storage import open_store
from redaction_core.training.samples import Rows, read_all, read_samples, some_rows
from tests.unit.training_sets import noise_images, write_data_set


def test_rows_are_those_of_the_split_that_repeat_nothing(tmp_path: Path) -> None:
    images = noise_images(23, 8)
    images[9] = images[10] = images[0]
    splits = [("train", "val", "test", "train")[number % 4] for number in range(23)]
    splits[9] = splits[10] = "train"
    write_data_set(str(tmp_path), images, splits=splits, shard_size=6)
    found = read_samples(str(tmp_path))
    assert [part.rows for part in found.parts] == [6, 6, 6, 5]
    assert (found.side, found.channels) == (8, 1)
    seen: dict[str, list[str]] = {"train": [], "val": []}
    tables = [
        pq.read_table(io.BytesIO(found.store.read(part.key).data)).to_pylist()
        for part in found.parts
    ]
    for split, rows in (("train", found.train), ("val", found.val)):
        for part, row in zip(rows.parts.tolist(), rows.rows.tolist(), strict=True):
            assert tables[part][row]["split"] == split
            assert tables[part][row]["duplicate_of"] is None
            seen[split].append(tables[part][row]["url"])
    given = {f"{number:04}": split for number, split in enumerate(splits)}
    wanted = {
        split: [name for name, its in given.items() if its == split and name not in skipped]
        for split, skipped in (("train", {"0009", "0010"}), ("val", set()))
    }
    assert seen == wanted


def test_the_fingerprint_is_of_the_contents_alone(tmp_path: Path) -> None:
    write_data_set(str(tmp_path / "a"), noise_images(8, 8))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    write_data_set(str(tmp_path / "c"), noise_images(7, 8))
    a, b, c = (read_samples(str(tmp_path / name)) for name in "abc")
    assert a.fingerprint == b.fingerprint != c.fingerprint
    again = pickle.loads(pickle.dumps(a))  # noqa: S301 - our own
    assert again.fingerprint == a.fingerprint
    assert np.array_equal(again.train.rows, a.train.rows)


def test_colour_and_files_of_others(tmp_path: Path) -> None:
    write_data_set(str(tmp_path), noise_images(4, 8, colour=True))
    (tmp_path / "images" / "mine.parquet").write_bytes(b"no table")
    found = read_samples(str(tmp_path))
    assert found.channels == 3
    assert len(found.parts) == 1


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("no folder", "no such folder"),
        ("unfinished", "no finished data set"),
        ("no summary", "no data set that jobs.ingest wrote"),
        ("damaged summary", "dataset.json in .* is damaged"),
        ("odd summary", "dataset.json in .* is damaged"),
        ("damaged part", r"images/part-\S+ in .* is damaged"),
        ("other table", r"images/part-\S+ in .* is damaged"),
        ("lost part", "has 3 images, and says that it has 4: make the data set again"),
        ("no train", "no images to train on"),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(tmp_path: Path, damage: str, says: str) -> None:
    location = tmp_path / "set"
    if damage != "no folder":
        splits = ["val" if damage == "no train" else "train"] * 4
        size = 3 if damage == "lost part" else 4
        write_data_set(str(location), noise_images(4, 8), splits=splits, shard_size=size)
        store = open_store(str(location))
        part, *more = (entry.key for entry in store.list("images/"))
        store.delete(more)
        if damage == "unfinished":
            store.delete(["_SUCCESS"])
        elif damage == "no summary":
            store.delete(["dataset.json"])
        elif damage == "damaged summary":
            store.put("dataset.json", b"{")
        elif damage == "odd summary":
            store.put("dataset.json", b'{"transform": {"size": "8", "color": "gray"}}')
        elif damage == "damaged part":
            store.put(part, store.read(part).data[:-9])
        elif damage == "other table":
            (other,) = (entry.key for entry in store.list("contents/"))
            store.put(part, store.read(other).data)
    with pytest.raises(UsageError, match=says) as caught:
        read_samples(str(location))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 40, 100, 1000])
def test_some_rows_are_spread_over_parts_but_not_thinly(count: int) -> None:
    parts = np.repeat(np.arange(12, dtype=np.int32), [0, 40, 3, 40, 40, 0, 1, 40, 40, 40, 40, 40])
    rows = Rows(
        parts=parts,
        rows=np.arange(len(parts), dtype=np.int32),
        sources=np.arange(len(parts), dtype=np.uint64),
    )
    chosen = some_rows(rows, count, seed=3)
    assert len(chosen) == min(count, len(rows))
    # In order, and none twice.
    assert (np.diff(chosen.rows) > 0).all()
    assert np.array_equal(parts[chosen.rows], chosen.parts)
    touched = len(np.unique(chosen.parts))
    assert touched <= -(-count // 16) + 2  # two parts have fewer than 16
    if count == 100:
        assert touched >= 6
        assert not np.array_equal(some_rows(rows, count, seed=4).rows, chosen.rows)
    assert np.array_equal(some_rows(rows, count, seed=3).rows, chosen.rows)


def test_no_rows_give_none() -> None:
    none = np.empty(0, np.int32)
    empty = Rows(parts=none, rows=none, sources=none.astype(np.uint64))

    assert len(some_rows(empty, 5, seed=0)) == 0


def test_what_one_data_set_learns_another_does_not_validate_on(tmp_path: Path) -> None:
    """The same files at two sizes: each set has splits of its own."""
    images = noise_images(6, 16)
    write_data_set(str(tmp_path / "one"), images, splits=["train"] * 4 + ["val"] * 2)
    write_data_set(
        str(tmp_path / "two"), images, splits=["val", "val", "train", "val", "train", "val"]
    )

    one, two = read_all(str(tmp_path / name) for name in ("one", "two"))

    alone = read_samples(str(tmp_path / "two"))
    assert (len(one.train), len(two.train), len(alone.val)) == (4, 2, 4)
    # The fifth image is learnt from in the second set, the first two and the fourth in the first.
    assert len(one.val) == len(two.val) == 1
    assert one.val.sources.tolist() == two.val.sources.tolist()
    assert not set(two.val.sources.tolist()) & set(one.train.sources.tolist())


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("source_sha256", pa.array([None, None, None], pa.string())),
        ("source_sha256", pa.array(["not a hash!"] * 3)),
        ("split", pa.array([1, 2, 3])),
    ],
)
def test_odd_columns_are_one_line(tmp_path: Path, column: str, values: pa.Array) -> None:
    write_data_set(str(tmp_path / "set"), noise_images(3, 16), splits=["train"] * 3)
    (part,) = (tmp_path / "set" / "images").iterdir()
    table = read_part(part.read_bytes())
    table = table.set_column(table.schema.get_field_index(column), column, values)
    part.write_bytes(part_bytes(table, table.schema))

    with pytest.raises(UsageError, match="is damaged: make the data set again"):
        read_samples(str(tmp_path / "set"))


def test_damaged_parquet_is_one_line(tmp_path: Path) -> None:
    write_data_set(str(tmp_path / "set"), noise_images(3, 16))
    (part,) = (tmp_path / "set" / "images").iterdir()
    data = bytearray(part.read_bytes())
    data[-40:-8] = b"\xff" * 32
    part.write_bytes(data)

    with pytest.raises(UsageError, match="is damaged: make the data set again"):
        read_samples(str(tmp_path / "set"))
