"""What becomes of a URL, and how much of its time it has used."""

import asyncio
import time
from dataclasses import dataclass

from redaction_core.errors import Failure, InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """The last word on one URL: `data`, or `failure` and `detail`."""

    data: bytes | None
    failure: Failure | None
    detail: str | None
    """One line, without credentials."""
    http_status: int | None
    """Of the last answer; None where none came."""
    attempts: int
    """How often the URL was asked for, redirects not counted; 0: it never was."""
    bytes: int
    """Bytes of bodies that arrived, over all attempts."""
    seconds: float
    """Time used, without waiting for turns."""


class FetchError(InputError):
    """An attempt that ended without the image."""

    def __init__(  # noqa: PLR0913 - each says another thing of one answer
        self,
        failure: Failure,
        detail: str,
        *,
        transient: bool = False,
        status: int | None = None,
        wait_s: float = 0.0,
        pause_s: float = 0.0,
    ) -> None:
        """Keep whether another attempt may help, after how long, and how long the host rests."""
        super().__init__(failure, detail)
        self.transient = transient
        self.status = status
        self.wait_s = wait_s
        self.pause_s = pause_s


class Clock:
    """The time that one URL has: it stands still while the URL waits for a turn."""

    __slots__ = ("_left_s", "_limit_s", "_since", "_timeout")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = self._left_s = limit_s
        self._since: float | None = None
        self._timeout: asyncio.Timeout | None = None

    @property
    def left_s(self) -> float:
        """Time that is left, at least 0."""
        running = 0.0 if self._since is None else time.monotonic() - self._since
        return max(0.0, self._left_s - running)

    @property
    def spent_s(self) -> float:
        """Time that was used."""
        return self._limit_s - self.left_s

    def charge(self, seconds: float) -> None:
        """Count time that passed otherwise."""
        self._left_s = max(0.0, self._left_s - seconds)

    def start(self) -> asyncio.Timeout:
        """Let it run, and give the context that ends with the URL's time."""
        self._since = time.monotonic()
        self._timeout = asyncio.timeout(self._left_s)
        return self._timeout

    def stop(self) -> None:
        """Let it stand still."""
        self._left_s = self.left_s
        self._since = None
        self._timeout = None

    async def wait_outside(self, turn: asyncio.Semaphore) -> None:
        """Take a turn within the context that `start` gave, without counting the wait."""
        if not turn.locked():
            await turn.acquire()
            return
        timeout = self._timeout
        self.stop()
        if timeout is not None:
            timeout.reschedule(None)
        await turn.acquire()
        self._since = time.monotonic()
        self._timeout = timeout
        if timeout is not None:
            timeout.reschedule(asyncio.get_running_loop().time() + self._left_s)


@dataclass(slots=True)
class Errand:
    """What one URL has used up so far, and what holds for its body."""

    clock: Clock
    max_bytes: int
    max_redirects: int
    is_image: bool = True
    """False for robots.txt: no rules apply to it, and it is cut at `max_bytes`, not refused."""
    attempts: int = 0
    bytes: int = 0
    status: int | None = None
