"""A folder of files that processes of one machine make once and share, up to so many bytes.

A file appears whole under its name, or not at all. Whoever makes one holds a lock on its half
(`flock`, which the system takes from a process that dies); the least recently used make room.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from redaction_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WHOLE: Final = ".pixels"
_HALF: Final = ".pixels-half"
_LOCK: Final = "lock"
_TOUCH_S: Final = 1.0


def own_folder() -> Path:
    """Name the folder of this user, the same for all processes on this machine."""
    return Path(tempfile.gettempdir()) / f"redaction-pixels-{os.getuid()}"


class FileCache:
    """Files by names without dots. Safe to share between processes and threads."""

    def __init__(self, folder: Path, max_bytes: int | None = None) -> None:
        """Make the folder; `max_bytes`, if left out, is half of what can be had there.

        Raises StorageError: it cannot be made, or is another user's.
        """
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.lstat().st_uid != os.getuid():
                raise StorageError(
                    f"{folder} is another user's: name a folder of yours with --cache-dir"
                )
            free = shutil.disk_usage(folder).free
            (folder / _LOCK).touch(mode=0o600)
        except OSError as error:
            raise self._fault(error) from error
        held = sum(size for _, size, _ in self._files())
        self.max_bytes = (free + held) // 2 if max_bytes is None else max_bytes
        # After a crash of the machine a file may have its length, but not its bytes.
        self._boot = _boot()
        self._touched: dict[str, float] = {}

    def has(self, name: str) -> bool:
        """Say whether a file is there."""
        return self._path(name).exists()

    def path(self, name: str) -> Path | None:
        """Say where a file is, and that it is used; None when it is not there (any more)."""
        path = self._path(name)
        now = time.monotonic()
        if now - self._touched.get(name, -_TOUCH_S) < _TOUCH_S:
            return path if path.exists() else None
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        self._touched[name] = now
        return path

    def make(self, name: str, size: int, write: Callable[[BinaryIO], None]) -> bool:
        """Make a file of `size` bytes, unless it is there or is just being made by another.

        False: another process or thread is at it. Raises StorageError (no room), and what `write`
        raises; then nothing is left of it.
        """
        half = self._path(name).with_suffix(_HALF)
        try:
            with _claimed(half) as descriptor:
                if descriptor is None:
                    return False
                if self.has(name):
                    half.unlink()
                    return True
                try:
                    self._make_room(descriptor, size)
                    with open(descriptor, "r+b", closefd=False) as file:
                        write(file)
                    half.replace(self._path(name))
                except BaseException:
                    half.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise self._fault(error) from error
        return True

    def _make_room(self, descriptor: int, size: int) -> None:
        """Remove what was used longest ago; the length of the new file counts from now on."""
        with (self.folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.ftruncate(descriptor, 0)
            files = sorted(self._files(), key=lambda each: each[2])
            held = sum(each[1] for each in files)
            for path, length, _ in files:
                if held + size <= self.max_bytes:
                    break
                if _removed(path):
                    held -= length
            os.ftruncate(descriptor, size)

    def _files(self) -> list[tuple[Path, int, float]]:
        """Give path, bytes and time of last use of all files, whole or half."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.name.endswith((_WHOLE, _HALF)):
                        status = entry.stat()
                        found.append((Path(entry.path), status.st_size, status.st_mtime))
        return found

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}-{self._boot}{_WHOLE}"

    def _fault(self, error: OSError) -> StorageError:
        return StorageError(
            f"cannot keep decoded images in {self.folder}: {error.strerror}; "
            "free some space there, or name another --cache-dir"
        )


@contextmanager
def _claimed(half: Path) -> Iterator[int | None]:
    """Hold the lock on the half of a file; None where another has it."""
    descriptor = os.open(half, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Its maker may have renamed it between the two calls: it is no half any more.
        yield descriptor if _locked(descriptor) and _is_at(descriptor, half) else None
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _removed(path: Path) -> bool:
    """Remove a file; a half only when its maker is dead."""
    if not path.name.endswith(_HALF):
        path.unlink(missing_ok=True)
        return True
    with _claimed(path) as descriptor:
        if descriptor is not None:
            path.unlink(missing_ok=True)
        return descriptor is not None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return "0"
