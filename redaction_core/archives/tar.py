"""Members of a tar file, whatever it claims: no header takes more than 1 MiB.

The formats are those of POSIX 1003.1 (pax), GNU tar and Unix V7. Only headers are read, in order;
what stands behind the first block of zeros is not looked at.
"""

import json
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Final

from redaction_core.archives.member import Member, broken, is_of_macos, member
from redaction_core.archives.stream import DAMAGED
from redaction_core.errors import Failure, InputError

BLOCK_BYTES: Final = tarfile.BLOCKSIZE
PLACE: Final = "tar"

_END: Final = "(the end of the archive)"
_EARLY: Final = "the archive ends early"
_MOST_HEADER_BYTES: Final = 2**20
_MOST_BYTES: Final = 2**62  # what a stream can be asked to seek to
_MOST_DIGITS: Final = 19
_LONG_NAME: Final = tarfile.GNUTYPE_LONGNAME
_EXTENDED: Final = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, _LONG_NAME)
_PASSED_OVER: Final = (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK, b"V")
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_OTHERS: Final = {
    tarfile.SYMTYPE: (Failure.UNREADABLE, "a symbolic link"),
    tarfile.LNKTYPE: (Failure.UNREADABLE, "a hard link"),
    tarfile.CHRTYPE: (Failure.UNREADABLE, "a device"),
    tarfile.BLKTYPE: (Failure.UNREADABLE, "a device"),
    tarfile.FIFOTYPE: (Failure.UNREADABLE, "a FIFO"),
    tarfile.GNUTYPE_SPARSE: (Failure.UNSUPPORTED, "a sparse file"),
}
_MAP_GOES_ON: Final = 482  # offsets of flags in a block
_MAP_GOES_ON_AGAIN: Final = 504
_WITHOUT_DATA: Final = (
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
    *(tarfile.FIFOTYPE, tarfile.DIRTYPE),
)


def is_tar(block: bytes) -> bool:
    """Say whether a tar file begins so."""
    return _header(block) is not None or (len(block) == BLOCK_BYTES and not any(block))


def start(member: Member) -> int:
    """Say where the data of a member begin in the stream."""
    return int(json.loads(member.place)[1])


def read(stream: BinaryIO, place: list[int], max_bytes: int) -> bytes:
    """Read one member at its place: offset and size.

    Raises:
        InputError: TOO_MANY_BYTES or TRUNCATED.
    """
    offset, size = place
    if size > max_bytes:
        raise InputError(Failure.TOO_MANY_BYTES, f"{size} bytes, the limit is {max_bytes}")
    stream.seek(offset)
    data = stream.read(size)
    if len(data) < size:
        raise InputError(Failure.TRUNCATED, _EARLY)
    return data


def members(stream: BinaryIO, *, folders: bool = False, unread: bool = False) -> Iterator[Member]:
    """Yield the members; with `folders`, those too, as members of 0 bytes.

    An archive that is cut or damaged ends with one member more, with a problem. With `unread`,
    the stream stands no further than at the data of the member that was yielded: whether they are
    all there is for the caller to see.
    """
    listing = _Listing(stream, unread=unread)
    try:
        yield from listing.members(folders=folders)
    except _UnreadableError as error:
        yield broken(listing.name or _END, Failure.TRUNCATED, str(error))
    except EOFError:
        yield broken(listing.name or _END, Failure.TRUNCATED, _EARLY)
    except DAMAGED:
        yield broken(listing.name or _END, Failure.TRUNCATED, "the archive is damaged from here on")


class _UnreadableError(Exception):
    """Why the archive cannot be read on."""


class _Listing:
    """The walk over one stream; it knows which member it is at."""

    def __init__(self, stream: BinaryIO, *, unread: bool) -> None:
        self._stream = stream
        self._unread = unread
        self.name = ""

    def members(self, *, folders: bool) -> Iterator[Member]:
        at = 0
        extended: dict[str, str] = {}
        while any(block := self._read(at, BLOCK_BYTES)):
            header = _header(block)
            if header is None or header.size < 0:
                raise _UnreadableError("the archive is damaged from here on")
            start = at + BLOCK_BYTES
            if header.type in _EXTENDED or header.type in _PASSED_OVER:
                extended |= self._extension(header, start)
                at = self._behind(start, header.size)
                continue
            self.name = extended.get("path", header.name)
            # The map of GNU's own sparse files may go on in blocks before the data.
            mapped = header.type == tarfile.GNUTYPE_SPARSE and block[_MAP_GOES_ON]
            if any(key.startswith("GNU.sparse.") for key in extended):
                header.type = tarfile.GNUTYPE_SPARSE
            size = 0 if header.type in _WITHOUT_DATA else _size(extended, header.size)
            at = self._behind(self._behind_map(start) if mapped else start, size)
            if header.type in _FILES:
                if not is_of_macos(self.name):
                    yield member(self.name, (PLACE, start, size), size)
            elif header.type != tarfile.DIRTYPE:
                other = (Failure.UNSUPPORTED, f"a member of type {header.type!r}")
                yield broken(self.name, *_OTHERS.get(header.type, other), size)
            elif folders:
                yield member(self.name, (), 0)
            extended, self.name = {}, ""

    def _extension(self, header: tarfile.TarInfo, start: int) -> dict[str, str]:
        """Read what a header says of the member after it."""
        if header.type in _PASSED_OVER:
            return {}
        if header.size > _MOST_HEADER_BYTES:
            raise _UnreadableError(f"a header of {header.size} bytes: not read on")
        data = self._read(start, header.size)
        return {"path": _text(data.split(b"\0")[0])} if header.type == _LONG_NAME else _pax(data)

    def _read(self, at: int, size: int) -> bytes:
        self._stream.seek(at)
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _behind(self, start: int, size: int) -> int:
        """Say where the next header is, having seen that the data are there."""
        if size > _MOST_BYTES - start:
            raise EOFError
        if size and not self._unread:
            self._read(start + size - 1, 1)
        return start + -(-size // BLOCK_BYTES) * BLOCK_BYTES

    def _behind_map(self, start: int) -> int:
        while self._read(start, BLOCK_BYTES)[_MAP_GOES_ON_AGAIN]:
            start += BLOCK_BYTES
        return start + BLOCK_BYTES


def _header(block: bytes) -> tarfile.TarInfo | None:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _pax(data: bytes) -> dict[str, str]:
    """Read the records of an extended header: "length key=value", length with itself."""
    found: dict[str, str] = {}
    at, end = 0, len(data.rstrip(b"\0"))
    while at < end:
        space = data.find(b" ", at, at + _MOST_DIGITS)
        digits = data[at:space] if space > 0 else b""
        length = int(digits) if digits.isdigit() else 0
        record = data[at : at + length]
        if len(record) != length or not record.endswith(b"\n"):
            raise _UnreadableError("a header is damaged: not read on")
        key, _, value = record[len(digits) + 1 : -1].partition(b"=")
        found[_text(key)] = _text(value)
        at += length
    return found


def _size(extended: dict[str, str], size: int) -> int:
    given = extended.get("size")
    if given is None:
        return size
    if not given.isascii() or not given.isdigit() or len(given) > _MOST_DIGITS:
        raise _UnreadableError("a header is damaged: not read on")
    return int(given)
