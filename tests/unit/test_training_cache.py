"""Files that processes share: whole or not there, made once, the least recently used make room."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from redaction_core.errors import StorageError
from redaction_core.training.cache import FileCache
from tests.unit.conftest import ROOT


def put(cache: FileCache, name: str, data: bytes) -> bool:
    return cache.make(name, len(data), lambda file: file.write(data) and None)


def get(cache: FileCache, name: str) -> bytes | None:
    path = cache.path(name)
    return None if path is None else path.read_bytes()


def names(folder: Path) -> set[str]:
    return {path.name.partition("-")[0] for path in folder.iterdir()} - {"lock"}


def test_a_file_is_made_once(tmp_path: Path) -> None:
    cache, other = FileCache(tmp_path / "a" / "b"), FileCache(tmp_path / "a" / "b")
    assert cache.path("x") is None
    assert put(cache, "x", b"first")
    assert put(other, "x", b"again")
    assert get(cache, "x") == get(other, "x") == b"first"
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 1000)
    for age, name in enumerate("abc"):
        put(cache, name, bytes(300))
        # As if this had been some time ago.
        path = cache.path(name)
        assert path is not None
        os.utime(path, (age, age))
    other = FileCache(tmp_path, 1000)
    assert other.path("a") is not None  # used again, by another process
    put(cache, "d", bytes(300))
    assert names(tmp_path) == {"a", "c", "d"}
    assert cache.path("b") is None
    put(cache, "e", bytes(700))
    assert "e" in names(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000


def test_a_file_that_was_removed_can_be_read_on_by_who_has_it_open(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 10)
    put(cache, "a", b"12345678")
    path = cache.path("a")
    assert path is not None
    with path.open("rb") as file:
        put(cache, "b", b"87654321")
        assert cache.path("a") is None
        assert file.read() == b"12345678"


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)

    def broken(file: BinaryIO) -> None:
        file.write(b"half")
        raise ValueError("as told")

    with pytest.raises(ValueError, match="as told"):
        cache.make("a", 8, broken)
    assert names(tmp_path) == set()
    assert put(cache, "a", b"12345678")


def test_while_one_makes_it_others_are_told_so(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    begun, go_on = threading.Event(), threading.Event()

    def slow(file: BinaryIO) -> None:
        file.write(b"1234")
        begun.set()
        go_on.wait(30)
        file.write(b"5678")

    maker = threading.Thread(target=cache.make, args=("a", 8, slow))
    maker.start()
    assert begun.wait(30)
    assert not put(FileCache(tmp_path), "a", b"another!")
    assert cache.path("a") is None
    # Room is never made by taking what is being made.
    put(FileCache(tmp_path), "b", b"1234")
    (half,) = tmp_path.glob("*.pixels-half")
    os.utime(half, (1, 1))
    put(FileCache(tmp_path, 13), "c", b"1234")
    assert names(tmp_path) == {"a", "c"}
    go_on.set()
    maker.join()
    assert get(cache, "a") == b"12345678"


MAKER = """
import sys, time
from pathlib import Path
from redaction_core.training.cache import FileCache

def write(file):
    file.write(b"half")
    file.flush()
    print("begun", flush=True)
    time.sleep(600)

FileCache(Path(sys.argv[1])).make("a", 8, write)
"""


@pytest.mark.parametrize("again", [True, False])
def test_a_killed_maker_leaves_no_file_and_no_lock(tmp_path: Path, *, again: bool) -> None:
    cache = FileCache(tmp_path, 10)
    command = [sys.executable, "-c", MAKER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "begun\n"
        assert cache.path("a") is None
        assert not put(cache, "a", b"12345678")
        maker.kill()
    assert cache.path("a") is None
    if again:
        assert put(cache, "a", b"12345678")
        assert get(cache, "a") == b"12345678"
    else:  # nobody wants it any more: it makes room
        assert put(cache, "b", b"12345678")
        assert names(tmp_path) == {"b"}


SHARER = """
import sys
from pathlib import Path
from redaction_core.training.cache import FileCache

cache = FileCache(Path(sys.argv[1]), 3000)
made = 0
for turn in range(400):
    name = str(turn * 7 % 10)

    def write(file):
        global made
        made += 1
        file.write(name.encode() * 500)
        file.write(name.encode() * 500)

    path = cache.path(name)
    if path is None and cache.make(name, 1000, write):
        path = cache.path(name)
    if path is not None:
        try:
            assert path.read_bytes() == name.encode() * 1000
        except FileNotFoundError:
            pass
print(made)
"""


def test_processes_share_and_never_see_a_part(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHARER, str(tmp_path)]
    sharers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    made = [int(sharer.communicate()[0]) for sharer in sharers]
    assert all(sharer.returncode == 0 for sharer in sharers)
    assert all(made)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_bytes(bytes(5000))
    cache = FileCache(tmp_path, 10)
    put(cache, "a", b"12345678")
    put(cache, "b", b"12345678")
    assert names(tmp_path) == {"thesis.txt", "b"}


def test_another_boot_has_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(FileCache(tmp_path), "a", b"12345678")
    monkeypatch.setattr("redaction_core.training.cache._boot", lambda: "fedcba98")
    assert FileCache(tmp_path).path("a") is None


def test_a_folder_that_cannot_be_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot keep decoded images in .*/file") as caught:
        FileCache(tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_no_room_is_told_in_one_line(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(StorageError, match="No space left on device; free some space there"),
    ):
        cache.make("a", 4, lambda _: full.write(b"1234") and None)
    assert names(tmp_path) == set()


def test_a_use_is_noted_at_most_once_a_second(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    put(cache, "a", b"1")
    path = cache.path("a")
    assert path is not None
    os.utime(path, (1, 1))
    assert cache.path("a") == path
    if time.monotonic() - cache._touched["a"] < 1:  # noqa: SLF001
        assert path.stat().st_mtime == 1
    path.unlink()
    assert cache.path("a") is None
