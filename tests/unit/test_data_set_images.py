"""Rows of a data set read as files: every one, in order, and never those of another data set."""

import io
import pickle
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from redaction_core.data_set_images import DataSetImages, open_inputs
from redaction_core.errors import Failure, InputError, ObjectMissingError, UsageError
from redaction_core.storage import DiskStore, Store, open_store
from tests.unit.small_data_set import Given, do_run, noise, png, task
from tests.unit.training_sets import noise_images, write_data_set


def rows_of(store: Store) -> list[dict[str, Any]]:
    parts = [store.read(entry.key).data for entry in store.list("images/")]
    return [row for part in parts for row in pq.read_table(io.BytesIO(part)).to_pylist()]


def parts_of(folder: Path) -> list[Path]:
    return sorted((folder / "images").iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_data_set(str(tmp_path / "set"), noise_images(12, 16), shard_size=5)
    return tmp_path / "set"


def check(location: str, count: int) -> None:
    found = open_inputs(location)
    assert isinstance(found, DataSetImages)
    entries, rows = list(found.list()), rows_of(open_store(location))
    keys = [entry.key for entry in entries]
    assert keys == sorted(set(keys))
    assert len(keys) == len(rows) == count
    # From the last to the first: whatever is kept is of another place.
    for entry, row in zip(entries[::-1], rows[::-1], strict=True):
        assert row["image_id"] in entry.key
        blob = found.read(entry.key)
        assert (blob.data, blob.version) == (row["image"]["bytes"], entry.version)


def test_every_row_is_an_image_in_the_order_of_keys(folder: Path) -> None:
    check(str(folder), 12)


def test_rows_of_a_bucket_are_read_as_those_of_a_folder(s3_location: str) -> None:
    write_data_set(s3_location, noise_images(12, 16), shard_size=5)
    check(s3_location, 12)


def test_parts_of_several_row_groups_are_read_whole(tmp_path: Path) -> None:
    write_data_set(str(tmp_path), noise_images(600, 8), shard_size=600)
    (part,) = parts_of(tmp_path)
    assert pq.read_metadata(part).num_row_groups == 3
    check(str(tmp_path), 600)


def test_sizes_are_near_those_of_the_images(folder: Path) -> None:
    sizes = [entry.size for entry in open_inputs(str(folder)).list()]
    true = [len(row["image"]["bytes"]) for row in rows_of(DiskStore(str(folder)))]
    assert sum(sizes) == pytest.approx(sum(true), rel=0.2)


def test_another_process_reads_the_same(folder: Path) -> None:
    found = open_inputs(str(folder))
    key = next(iter(found.list())).key
    data = found.read(key).data
    assert pickle.loads(pickle.dumps(found)).read(key).data == data  # noqa: S301 - our own


def test_a_data_set_made_anew_has_other_versions(folder: Path) -> None:
    before = {entry.key: entry.version for entry in open_inputs(str(folder)).list()}
    for part in parts_of(folder):
        part.unlink()
    write_data_set(str(folder.parent / "new"), noise_images(24, 16)[12:], shard_size=5)
    for part in parts_of(folder.parent / "new"):
        part.rename(folder / "images" / part.name)
    found = open_inputs(str(folder))
    assert all(found.read(key).version != version for key, version in before.items())


def test_a_part_that_is_gone_or_damaged_is_said(folder: Path) -> None:
    first, second, _ = parts_of(folder)
    keys = [entry.key for entry in open_inputs(str(folder)).list()]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-50])
    found = open_inputs(str(folder))
    with pytest.raises(ObjectMissingError, match="part-000000"):
        found.read(keys[0])
    with pytest.raises(InputError, match=r"part-000001.* is damaged") as caught:
        found.read(keys[5])
    assert caught.value.failure is Failure.UNREADABLE
    assert found.read(keys[10]).data
    with pytest.raises(UsageError, match=r"part-000001.*: make the data set again"):
        list(found.list())


def test_the_limit_of_bytes_is_that_of_a_row(folder: Path) -> None:
    found = open_inputs(str(folder))
    key = next(iter(found.list())).key
    size = len(found.read(key).data)
    assert found.read(key, max_bytes=size).data
    with pytest.raises(InputError) as caught:
        found.read(key, max_bytes=size - 1)
    assert caught.value.failure is Failure.TOO_MANY_BYTES


def test_any_other_folder_is_one_of_files(tmp_path: Path) -> None:
    assert isinstance(open_inputs(str(tmp_path)), DiskStore)
    (tmp_path / "dataset.json").write_bytes(b"{}")
    (tmp_path / "plan.json").write_bytes(b"[1]")
    assert isinstance(open_inputs(str(tmp_path)), DiskStore)


def test_a_data_set_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    made = task({"a": Given(data=png(1), pixels=noise(1))})
    do_run(DiskStore(str(tmp_path)), made, shard_size=5)
    with pytest.raises(
        UsageError, match=r"is no finished data set .*jobs\.ingest again to its end"
    ):
        open_inputs(str(tmp_path))
