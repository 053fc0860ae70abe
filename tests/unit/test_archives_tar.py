"""Tar files of strangers."""

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import tarfile
from functools import partial
from pathlib import Path

import pytest
from isal import igzip

from redaction_core.archives import Content, Member, MemberReader, is_archive
from redaction_core.errors import Failure, InputError, UsageError
from redaction_core.storage import open_file
from tests.archive_files import END, pax, tar_block, tar_bytes, tar_member
from tests.unit.test_archives import FILES, opened

JPEG = b"\xff\xd8\xff pixels"


def members(folder: Path, data: bytes) -> list[Member]:
    return list(opened(folder, data).members())


def contents(folder: Path, data: bytes) -> list[bytes | Failure]:
    archive = opened(folder, data)
    places = [member.place for member in archive.members() if member.problem is None]
    with MemberReader(archive.store, archive.key) as reader:
        found = list(reader.read_many(places, max_bytes=10**6))
    return [one.data if isinstance(one, Content) else one.failure for one in found]


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_all_formats_agree_with_the_library(tar_format: int, tmp_path: Path) -> None:
    long = [("/".join(["folder"] * 30) + "/ü.jpg", JPEG)]
    files = FILES + long * (tar_format != tarfile.USTAR_FORMAT)
    data = tar_bytes(files, tar_format=tar_format)
    assert [member.name for member in members(tmp_path, data)] == [name for name, _ in files]
    assert contents(tmp_path, data) == [data for _, data in files]


def test_names_stay_data(tmp_path: Path) -> None:
    names = [
        b"/etc/passwd",
        b"../../up.jpg",
        b"a\\b.jpg",
        b"\xff\xfe.jpg",
        b"line\nbreak",
        b"same",
        b"same",
    ]
    data = b"".join(tar_member(name, b"%d" % at) for at, name in enumerate(names)) + END
    found = members(tmp_path, data)
    assert [member.name for member in found] == [
        *("/etc/passwd", "../../up.jpg", "a\\\\b.jpg", "\\xff\\xfe.jpg", "line\\u000abreak"),
        *("same", "same"),
    ]
    assert all(member.problem is None for member in found)
    assert contents(tmp_path, data) == [b"%d" % at for at in range(len(names))]
    assert os.listdir(tmp_path) == ["archive"]  # noqa: PTH208 - names, as they are


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    kinds = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device"}
    kinds |= {b"6": "a FIFO", b"Z": "a member of type b'Z'", b"S": "a sparse file"}
    data = b"".join(tar_member(b"x", b"", kind) for kind in kinds)
    data += pax(GNU__sparse__major="1") + tar_member(b"y", JPEG) + tar_member(b"z", JPEG) + END
    found = members(tmp_path, data)
    assert [member.detail for member in found] == [*kinds.values(), "a sparse file", None]
    unsupported = {"a member of type b'Z'", "a sparse file"}
    for member in found[:-1]:
        expected = Failure.UNSUPPORTED if member.detail in unsupported else Failure.UNREADABLE
        assert member.problem is expected
    assert contents(tmp_path, data) == [JPEG]


def test_sparse_files_whose_map_goes_on(tmp_path: Path) -> None:
    block = bytearray(tar_block(b"x", 700, b"S"))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    maps = bytes(504) + b"\1" + bytes(7) + bytes(512)
    data = bytes(block) + maps + bytes(1024) + tar_member(b"y", JPEG) + END
    assert [member.name for member in members(tmp_path, data)] == ["x", "y"]
    assert contents(tmp_path, data) == [JPEG]


def test_extended_headers(tmp_path: Path) -> None:
    data = tar_member(b"global", b"19 path=elsewhere\n", b"g")
    data += pax(path="ü/x.jpg", size=str(len(JPEG)), mtime="1.5")
    data += tar_block(b"short", 0) + JPEG.ljust(512, b"\0")
    data += tar_member(b"././@LongLink", b"long" * 100 + b"\0", b"L") + tar_member(b"short", b"2")
    data += tar_member(b"plain", b"3") + END
    assert [member.name for member in members(tmp_path, data)] == ["ü/x.jpg", "long" * 100, "plain"]
    assert contents(tmp_path, data) == [JPEG, b"2", b"3"]


@pytest.mark.parametrize("kind", [b"x", b"L", b"X"])
def test_headers_that_claim_gigabytes(kind: bytes, tmp_path: Path) -> None:
    for size in (2**21, 2**33, 2**80):
        data = tar_member(b"a", JPEG) + tar_block(b"y", size, kind) + END
        good, bad = members(tmp_path, data)
        assert good.problem is None
        assert (bad.problem, bad.detail) == (
            Failure.TRUNCATED,
            f"a header of {size} bytes: not read on",
        )
    names = (
        tar_member(b"y", b"n" * 5000, b"L") + tar_member(b"a", JPEG) + tar_member(b"b", JPEG) + END
    )
    long, good = members(tmp_path, names)
    assert (long.problem, len(long.name)) == (Failure.BAD_NAME, 4096)
    assert good.problem is None


