"""How requests to S3 are tried again, bounded, and split into parts."""

import io
import math
import os
import random
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, TypeVar

from botocore.exceptions import HTTPClientError

from redaction_core.errors import UsageError
from redaction_core.storage.s3_clients import READ_AT_ONCE
from redaction_core.storage.s3_faults import FOREIGN, is_transient

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_LEAST_TRIES: Final = 3
_Result = TypeVar("_Result")


def tried(
    request: Callable[[], _Result], retry_s: float, wait: Callable[[], None] = lambda: None
) -> _Result:
    """Try a request until it succeeds, fails for good, or fails `retry_s` after it first did.

    Raises what the last try raised, one of `FOREIGN`. A request that takes long to fail is tried
    three times all the same; with 0 s, every request is tried once. `wait` is called before each
    pause.
    """
    end, tries, pause_s = math.inf, 0, _FIRST_PAUSE_S
    while True:
        try:
            return request()
        except FOREIGN as error:
            now, tries = time.monotonic(), tries + 1
            end = min(end, now + retry_s)
            is_over = now >= end and (tries >= _LEAST_TRIES or not retry_s)
            if is_over or not is_transient(error):
                raise
        wait()
        # Jitter keeps many clients from coming back all at once.
        time.sleep(random.uniform(0, pause_s))  # noqa: S311 - no secret
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def within(limit_s: float, request: Callable[[], _Result]) -> _Result:
    """Give up a request of boto3 after so long: it bounds the time between two bytes alone.

    Raises HTTPClientError then; the request is left to end by itself.
    """
    answers: SimpleQueue[tuple[_Result, None] | tuple[None, BaseException]] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put((request(), None))
        except BaseException as error:  # noqa: BLE001 - raised below
            answers.put((None, error))

    threading.Thread(target=ask, name="s3-request", daemon=True).start()
    try:
        result, error = answers.get(timeout=limit_s)
    except Empty:
        raise HTTPClientError(error=f"no whole answer in {limit_s:g} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value] # of no error


class Ranges(io.RawIOBase):
    """An object of a known size as a raw file, read by ranges."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        """Take what fetches the bytes from one place to another."""
        self._size = size
        self._fetch = fetch
        self._at = 0

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """See `io.RawIOBase`."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("negative seek position")
        self._at = start + offset
        return self._at

    def readall(self) -> bytes:
        """See `io.RawIOBase`."""
        # The inherited one asks for 8 KiB at a time.
        return b"".join(iter(lambda: self.read(READ_AT_ONCE) or b"", b""))

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """See `io.RawIOBase`."""
        view = memoryview(buffer)
        end = min(self._at + min(len(view), READ_AT_ONCE), self._size)
        if end <= self._at:
            return 0
        data = self._fetch(self._at, end)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def seconds_of(variable: str, default: float) -> float:
    """Read a time from the environment; raises UsageError when it is none."""
    text = os.environ.get(variable) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageError(f"{variable}={text}: write seconds, such as {default:g}")
    return seconds
