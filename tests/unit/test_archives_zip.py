"""Zip files of strangers."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from redaction_core.archives import Archive, Content, MemberReader
from redaction_core.errors import Failure, InputError, UsageError
from tests.archive_files import zip_bytes
from tests.unit.test_archives import FILES, opened


def outcomes(archive: Archive, max_bytes: int = 10**6) -> list[bytes | Failure]:
    found = list(archive.members())
    with MemberReader(archive.store, archive.key) as reader:
        read = reader.read_many(
            [one.place for one in found if not one.problem], max_bytes=max_bytes
        )
        contents = [one.data if isinstance(one, Content) else one.failure for one in read]
    rest = iter(contents)
    return [member.problem or next(rest) for member in found]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("front", [b"", b"PK\x03\x04 of something else"])
def test_stored_and_deflated(method: int, front: bytes, tmp_path: Path) -> None:
    data = front + zip_bytes(FILES, method)
    assert outcomes(opened(tmp_path, data)) == [data for _, data in FILES]


def test_sizes_that_come_after_the_data(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]
        for name, data in FILES[:20]:
            with archive.open(name, "w", force_zip64=name.endswith("9.jpg")) as file:
                file.write(data)
    assert outcomes(opened(tmp_path, pipe.data)) == [data for _, data in FILES[:20]]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_named(method: int, tmp_path: Path) -> None:
    (member,) = opened(tmp_path, zip_bytes([("a", b"1" * 100)], method)).members()
    assert (member.problem, member.detail) == (
        Failure.UNSUPPORTED,
        f"compression method {method}",
    )


def test_links_and_encrypted_members_are_named(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.create_system = 3
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("secret", "x")
        archive.writestr("plain", "y")
    data = bytearray(out.getvalue())
    at = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    data[at + 8] |= 1
    found = list(opened(tmp_path, bytes(data)).members())
    assert [member.detail for member in found] == ["a symbolic link", "encrypted", None]
    assert [member.problem for member in found[:2]] == [Failure.UNREADABLE] * 2


def test_names_stay_data(tmp_path: Path) -> None:
    names = ["/etc/passwd", "../../up.jpg", "C:\\x", "ü", "same", "same"]
    with pytest.warns(UserWarning, match="Duplicate"):
        data = zip_bytes([(name, name.encode()) for name in names])
    archive = opened(tmp_path, data)
    found = [member.name for member in archive.members()]
    assert found == ["/etc/passwd", "../../up.jpg", "C:\\\\x", "ü", "same", "same"]
    assert outcomes(archive) == [name.encode() for name in names]


def directory_entry(data: bytes, number: int) -> int:
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    return at


@pytest.mark.parametrize(
    ("offset", "value", "failure"),
    [
        (10, struct.pack("<H", 0), Failure.UNREADABLE),  # method
        (16, struct.pack("<L", 1), Failure.UNREADABLE),  # CRC
        (20, struct.pack("<L", 3), Failure.UNREADABLE),  # packed size
        (24, struct.pack("<L", 5), Failure.UNREADABLE),  # size
        (24, struct.pack("<L", 2**31), Failure.TOO_MANY_BYTES),
        (20, struct.pack("<L", 2**31), Failure.TOO_MANY_BYTES),
        (42, struct.pack("<L", 9), Failure.UNREADABLE),  # offset of the local header
        (42, struct.pack("<L", 2**31), Failure.TRUNCATED),
    ],
)
def test_a_directory_that_lies(offset: int, value: bytes, failure: Failure, tmp_path: Path) -> None:
    data = bytearray(zip_bytes([("a", b"1" * 5000), ("b", b"2" * 5000)]))
    at = directory_entry(data, 0) + offset
    data[at : at + len(value)] = value
    found = outcomes(opened(tmp_path, bytes(data)))
    assert sorted(map(str, found)) == sorted([str(failure), str(b"2" * 5000)])


def lied(data: bytes, *, size: int | None = None, crc: int | None = None) -> bytes:
    """Let both headers of the first member say the same wrong thing."""
    out = bytearray(data)
    for at, size_at, crc_at in ((0, 22, 14), (directory_entry(data, 0), 24, 16)):
        if size is not None:
            out[at + size_at : at + size_at + 4] = struct.pack("<L", size)
        if crc is not None:
            out[at + crc_at : at + crc_at + 4] = struct.pack("<L", crc)
    return bytes(out)


def test_members_that_lie_about_themselves(tmp_path: Path) -> None:
    data = zip_bytes([("a", b"1" * 50_000_000)])
    for size in (5, 49_999_999, 50_000_001):
        assert outcomes(opened(tmp_path, lied(data, size=size)), 10**8) == [Failure.TRUNCATED]
    start = lied(data, size=5, crc=zlib.crc32(b"1" * 5))  # the checksum of a part
    assert outcomes(opened(tmp_path, start), 10**8) == [Failure.TRUNCATED]
    assert outcomes(opened(tmp_path, lied(data, crc=1)), 10**8) == [Failure.TRUNCATED]
    assert outcomes(opened(tmp_path, data), 10**6) == [Failure.TOO_MANY_BYTES]
    assert outcomes(opened(tmp_path, lied(data, size=10**6)), 10**6) == [Failure.TRUNCATED]


def test_packed_data_that_are_damaged(tmp_path: Path) -> None:
    data = bytearray(zip_bytes([("a", bytes(range(256)) * 40)]))
    data[40:60] = b"\xff" * 20
    assert outcomes(opened(tmp_path, bytes(data))) == [Failure.TRUNCATED]


def test_members_that_overlap_are_read_each_by_itself(tmp_path: Path) -> None:
    data = zip_bytes([("a", b"1" * 5000)])
    at = directory_entry(data, 0)
    entry = data[at : data.index(b"PK\x05\x06")]
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 50, 50, len(entry) * 50, at, 0)
    assert outcomes(opened(tmp_path, data[:at] + entry * 50 + end)) == [b"1" * 5000] * 50


@pytest.mark.parametrize("left", [30, 1000, -1, -22])
def test_a_zip_without_its_directory_is_refused(left: int, tmp_path: Path) -> None:
    archive = opened(tmp_path, zip_bytes(FILES)[:left])
    with pytest.raises(UsageError, match="incomplete or damaged") as caught:
        list(archive.members())
    assert "\n" not in str(caught.value)


def test_an_archive_cut_after_it_was_listed(tmp_path: Path) -> None:
    archive = opened(tmp_path, zip_bytes(FILES))
    places = [member.place for member in archive.members()]
    path = tmp_path / "archive"
    path.write_bytes(path.read_bytes()[:5000])
    with MemberReader(archive.store, archive.key) as reader:
        found = list(reader.read_many(places, max_bytes=10**6))
    assert found[1] == Content(data=FILES[1][1])
    assert isinstance(found[-1], InputError)
    assert found[-1].failure is Failure.TRUNCATED


def test_an_empty_archive(tmp_path: Path) -> None:
    assert list(opened(tmp_path, zip_bytes([])).members()) == []
