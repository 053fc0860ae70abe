"""What a store is: keys below a location, written whole, read whole or in parts.

A key is a relative path of UTF-8 segments joined by "/". The same keys mean the same on disk and
on S3; a name that one of them cannot address is listed as a problem and can be neither read nor
written.
"""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

from redaction_core.errors import Failure, InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One listed object or file; with a problem, the key is only a printable form of its name."""

    key: str
    size: int = 0  # bytes
    version: str = ""  # ETag without quotes, or the time of modification in ns
    problem: Failure | None = None  # BAD_NAME or UNREADABLE
    detail: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """The bytes of one object or file, and the version they are of (as in `Entry`)."""

    data: bytes
    version: str


class Store(ABC):
    """Objects or files below one location. Safe to share between threads; pickled by location.

    Every method may raise StorageError after bounded retries: one line that says what failed,
    where (never with credentials) and what to do. A key that cannot be addressed raises
    InputError(BAD_NAME).
    """

    location: str
    """Normalised, without a trailing slash and without credentials."""

    in_flight: ClassVar[int]
    """So many reads, and as many writes, are worth having under way at once in one process."""

    @abstractmethod
    def list(self, prefix: str = "", *, missing_ok: bool = False) -> Iterator[Entry]:
        """Yield what is there with keys that start with `prefix`, in the byte order of UTF-8.

        Streams: memory does not grow with the listing (on disk: with the largest folder). Left
        out are S3 folder markers (keys that end in "/") and temporary files of this package.
        Links to files are followed, links to folders are not: those, FIFOs, sockets, devices,
        dangling links and folders that cannot be listed come as problems.

        Raises:
            UsageError: the folder does not exist (unless missing_ok), or the bucket does not.
        """

    def any_of(self, prefix: str = "") -> Entry | None:
        """Give some entry that `list` would yield, without listing all; None where there is none.

        Raises:
            UsageError: the bucket does not exist.
        """
        return next(self.list(prefix, missing_ok=True), None)

    @abstractmethod
    def read(self, key: str, *, max_bytes: int | None = None) -> Blob:
        """Read the whole object or file.

        Raises:
            ObjectMissingError: there is none of this key.
            InputError: TOO_MANY_BYTES, UNREADABLE (no permission on the file, not a regular file,
                an archived object), or INPUT_CHANGED (a large object, replaced meanwhile).
        """

    @abstractmethod
    def open(self, key: str) -> BinaryIO:
        """Open an object or file to read in parts: seekable, buffered, whatever its size.

        Its methods raise StorageError, too, and InputError(INPUT_CHANGED) where an object was
        replaced since it was opened (a file that was replaced is read on as it was).

        Raises:
            ObjectMissingError: there is none of this key.
            InputError: UNREADABLE, as `read`.
        """

    @abstractmethod
    def entry(self, key: str) -> Entry:
        """Look at one object or file, without reading it: size and version as in a listing.

        Raises:
            ObjectMissingError: there is none of this key.
            InputError: UNREADABLE, as `read`.
        """

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write atomically, replacing what was there."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write atomically unless the key exists; a reader never sees a part.

        True: we wrote it. False: it is there, which after a lost answer may be our own write.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Say whether there is an object or file of this key."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> int:
        """Remove objects or files, and on disk the folders this empties; missing ones are fine.

        Streams; returns the number of keys given.
        """

    @abstractmethod
    def sweep(self) -> None:
        """Remove temporary files that writers killed half-way left behind."""

    @abstractmethod
    def check(self, *, to_read: bool = False) -> None:
        """Pass if outputs can go here: the bucket exists, or the folder is there or can be made.

        With `to_read`, pass if inputs can come from here: the bucket or folder exists.

        Raises:
            UsageError: no such bucket, or the path is not a folder.
        """

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Pickle by location: the other process opens it with its own credentials."""
        from redaction_core.storage import open_store  # the package imports us

        return open_store, (self.location,)

    def __repr__(self) -> str:
        """Class and location."""
        return f"{type(self).__name__}({self.location!r})"


def why_bad_name(key: str) -> str | None:
    """Why a key cannot be addressed in every kind of storage; None when it can."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    if not key.isprintable() and any(unicodedata.category(letter) == "Cc" for letter in key):
        return "the name has control characters"
    if "\\" in key:
        return "the name has a backslash, which some storage takes for a folder separator"
    segments = key.split("/")
    if "" in segments:
        return "the name has an empty segment"
    if "." in segments or ".." in segments:
        return "the name has a segment '.' or '..'"
    return None


def printable_key(name: str) -> str:
    r"""Show a name as printable UTF-8, one to one, by escapes that begin with a backslash.

    Escaped are backslashes, control characters, and bytes that `os.fsdecode` cannot decode (shown
    as \xNN).
    """
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(_escaped(letter) for letter in name)


def _escaped(letter: str) -> str:
    code = ord(letter)
    if letter == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 - the range of surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    if 0xD800 <= code <= 0xDFFF or unicodedata.category(letter) == "Cc":  # noqa: PLR2004
        return f"\\u{code:04x}"
    return letter


def checked_key(key: str) -> str:
    """Return the key if it can be addressed.

    Raises:
        InputError: BAD_NAME.
    """
    if why := why_bad_name(key):
        raise InputError(Failure.BAD_NAME, f"{printable_key(key)!r}: {why}")
    return key
