"""Members of a zip file, and how one is read without the directory of all.

Stored and deflated members are read (APPNOTE.TXT, methods 0 and 8). Members may overlap: each is
bounded by itself.
"""

import io
import stat
import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, Final

from isal import isal_zlib

from redaction_core.archives.member import Member, broken, is_of_macos, member
from redaction_core.archives.stream import DAMAGED
from redaction_core.errors import Failure, InputError, UsageError

PLACE: Final = "zip"

_ENCRYPTED: Final = 0x1
_SIZES_LATER: Final = 0x8  # the local header leaves them to a record behind the data
_IN_EXTRA: Final = 0xFFFFFFFF
_MOST_BYTES: Final = 2**62  # what a file can be asked to seek to
_UNIX: Final = 3
_LOCAL: Final = struct.Struct("<4s2xHH4xLLLHH")
_SIGNATURE: Final = b"PK\x03\x04"
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def members(file: BinaryIO) -> Iterator[Member]:
    """Yield the members that the directory names, in the order of their data.

    Raises:
        UsageError: the directory is missing or damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError) as error:
        raise UsageError(f"the zip file is incomplete or damaged ({error})") from error
    infos.sort(key=lambda info: info.header_offset)
    for info in infos:
        if not info.is_dir() and not is_of_macos(info.filename):
            yield _member(info)


def _member(info: zipfile.ZipInfo) -> Member:
    name, size, method = info.filename, info.file_size, info.compress_type
    if info.create_system == _UNIX and stat.S_ISLNK(info.external_attr >> 16):
        return broken(name, Failure.UNREADABLE, "a symbolic link", size)
    if info.flag_bits & _ENCRYPTED:
        return broken(name, Failure.UNREADABLE, "encrypted", size)
    if method not in _METHODS:
        return broken(name, Failure.UNSUPPORTED, f"compression method {method}", size)
    if not 0 <= info.header_offset < _MOST_BYTES:
        return broken(name, Failure.TRUNCATED, "the archive ends early", size)
    place = (PLACE, info.header_offset, info.compress_size, size, method, info.CRC)
    return member(name, place, size)


def read(file: BinaryIO, place: list[int], max_bytes: int) -> bytes:
    """Read one member at its place: header's offset, packed size, size, method, CRC-32.

    Raises:
        InputError: TOO_MANY_BYTES, TRUNCATED, or UNREADABLE where the headers contradict each
            other.
    """
    offset, packed_size, size, method, crc = place
    if max(packed_size, size) > max_bytes:
        detail = f"{max(packed_size, size)} bytes, the limit is {max_bytes}"
        raise InputError(Failure.TOO_MANY_BYTES, detail)
    file.seek(offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size:
        raise InputError(Failure.TRUNCATED, "the archive ends early")
    signature, flags, local_method, *described, name_bytes, extra_bytes = _LOCAL.unpack(header)
    if (
        signature != _SIGNATURE
        or local_method != method
        or flags & _ENCRYPTED
        or not (flags & _SIZES_LATER or _agree(described, [crc, packed_size, size]))
    ):
        raise InputError(Failure.UNREADABLE, "the directory and the member contradict each other")
    file.seek(name_bytes + extra_bytes, io.SEEK_CUR)
    data = file.read(packed_size)
    if len(data) < packed_size:
        raise InputError(Failure.TRUNCATED, "the archive ends early")
    if method == zipfile.ZIP_DEFLATED:
        try:
            # One byte more shows a member that is longer than it says.
            data = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS).decompress(data, size + 1)
        except DAMAGED as error:
            raise InputError(Failure.TRUNCATED, "the packed data are damaged") from error
    if len(data) != size or isal_zlib.crc32(data) != crc:
        raise InputError(Failure.TRUNCATED, "the data differ from their checksum")
    return data


def _agree(local: list[int], central: list[int]) -> bool:
    return all(ours in (theirs, _IN_EXTRA) for ours, theirs in zip(local, central, strict=True))
