"""Parts that a last pass changes: columns, never rows, and never twice."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redaction_core import schemas
from redaction_core.commits import part_bytes, part_key
from redaction_core.commits.marking import Marks, mark
from redaction_core.errors import StorageError
from redaction_core.storage import Store, open_store

SCHEMA = schemas.dataset({"licence": "string"}, labels=True)


def row(number: int) -> dict[str, Any]:
    return {
        "image": {"bytes": bytes([number]) * 100, "path": f"{number}.png"},
        "image_id": f"{number:032}",
        "url": f"http://example.org/{number}",
        "source_sha256": "0" * 64,
        "source_width": 10,
        "source_height": 20,
        "split": "train",
        "label": None,
        "licence": "by",
        "duplicate_of": None,
    }


def committed(store: Store, rows: int = 600) -> Marks:
    data = part_bytes([row(number % 256) for number in range(rows)], SCHEMA)
    part = part_key("images", 3, data)
    store.put_if_absent(part, data)
    columns: dict[str, list[Any]] = {
        "duplicate_of": [None] * (rows - 1) + ["0" * 32],
        "split": ["val"] * rows,
    }
    return Marks(store=store, plan_id="0" * 16, shard=3, part=part, columns=columns)


def table(store: Store, key: str) -> pa.Table:
    return pq.read_table(io.BytesIO(store.read(key).data))


def test_a_part_that_came_late_is_not_taken_for_a_marked_copy(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    marks = committed(store)
    others = [committed(store, rows=rows).part for rows in range(1, 9)]
    first = mark(marks)
    store.delete([marks.part])
    again = mark(replace(marks, columns={**marks.columns, "split": ["test"] * 600}))
    assert min(others) < first != again
    assert table(store, again).num_rows == 600


def test_columns_change_and_nothing_else_does(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    marks = committed(store)
    before = table(store, marks.part)

    after = table(store, mark(marks))

    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.column("split").to_pylist() == ["val"] * 600
    assert after.column("duplicate_of").to_pylist() == marks.columns["duplicate_of"]
    for name in set(before.column_names) - set(marks.columns):
        assert after.column(name).equals(before.column(name))


def test_the_same_marks_are_found_and_not_made_again(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    marks = committed(store)
    first = mark(marks)
    store.delete([marks.part])
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert mark(marks) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == written


def test_other_marks_are_made_from_a_copy(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    marks = committed(store)
    mark(marks)
    plain: dict[str, list[Any]] = {"duplicate_of": [None] * 600, "split": ["train"] * 600}
    original = store.read(marks.part).data
    store.delete([marks.part])
    # What was committed comes back byte for byte when nothing is to be marked any more.
    assert mark(replace(marks, columns=plain)) == marks.part
    assert store.read(marks.part).data == original


def test_marks_that_lost_their_part_are_made_again(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    marks = committed(store)
    first = mark(marks)
    store.delete([first])
    assert mark(marks) == first
    assert store.exists(first)


def test_a_part_of_which_nothing_is_left_is_one_line(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    marks = committed(store)
    store.delete([marks.part])
    with pytest.raises(StorageError, match=r"is missing in .*--overwrite"):
        mark(marks)


def test_a_damaged_part_is_one_line(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    marks = committed(store)
    store.put(marks.part, b"nothing of Parquet's")
    with pytest.raises(StorageError, match="is damaged"):
        mark(marks)
