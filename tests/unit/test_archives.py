"""What is an archive, and reading its members again; the hostile parts are in its neighbours."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from redaction_core.archives import (
    Archive,
    Content,
    MemberReader,
    is_archive,
    label_and_split,
    open_archive,
)
from redaction_core.errors import Failure, InputError, UsageError
from redaction_core.storage import Store, open_file
from tests.archive_files import tar_bytes, zip_bytes

FILES = [
    (f"folder/{number:03d}.jpg", random.Random(number).randbytes(number * 37))
    for number in range(200)
]
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "two streams": lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:]),
    "two bzip2": lambda data: bz2.compress(data[:5000]) + bz2.compress(data[5000:]),
}


def put(folder: Path, data: bytes) -> tuple[Store, str]:
    (folder / "archive").write_bytes(data)
    return open_file(str(folder / "archive"))


def opened(folder: Path, data: bytes) -> Archive:
    return open_archive(*put(folder, data))


@pytest.mark.parametrize("packing", [*PACKINGS, "zip"])
def test_members_are_read_again_in_any_order(packing: str, tmp_path: Path) -> None:
    data = zip_bytes(FILES) if packing == "zip" else PACKINGS[packing](tar_bytes(FILES))
    store, key = put(tmp_path, data)
    assert is_archive(store, key)
    archive = open_archive(store, key)
    assert archive.format == ("zip" if packing == "zip" else "tar")
    members = list(archive.members())
    assert [(member.name, member.size) for member in members] == [
        (name, len(data)) for name, data in FILES
    ]
    assert all(member.problem is None for member in members)
    assert list(archive.members()) == members
    order = list(range(len(FILES)))
    for step in (order, order[::-20], order[7::3], [5, 5, 190, 5]):
        with MemberReader(store, key, version=store.entry(key).version) as reader:
            places = [members[at].place for at in step]
            found = list(reader.read_many(places, max_bytes=10_000))
        assert found == [Content(data=FILES[at][1]) for at in step]


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    others = {
        "text": b"hello" * 200,
        "empty": b"",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(600),
        "list.gz": gzip.compress(b"http://a\n" * 100),
        "cut.gz": gzip.compress(tar_bytes(FILES))[:20],
        "bz2": b"BZh" + bytes(600),
        "zst": b"\x28\xb5\x2f\xfd" + bytes(600),
    }
    for name, data in others.items():
        (tmp_path / name).write_bytes(data)
    for name in (*others, "folder", "nothing"):
        store, key = open_file(f"{tmp_path}/{name}")
        assert not is_archive(store, key)
        with pytest.raises(UsageError) as caught:
            open_archive(store, key)
        assert "\n" not in str(caught.value)


def test_an_archive_that_was_replaced(tmp_path: Path) -> None:
    store, key = put(tmp_path, tar_bytes(FILES))
    place = next(iter(open_archive(store, key).members())).place
    (tmp_path / "archive").unlink()
    reader = MemberReader(store, key, version="1")
    (gone,) = reader.read_many([place], max_bytes=10)
    assert isinstance(gone, InputError)
    assert gone.failure is Failure.NOT_FOUND
    put(tmp_path, tar_bytes(FILES[1:]))
    (changed,) = reader.read_many([place], max_bytes=10)
    assert isinstance(changed, InputError)
    assert changed.failure is Failure.INPUT_CHANGED
    reader.close()


@pytest.mark.parametrize("pack", [tar_bytes, zip_bytes])
def test_members_above_the_limit(pack: Callable[..., bytes], tmp_path: Path) -> None:
    store, key = put(tmp_path, pack([("large", b"x" * 1001), ("small", b"x" * 1000)]))
    places = [member.place for member in open_archive(store, key).members()]
    with MemberReader(store, key) as reader:
        large, small = reader.read_many(places, max_bytes=1000)
    assert isinstance(large, InputError)
    assert large.failure is Failure.TOO_MANY_BYTES
    assert small == Content(data=b"x" * 1000)


def test_threads_take_turns(tmp_path: Path) -> None:
    store, key = put(tmp_path, gzip.compress(tar_bytes(FILES)))
    places = [member.place for member in open_archive(store, key).members()]
    wrong: list[int] = []
    with MemberReader(store, key) as reader:

        def read(first: int) -> None:
            found = reader.read_many(places[first::4], max_bytes=10_000)
            expected = [Content(data=data) for _, data in FILES[first::4]]
            wrong.extend([first] if list(found) != expected else [])

        threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_packed_archive_is_unpacked_once(tmp_path: Path) -> None:
    store, key = put(tmp_path, gzip.compress(tar_bytes([("a", bytes(10**6))] * 20)))
    places = [member.place for member in open_archive(store, key).members()]
    count = 0

    class Counting(io.FileIO):
        def readinto(self, buffer: bytearray) -> int | None:  # type: ignore[override]
            nonlocal count
            found = super().readinto(buffer)
            count += found or 0
            return found

    size = (tmp_path / "archive").stat().st_size
    store.open = lambda _: io.BufferedReader(Counting(tmp_path / "archive"), 512)  # type: ignore[method-assign]
    with MemberReader(store, key) as reader:
        found = list(reader.read_many(places, max_bytes=10**6))
        assert found == [Content(data=bytes(10**6))] * 20
        assert count < 1.1 * size + 1024
        list(reader.read_many(places[:1], max_bytes=10**6))
        assert count > 1.01 * size


def test_what_macos_adds_and_folders_are_left_out(tmp_path: Path) -> None:
    names = ["__MACOSX/a", "x/._a.jpg", "._b", "x/.DS_Store", ".DS_Store", "x/_.jpg", "x/.hidden"]
    out = io.BytesIO(tar_bytes([(name, b"1") for name in names]))
    with tarfile.open(fileobj=out, mode="a") as archive:
        folder = tarfile.TarInfo("folder/")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    zipped = zip_bytes([*((name, b"1") for name in names), ("folder/", b"")])
    for data in (out.getvalue(), zipped):
        found = [member.name for member in opened(tmp_path, data).members()]
        assert found == ["x/_.jpg", "x/.hidden"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10/train/airplane/0001.jpg", ("airplane", None)),
        ("cifar10/test/airplane/0001.jpg", ("airplane", "test")),
        ("test/a b/x", ("a b", "test")),
        ("val/dog/x.png", ("dog", "val")),
        ("d/valid/dog/x.png", ("dog", "val")),
        ("d/validation/dog/x.png", ("dog", "val")),
        ("train/test/x.png", ("test", None)),
        ("train/test/dog/x.png", ("dog", "test")),
        ("retest/dog/x.png", (None, None)),
        ("test/x.png", (None, None)),
        ("test/dog/more/x.png", (None, None)),
        ("test/dog/", (None, None)),
        ("test//x.png", (None, None)),
    ],
)
def test_names_in_trees(name: str, expected: tuple[str | None, str | None]) -> None:
    assert label_and_split(name) == expected
