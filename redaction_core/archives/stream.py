"""An archive as one seekable stream of bytes, unpacked on the way, in bounded memory."""

import bz2
import io
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from isal import igzip_lib

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Its stub declares an exception, and no class of them.
_GZIP_ERROR: Final = cast("type[Exception]", igzip_lib.IsalError)

DAMAGED: Final = (EOFError, OSError, _GZIP_ERROR, lzma.LZMAError)
"""What reading a damaged stream raises; errors of the storage are ours, and none of these."""

_PACKINGS: Final = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_PACKED_BYTES: Final = 2**16
_BUFFER_BYTES: Final = 2**18
_XZ_MEMORY_BYTES: Final = 2**27  # xz -9 takes 65 MiB, whatever the archive asks for


def packing(head: bytes) -> str | None:
    """Say how a stream is packed, by its first 6 bytes; None for not at all."""
    return next((name for magic, name in _PACKINGS.items() if head.startswith(magic)), None)


@contextmanager
def opened(file: BinaryIO) -> Iterator[BinaryIO]:
    """Give the stream in the file from its beginning: itself, or unpacked.

    A packed stream that is asked to go back begins again. The file stays open.
    """
    file.seek(0)
    kind = packing(file.read(6))
    file.seek(0)
    if kind is None:
        yield file
    else:
        with io.BufferedReader(_Unpacked(file, _STARTS[kind]), _BUFFER_BYTES) as stream:
            yield stream


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _gzip() -> _Decompressor:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)


_STARTS: Final[dict[str, Callable[[], _Decompressor]]] = {
    "gzip": _gzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": _xz,
}


class _Unpacked(io.RawIOBase):
    """What a decompressor gives, to the last byte of a stream that ends early.

    The libraries' own files may lose some of it, and set no limit to the memory of xz.
    """

    def __init__(self, file: BinaryIO, start: Callable[[], _Decompressor]) -> None:
        self._file = file
        self._start = start
        self._unpacking = start()
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if whence == io.SEEK_END or target < 0:
            raise io.UnsupportedOperation("only forward and back from the beginning")
        if target < self._at:
            self._file.seek(0)
            self._unpacking = self._start()
            self._at = 0
        passed = bytearray(_BUFFER_BYTES)
        while self._at < target and self.readinto(memoryview(passed)[: target - self._at]):
            pass
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer)
        data = b""
        while not data:
            packed = b""
            if self._unpacking.eof:  # streams may follow each other
                packed = self._unpacking.unused_data or self._file.read(_PACKED_BYTES)
                if not packed:
                    return 0
                self._unpacking = self._start()
            elif self._unpacking.needs_input:
                packed = self._file.read(_PACKED_BYTES)
                if not packed:
                    raise EOFError("the stream ends early")
            data = self._unpacking.decompress(packed, len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
