"""A real store that dies at a chosen change, or answers wrongly as networks do."""

from collections.abc import Iterable, Iterator
from threading import Lock
from typing import BinaryIO

from redaction_core.storage import Blob, Entry, Store


class Crash(BaseException):
    """The process is gone: nothing may catch this."""


class CrashingStore(Store):
    """Dies at its `crash_at`-th change (counted from 0): before it is made, or just after.

    `lost` and `conflicts` are counts of next conditional writes that answer "it is there": after
    they have stored the data, or without having stored anything.
    """

    def __init__(self, store: Store, *, crash_at: int = -1, after: bool = False) -> None:
        self.location = store.location
        self.store = store
        self.crash_at = crash_at
        self.after = after
        self.changes = 0
        self._dead = False
        self._lock = Lock()  # threads write at once, and die at once
        self.lost = 0
        self.conflicts = 0

    def _change(self, *, made: bool) -> None:
        if self._dead or (self.after == made and self.changes == self.crash_at):
            self._dead = True
            raise Crash
        self.changes += made

    def list(self, prefix: str = "", *, missing_ok: bool = False) -> Iterator[Entry]:
        return self.store.list(prefix, missing_ok=missing_ok)

    def read(self, key: str, *, max_bytes: int | None = None) -> Blob:
        return self.store.read(key, max_bytes=max_bytes)

    def open(self, key: str) -> BinaryIO:
        return self.store.open(key)

    def entry(self, key: str) -> Entry:
        return self.store.entry(key)

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self._change(made=False)
            self.store.put(key, data)
            self._change(made=True)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._lock:
            if self.conflicts:
                self.conflicts -= 1
                return False
            self._change(made=False)
            done = self.store.put_if_absent(key, data)
            self._change(made=True)
            if self.lost:
                self.lost -= 1
                return False
            return done

    def exists(self, key: str) -> bool:
        return self.store.exists(key)

    def delete(self, keys: Iterable[str]) -> int:
        count = 0
        for key in keys:
            self._change(made=False)
            count += self.store.delete([key])
            self._change(made=True)
        return count

    def sweep(self) -> None:
        self.store.sweep()

    def check(self) -> None:
        self.store.check()