@pytest.mark.parametrize("size", [2**33, 2**63, 2**80])
def test_members_that_claim_more_than_there_is(size: int, tmp_path: Path) -> None:
    data = tar_member(b"a", JPEG) + tar_block(b"b", size) + JPEG
    for packed in (data, gzip.compress(data), bz2.compress(data), lzma.compress(data)):
        good, bad = members(tmp_path, packed)
        assert (good.name, good.problem) == ("a", None)
        assert (bad.name, bad.problem) == ("b", Failure.TRUNCATED)
        assert bad.detail == "the archive ends early"


@pytest.mark.parametrize("record", [b"9 a=b\n", b"x a=b\n", b"-1 a=b\n", b"0 \n", b"6 a=b", b"7"])
def test_extended_headers_that_are_damaged(record: bytes, tmp_path: Path) -> None:
    data = tar_member(b"a", JPEG) + tar_member(b"p", record, b"x") + tar_member(b"b", JPEG) + END
    good, bad = members(tmp_path, data)
    assert good.problem is None
    assert (bad.problem, bad.detail) == (Failure.TRUNCATED, "a header is damaged: not read on")


PACKINGS = {
    "plain": bytes,
    "gzip": igzip.compress,
    "bzip2": partial(bz2.compress, compresslevel=1),  # small blocks
    "xz": lzma.compress,
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_archives_that_end_early(packing: str, share: float, tmp_path: Path) -> None:
    whole = tar_bytes(FILES, tar_format=tarfile.USTAR_FORMAT)
    packed = PACKINGS[packing](whole)
    cut = packed[: max(int(len(packed) * share), 700)]
    if packing == "bzip2" and share < 0.5:  # not even the first block is whole
        with pytest.raises(UsageError, match="is no archive"):
            opened(tmp_path, cut)
        return
    *good, bad = members(tmp_path, cut)
    assert [member.name for member in good] == [name for name, _ in FILES[: len(good)]]
    assert (bad.problem, bad.place) == (Failure.TRUNCATED, "")
    assert all(member.problem is None for member in good)
    assert contents(tmp_path, cut) == [data for _, data in FILES[: len(good)]]
    if packing in ("plain", "gzip"):
        assert abs(len(good) / len(FILES) - share**0.5) < 0.15  # sizes grow


def test_a_cut_between_two_members_is_seen(tmp_path: Path) -> None:
    data = tar_member(b"a", JPEG) + tar_member(b"b", JPEG)
    *good, bad = members(tmp_path, data)
    assert [member.name for member in good] == ["a", "b"]
    assert (bad.name, bad.detail) == ("(the end of the archive)", "the archive ends early")
    assert len(members(tmp_path, data + bytes(512))) == 2


def test_damage_in_the_middle(tmp_path: Path) -> None:
    whole = bytearray(tar_bytes(FILES))
    at = whole.index(b"folder/100.jpg")
    whole[at] ^= 1
    *good, bad = members(tmp_path, bytes(whole))
    assert len(good) == 100
    assert (bad.problem, bad.detail) == (Failure.TRUNCATED, "the archive is damaged from here on")

    packed = bytearray(igzip.compress(tar_bytes(FILES)))
    middle = len(packed) // 2
    packed[middle : middle + 2000] = bytes(2000)
    found = members(tmp_path, bytes(packed))
    assert found[-1].problem is Failure.TRUNCATED
    assert 20 < len(found) < 200
    archive = opened(tmp_path, bytes(packed))
    places = ['["tar", 1000000, 10]', found[3].place]
    with MemberReader(archive.store, archive.key) as reader:
        bad_one, good_one = reader.read_many(places, max_bytes=1000)  # the stream begins again
    assert isinstance(bad_one, InputError)
    assert bad_one.failure is Failure.TRUNCATED
    assert good_one == Content(data=FILES[3][1])


def test_archives_in_archives_are_members(tmp_path: Path) -> None:
    inner = tar_bytes(FILES)
    assert contents(tmp_path, tar_bytes([("inner.tar", inner[:50_000])])) == [inner[:50_000]]


def test_an_empty_archive(tmp_path: Path) -> None:
    assert members(tmp_path, bytes(10240)) == []


BOMB = """
import resource, sys
from redaction_core.archives import MemberReader, open_archive
from redaction_core.storage import open_file
store, key = open_file(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
members = list(open_archive(store, key).members())
with MemberReader(store, key) as reader:
    found = list(reader.read_many([one.place for one in members if one.place], max_bytes=10**6))
print(len(members), len(found), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz"])
def test_bombs_do_not_fill_memory(packing: str, tmp_path: Path) -> None:
    size = 200_000_000 if packing == "gzip" else 100_000_000
    data = tar_block(b"bomb", size) + bytes(-(-size // 512) * 512) + tar_member(b"a", JPEG) + END
    packed = lzma.compress(data, preset=0) if packing == "xz" else PACKINGS[packing](data)
    (tmp_path / "bomb").write_bytes(packed)
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(tmp_path / "bomb")],
        capture_output=True,
        text=True,
        check=True,
    )
    listed, read, grown = map(int, done.stdout.split())
    assert (listed, read) == (2, 2)
    assert grown < 60_000  # KiB


def test_xz_that_asks_for_much_memory(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**28}]
    (tmp_path / "x").write_bytes(lzma.compress(tar_bytes(FILES[:5]), filters=filters))
    assert not is_archive(*open_file(str(tmp_path / "x")))
