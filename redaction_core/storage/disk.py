"""A folder as a store: plain system calls, atomic writes, odd files named and never opened."""

# One system call each, on text: pathlib changes names and costs more than the call.
# ruff: noqa: PTH103, PTH106, PTH108, PTH112, PTH114, PTH116, PTH118, PTH120, PTH123

import errno
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final

from redaction_core.errors import (
    Failure,
    InputError,
    ObjectMissingError,
    StorageError,
    UsageError,
)
from redaction_core.storage.store import (
    Blob,
    Entry,
    Store,
    checked_key,
    printable_key,
    why_bad_name,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_TEMPORARY: Final = ".redaction-tmp-"
_BUFFER_BYTES: Final = 2**18
_TRIES: Final = 10  # a folder or temporary file may be swept away between two calls
_MISSING: Final = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
_DENIED: Final = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO}
_ADVICE: Final = {
    errno.ENOSPC: "free some space and run again",
    errno.EDQUOT: "raise the quota and run again",
    errno.EACCES: "check the permissions of the folder",
    errno.EPERM: "check the permissions, and that the file system has hard links",
    errno.EOPNOTSUPP: "choose a file system that has hard links",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another location",
    errno.EEXIST: "a file stands where a folder is needed; choose another location",
}


class DiskStore(Store):
    """Files below one folder."""

    in_flight = 2  # the processor is what limits: more threads would only disturb each other

    def __init__(self, root: str) -> None:
        """Take an absolute path; the folder need not exist."""
        self.root = root
        self.location = root

    def list(self, prefix: str = "", *, missing_ok: bool = False) -> Iterator[Entry]:
        """See `Store.list`."""
        if missing_ok and not os.path.lexists(self.root):
            return
        self._check_folder()
        folder, slash, start = prefix.rpartition("/")
        top = self._path(folder) if folder else self.root
        try:
            names = _names(top)
        except OSError as error:
            if folder and error.errno in _MISSING:
                return
            raise self._fault("list", folder, error) from error
        names = [pair for pair in names if pair[0].startswith(start)]
        # The folders begun: key before its names, path, names still to come.
        begun = [(folder + slash, top, iter(names))]
        while begun:
            before, path, rest = begun[-1]
            shown, name = next(rest, ("", ""))
            key, child = before + shown, os.path.join(path, name)
            if not name:
                begun.pop()
            elif not shown.endswith("/"):
                yield self._entry(key, child)
            else:
                try:
                    begun.append((key, child, iter(_names(child))))
                except OSError as error:
                    yield _unlisted(key[:-1], error)

    def read(self, key: str, *, max_bytes: int | None = None) -> Blob:
        """See `Store.read`."""
        with self._opened(key) as file:
            size, version = _size_and_version(file.fileno())
            if max_bytes is not None and size > max_bytes:
                detail = f"{size} bytes, the limit is {max_bytes}"
                raise InputError(Failure.TOO_MANY_BYTES, detail)
            return Blob(data=file.readall(), version=version)

    def open(self, key: str) -> BinaryIO:
        """See `Store.open`."""
        return io.BufferedReader(self._opened(key), _BUFFER_BYTES)

    def entry(self, key: str) -> Entry:
        """See `Store.entry`."""
        with self._opened(key) as file:
            size, version = _size_and_version(file.fileno())
        return Entry(key=key, size=size, version=version)

    def _opened(self, key: str) -> "_File":
        try:
            # Without O_NONBLOCK, opening a FIFO waits for its writer.
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._unread(key, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(Failure.UNREADABLE, "not a regular file")
        return _File(descriptor, lambda error: self._unread(key, error))

    def _unread(self, key: str, error: OSError) -> InputError | StorageError:
        if error.errno in _DENIED:
            return InputError(Failure.UNREADABLE, f"{error.strerror}")
        return self._fault("read", key, error)

    def put(self, key: str, data: bytes) -> None:
        """See `Store.put`."""
        self._write(key, data, os.replace)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Store.put_if_absent`."""
        try:
            self._write(key, data, os.link)
        except _TakenError:
            return False
        return True

    def _write(self, key: str, data: bytes, publish: Callable[[str, str], None]) -> None:
        path = self._path(key)
        folder = os.path.dirname(path)
        for left in reversed(range(_TRIES)):
            try:
                temporary = os.path.join(folder, _TEMPORARY + secrets.token_hex(6))
                _write_once(temporary, data, lambda source: publish(source, path))
            except FileNotFoundError as error:
                if not left:
                    raise self._fault("write", key, error) from error
                try:
                    os.makedirs(folder, exist_ok=True)
                except (FileExistsError, FileNotFoundError) as gone:
                    # It was made by another writer, and emptied and removed, while we looked.
                    if os.path.lexists(folder) and not os.path.isdir(folder):
                        raise self._fault("write", key, gone) from gone
                except OSError as denied:
                    raise self._fault("write", key, denied) from denied
            except OSError as error:
                if error.errno == errno.EEXIST and publish is os.link:
                    raise _TakenError from error
                raise self._fault("write", key, error) from error
            else:
                return

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        try:
            os.stat(self._path(key))
        except OSError as error:
            if error.errno in _MISSING:
                return False
            raise self._fault("look for", key, error) from error
        return True

    def delete(self, keys: Iterable[str]) -> int:
        """See `Store.delete`."""
        count = 0
        emptied = self.root
        for key in keys:
            path = self._path(key)
            count += 1
            try:
                os.unlink(path)
            except OSError as error:
                # A folder is no object, whatever lies in it.
                if error.errno not in {*_MISSING, errno.EISDIR}:
                    raise self._fault("delete", key, error) from error
            if os.path.dirname(path) != emptied:
                self._prune(emptied)
                emptied = os.path.dirname(path)
        self._prune(emptied)
        return count

    def _prune(self, folder: str) -> None:
        with suppress(OSError):  # it is not empty: it stays
            while folder.startswith(self.root + os.sep):
                os.rmdir(folder)
                folder = os.path.dirname(folder)

    def sweep(self) -> None:
        """See `Store.sweep`."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.startswith(_TEMPORARY):
                    with suppress(OSError):  # its writer ended meanwhile, or it is not ours
                        os.unlink(os.path.join(folder, name))

    def check(self, *, to_read: bool = False) -> None:
        """See `Store.check`."""
        if to_read:
            self._check_folder()
            return
        found = self.root
        while not os.path.lexists(found):
            found = os.path.dirname(found)
        if not os.path.isdir(found):
            raise UsageError(f"not a folder: {printable_key(found)}")
        if not os.access(found, os.W_OK | os.X_OK):
            raise StorageError(f"cannot write to {printable_key(found)}: check its permissions")

    def _check_folder(self) -> None:
        if not os.path.isdir(self.root):
            kind = "not a folder" if os.path.lexists(self.root) else "no such folder"
            raise UsageError(f"{kind}: {printable_key(self.root)}")

    def _path(self, key: str) -> str:
        return os.path.join(self.root, *checked_key(key).split("/"))

    def _entry(self, key: str, path: str) -> Entry:
        """Look at one name that is not a folder; its key is as shown."""
        problem, detail = Failure.BAD_NAME, why_bad_name(os.path.relpath(path, self.root))
        if detail is None:
            problem = Failure.UNREADABLE
            try:
                found = os.stat(path)
            except OSError as error:
                detail = "a dangling link" if os.path.islink(path) else f"{error.strerror}"
            else:
                if stat.S_ISREG(found.st_mode):
                    return Entry(key=key, size=found.st_size, version=str(found.st_mtime_ns))
                folder = stat.S_ISDIR(found.st_mode)
                detail = "a link to a folder, not followed" if folder else "not a regular file"
        return Entry(key=key, problem=problem, detail=detail)

    def _fault(self, verb: str, key: str, error: OSError) -> StorageError:
        """Translate an error of the system; nothing else does."""
        where = printable_key(os.path.join(self.root, key) if key else self.root)
        if error.errno in _MISSING and verb == "read":
            return ObjectMissingError(f"no such file: {where}")
        advice = _ADVICE.get(error.errno or 0, "check the disk and run again")
        return StorageError(f"cannot {verb} {where}: {error.strerror}; {advice}")


class _File(io.FileIO):
    """A file whose errors are ours, also when they come late."""

    def __init__(
        self, descriptor: int, translated: Callable[[OSError], InputError | StorageError]
    ) -> None:
        super().__init__(descriptor, "rb")
        self._translated = translated

    def readinto(self, buffer: "WriteableBuffer", /) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise self._translated(error) from error

    def readall(self) -> bytes:
        try:
            return super().readall()
        except OSError as error:
            raise self._translated(error) from error


class _TakenError(Exception):
    """The name has a file already."""


def _size_and_version(descriptor: int) -> tuple[int, str]:
    found = os.fstat(descriptor)
    return found.st_size, str(found.st_mtime_ns)


def _names(path: str) -> list[tuple[str, str]]:
    """(Printable name, name) in one folder, in the order of keys; shown folders end in "/"."""
    with os.scandir(path) as found:
        names = [
            (printable_key(item.name) + "/" * item.is_dir(follow_symlinks=False), item.name)
            for item in found
            if not item.name.startswith(_TEMPORARY)
        ]
    names.sort(key=lambda pair: pair[0].encode())
    return names


def _unlisted(key: str, error: OSError) -> Entry:
    too_long = error.errno == errno.ENAMETOOLONG
    problem = Failure.BAD_NAME if too_long else Failure.UNREADABLE
    detail = f"the folder cannot be listed: {error.strerror}"
    return Entry(key=key, problem=problem, detail=detail)


def _write_once(temporary: str, data: bytes, publish: Callable[[str], None]) -> None:
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        publish(temporary)
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(temporary)
