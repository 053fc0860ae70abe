"""Bodies read to their end or to the limit, whatever their headers say."""

import asyncio
import zlib
from contextlib import suppress
from typing import Final

import aiohttp

from redaction_core.errors import Failure
from redaction_core.fetching.outcome import Errand, FetchError

_LARGE: Final = 1_000_000  # bytes
_LARGE_AT_ONCE: Final = 8
_SKIPPED: Final = 65_536  # bytes; reading so many is cheaper than another connection
_SKIPPING_S: Final = 1.0
_ZLIB_METHOD: Final = 8
_PLAIN: Final = frozenset({"identity", ""})


class Bodies:
    """Reads bodies; of those beyond 1 MB, 8 at a time in this process."""

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def read(self, response: aiohttp.ClientResponse, errand: Errand) -> bytes:
        """Read the whole body, unpacked.

        Raises:
            FetchError: `TOO_MANY_BYTES`, `UNSUPPORTED` encoding, `INCOMPLETE_BODY` of a packed
                body, `CONNECTION` for one that is packed wrongly.
        """
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        announced = _announced(response)
        if announced is not None:
            if announced > errand.max_bytes and errand.is_image:
                raise _too_many(errand)
            if announced <= min(_LARGE, errand.max_bytes) and encoding in _PLAIN:
                # The parser of aiohttp ends a body at its announced length.
                return await response.content.read()
        turn = _Turn(self._large, errand)
        try:
            if announced is not None and announced > _LARGE:
                await turn.take()
            return await self._read_on(response, errand, turn)
        finally:
            turn.give_back()

    async def _read_on(
        self, response: aiohttp.ClientResponse, errand: Errand, turn: "_Turn"
    ) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        unpacking = None if encoding in _PLAIN else _Unpacking(encoding)
        content = response.content
        data = bytearray()
        while chunk := await content.readany():
            room = errand.max_bytes - len(data) + 1
            data += chunk[:room] if unpacking is None else unpacking.feed(chunk, room)
            # What unpacks to nothing could go on for ever.
            if max(len(data), content.total_bytes) > errand.max_bytes:
                if errand.is_image:
                    raise _too_many(errand)
                return bytes(data[: errand.max_bytes])
            if len(data) > _LARGE:
                await turn.take()
        if unpacking is not None:
            unpacking.finish()
        return bytes(data)

    async def skip(self, response: aiohttp.ClientResponse) -> None:
        """Read a small body that nobody wants, so that its connection can be used again."""
        if response.content.is_eof():
            return
        announced = _announced(response)
        if announced is not None and announced <= _SKIPPED:
            with suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(_SKIPPING_S):
                    await response.content.read()


class _Turn:
    """The turn of one large body."""

    def __init__(self, turns: asyncio.Semaphore, errand: Errand) -> None:
        self._turns = turns
        self._errand = errand
        self._held = False

    async def take(self) -> None:
        """Wait for it, if it was not taken yet; the wait is not the URL's time."""
        if not self._held:
            await self._errand.clock.wait_outside(self._turns)
            self._held = True

    def give_back(self) -> None:
        if self._held:
            self._turns.release()


class _Unpacking:
    """Undoes gzip and deflate piece by piece, never more than there is room for."""

    def __init__(self, encoding: str) -> None:
        if encoding not in {"gzip", "x-gzip", "deflate"}:
            raise FetchError(Failure.UNSUPPORTED, "a content encoding that was not asked for")
        self._is_gzip = encoding != "deflate"
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes, room: int) -> bytes:
        """Unpack the next piece to at most `room` bytes, at least 1."""
        if self._stream is None:
            # Servers send deflate with and without zlib's header.
            bare = not self._is_gzip and data[0] & 0x0F != _ZLIB_METHOD
            self._stream = zlib.decompressobj(31 if self._is_gzip else -15 if bare else 15)
        try:
            return self._stream.decompress(data, room)
        except zlib.error:
            raise FetchError(Failure.CONNECTION, "the body is not packed as announced") from None

    def finish(self) -> None:
        """Refuse what broke off."""
        if self._stream is not None and not self._stream.eof:
            raise FetchError(
                Failure.INCOMPLETE_BODY, "the packed body ended before its end", transient=True
            )


def _announced(response: aiohttp.ClientResponse) -> int | None:
    """Give the announced length if it is what ends the body."""
    if "Transfer-Encoding" in response.headers:
        return None
    return response.content_length


def _too_many(errand: Errand) -> FetchError:
    return FetchError(Failure.TOO_MANY_BYTES, f"more than {errand.max_bytes} bytes")
