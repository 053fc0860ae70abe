"""Rows with their ids, on disk."""

import hashlib
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from redaction_core.errors import StorageError
from redaction_core.sources.row_index import RowIndex, image_id

ROWS = [("b", "1"), ("a", "2"), ("b", "3"), ("ü\0\n", "4"), ("", "5"), ("b", "6"), ("", "7")]


def test_rows_are_counted_by_name_and_found_by_id() -> None:
    with RowIndex.of(iter(ROWS)) as index:
        placed = list(index.in_place())
        assert [(row.name, row.payload) for row in placed] == ROWS
        assert [row.image_id for row in placed] == [
            image_id(name, [each for each, _ in ROWS[:place]].count(name))
            for place, (name, _) in enumerate(ROWS)
        ]
        assert list(index.by_id()) == sorted(placed)
        assert all(index.find(row.image_id) == row for row in placed)
        assert index.find("0" * 32) is None


def test_an_id_is_a_hash_of_name_and_place() -> None:
    assert image_id("http://x.org/a", 2) == hashlib.sha256(b"http://x.org/a\n2").hexdigest()[:32]


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with RowIndex.of(iter(ROWS)):
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_wide_rows_need_no_memory() -> None:
    code = """
import resource
from redaction_core.sources.row_index import RowIndex
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = ((f"http://x.org/{n}", str(n) * 2000) for n in range(20_000))
before = peak()
with RowIndex.of(rows) as index:
    assert sum(len(row.payload) for row in index.by_id()) > 150_000_000
print((peak() - before) // 1024)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 40


def test_a_full_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        rows = ((str(number), "x" * 1000) for number in range(5_000))
        with pytest.raises(StorageError, match=r"cannot sort in .*TMPDIR"), RowIndex.of(rows):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
