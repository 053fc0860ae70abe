"""Writes that wait for storage in the background, so that a training need not."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

from redaction_core.errors import ObjectMissingError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S: Final = 600.0
"""Storage may be away for so long before a training gives up on what it cannot do without."""
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 15.0
_Result = TypeVar("_Result")


def patiently(
    call: Callable[[], _Result], say: Callable[[str], None], *, patience_s: float = PATIENCE_S
) -> _Result:
    """Call again and again while storage fails, beyond its own retries; tells the first failure.

    Raises StorageError when it still fails after `patience_s`; ObjectMissingError at once.
    """
    started, pause = time.monotonic(), _FIRST_PAUSE_S
    told = False
    while True:
        try:
            return call()
        except ObjectMissingError:
            raise
        except StorageError as error:
            if time.monotonic() - started + pause > patience_s:
                raise
            if not told:
                say(f"waiting for storage: {error}")
            told = True
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


class Outbox:
    """Does named writes in order, in a thread of its own; a newer one of a name replaces it.

    A write that storage refuses is told once and tried again, after those that came later. What
    waits is at most one write a name.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """Start the thread; `say` tells a person, from that thread."""
        self._say = say
        self._waiting: dict[str, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._error: BaseException | None = None
        self._trouble: StorageError | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def send(self, name: str, write: Callable[[], None]) -> None:
        """Have `write` called soon. Raises what an earlier write raised, but for StorageError."""
        with self._changed:
            self._raise()
            # At the end, so that what was sent before it is written before it.
            self._waiting.pop(name, None)
            self._waiting[name] = write
            self._changed.notify_all()

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until all is written; raises StorageError when it is not after `patience_s`."""
        with self._changed:
            self._deadline = time.monotonic() + patience_s
            self._changed.notify_all()
        self._thread.join()
        with self._changed:
            self._raise()
            if self._waiting:
                raise self._trouble or StorageError("storage did not take all that was written")

    def abandon(self) -> None:
        """Begin no other write, and wait for none."""
        with self._changed:
            self._waiting.clear()
            self._deadline = time.monotonic()
            self._changed.notify_all()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        pause = _FIRST_PAUSE_S
        while (found := self._next()) is not None:
            name, write = found
            try:
                write()
            except StorageError as error:
                if not self._again(name, write, error, pause):
                    return
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            except BaseException as error:  # noqa: BLE001 - a bug, raised where it is seen
                with self._changed:
                    self._error = error
                return
            else:
                if self._trouble is not None:
                    self._say("storage takes writes again")
                pause, self._trouble = _FIRST_PAUSE_S, None

    def _next(self) -> tuple[str, Callable[[], None]] | None:
        with self._changed:
            while not self._waiting:
                if self._deadline is not None:
                    return None
                self._changed.wait()
            name = next(iter(self._waiting))
            return name, self._waiting.pop(name)

    def _again(
        self, name: str, write: Callable[[], None], error: StorageError, pause: float
    ) -> bool:
        """Put a write back unless a newer one came, and wait; False when time is up."""
        if self._trouble is None:
            self._say(f"training goes on, but {name} is not stored yet: {error}")
        with self._changed:
            self._trouble = error
            self._waiting.setdefault(name, write)
            now = time.monotonic()
            if self._deadline is not None and now + pause > self._deadline:
                return False
            ends = now + pause
            while (left := ends - time.monotonic()) > 0:
                before = self._deadline
                self._changed.wait(left)
                if before is None and self._deadline is not None:
                    break  # closing: try at once
            return True
