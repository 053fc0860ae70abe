"""What a fault origin answers: one function a fault, by the first word of a path."""

import asyncio
import gzip
import http
import io
import random
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from time import time
from urllib.parse import parse_qs

import numpy as np
from PIL import Image

BEAT_S = 0.02
"""Between two bytes of a drip."""
LATER_S = 0.05
"""Before what follows the announced end of a body."""


@lru_cache(maxsize=4096)
def picture(path: str, side: int = 48) -> bytes:
    """Give the picture of a path: PNG if it ends so, else JPEG."""
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    small = rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    image = Image.fromarray(small.repeat(8, 0).repeat(8, 1))
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if path.endswith(".png") else "JPEG")
    return buffer.getvalue()


@dataclass(kw_only=True)
class Call:
    """One request as it came."""

    target: str
    headers: Mapping[str, str]
    """By name in lower case."""
    query: str = ""
    words: list[str] = field(default_factory=list)
    """Of the path."""

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    def number(self) -> str:
        """Take the word that follows the fault's name."""
        return self.words.pop(1)


Writer = asyncio.StreamWriter
Answer = Callable[[Writer, Call], Awaitable[None]]


async def send(  # noqa: PLR0913 - an answer has so many parts
    writer: Writer,
    body: bytes,
    kind: str = "image/jpeg",
    *,
    status: int = 200,
    length: int | None = None,
    more: Mapping[str, str] | None = None,
) -> None:
    with suppress(ValueError):
        status = http.HTTPStatus(status)
    fields = {"Content-Type": kind, "Content-Length": str(len(body) if length is None else length)}
    lines = [
        f"HTTP/1.1 {int(status)} x",
        *(f"{k}: {v}" for k, v in (fields | (more or {})).items()),
    ]
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
    await writer.drain()


async def _status(writer: Writer, call: Call) -> None:
    status = int(call.number())
    await send(writer, b"" if status in {204, 304} else b"no", "text/plain", status=status)


async def _retry_after(writer: Writer, call: Call) -> None:
    """429 with so many seconds; a number with a `d` is sent as a date."""
    text = call.number()
    value = formatdate(time() + float(text[:-1]), usegmt=True) if text.endswith("d") else text
    await send(writer, b"", status=429, more={"Retry-After": value})


async def _unavailable(writer: Writer, call: Call) -> None:
    await send(writer, b"", status=503, more={"Retry-After": call.number()})


async def _reset(writer: Writer, _: Call) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _hang_up(writer: Writer, _: Call) -> None:
    writer.close()


async def _half(writer: Writer, call: Call) -> None:
    body = picture(call.target)
    await send(writer, body[: len(body) // 2], length=len(body))
    writer.close()


async def _half_chunk(writer: Writer, call: Call) -> None:
    body = picture(call.target)
    writer.write(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(f"{len(body):x}\r\n".encode() + body[:-20])
    await writer.drain()
    writer.close()


async def _bad_chunk(writer: Writer, _: Call) -> None:
    writer.write(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n")
    await writer.drain()


async def _drip(writer: Writer, call: Call) -> None:
    body = picture(call.target)
    await send(writer, b"", length=len(body) * 1000)
    while not writer.is_closing():
        writer.write(b"\0")
        await writer.drain()
        await asyncio.sleep(BEAT_S)


async def _silence(writer: Writer, _: Call) -> None:
    while not writer.is_closing():  # noqa: ASYNC110 - nothing tells when it is
        await asyncio.sleep(BEAT_S)


async def _stall(writer: Writer, call: Call) -> None:
    """Send half of the body, and no more."""
    body = picture(call.target)
    await send(writer, body[: len(body) // 2], length=len(body))
    await _silence(writer, call)


async def _slow(writer: Writer, call: Call) -> None:
    await asyncio.sleep(float(call.number()))
    await send(writer, picture(call.target))


async def _length(writer: Writer, call: Call) -> None:
    """Announce twice the length and hang up (`long`), or half of it and send more (`short`)."""
    body = picture(call.target)
    if call.number() == "long":
        await send(writer, body, length=2 * len(body))
    else:
        await send(writer, body[: len(body) // 2], length=len(body) // 2)
        await asyncio.sleep(LATER_S)
        writer.write(body[len(body) // 2 :])
        await writer.drain()
    writer.close()


async def _type(writer: Writer, call: Call) -> None:
    await send(writer, picture(call.target), "text/html")


async def _html(writer: Writer, call: Call) -> None:
    await send(writer, f"<html><body>{call.target}</body></html>".encode())


async def _garbage(writer: Writer, _: Call) -> None:
    writer.write(b"220 mail.example.com ESMTP\r\n")
    await writer.drain()
    writer.close()


async def _endless(writer: Writer, _: Call) -> None:
    writer.write(b"HTTP/1.1 200 x\r\nContent-Type: image/jpeg\r\nConnection: close\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"\xff" * 65_536)
        await writer.drain()
        await asyncio.sleep(0)


async def _endless_chunks(writer: Writer, _: Call) -> None:
    writer.write(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"10000\r\n" + b"\xff" * 65_536 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)


async def _bytes(writer: Writer, call: Call) -> None:
    """Send so many bytes, without a length if `chunked` follows."""
    body = b"\x01" * int(call.number())
    if "chunked" not in call.words:
        await send(writer, body)
        return
    writer.write(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(body), 50_000):
        piece = body[start : start + 50_000]
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _announced(writer: Writer, call: Call) -> None:
    """Announce so many bytes, and send none."""
    await send(writer, b"", length=int(call.number()))
    await _silence(writer, call)


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    """Give 50 MB of zeros, packed; its check sum is missing, as nobody gets that far."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first, further = (
        packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    )
    return first + further * 49


async def _packed(writer: Writer, call: Call) -> None:
    """Send packed what nobody asked to be packed."""
    body = picture(call.target)
    kinds = {
        "gzip": ("gzip", lambda: gzip.compress(body)),
        "gzip-bomb": ("gzip", _bomb),
        "gzip-half": ("gzip", lambda: gzip.compress(body)[:-30]),
        "gzip-not": ("gzip", lambda: body),
        "deflate": ("deflate", lambda: zlib.compress(body)),
        "deflate-bare": ("deflate", lambda: zlib.compress(body)[2:-4]),
        "brotli": ("br", lambda: body),
    }
    name, pack = kinds[call.words[0]]
    await send(writer, pack(), more={"Content-Encoding": name})


async def _loop(writer: Writer, call: Call) -> None:
    """Lead to itself; `/loop/2` leads there over another one."""
    other = call.target.replace("/loop/2", "/loop/to/2") if "/to/" not in call.target else ""
    location = other or call.target.replace("/loop/to/2", "/loop/2")
    await send(writer, b"", status=302, more={"Location": location})


async def _redirect(writer: Writer, call: Call) -> None:
    """Lead to the parameter `to`, as it is; without one, nowhere."""
    to = parse_qs(call.query).get("to")
    status = int(call.words[1]) if len(call.words) > 1 and call.words[1].isdigit() else 302
    more = {"Location": to[0].encode().decode("latin-1")} if to else {}
    await send(writer, b"", status=status, more=more)


async def _redirects(writer: Writer, call: Call) -> None:
    """Lead over so many further redirects to a picture."""
    left = int(call.number()) - 1
    rest = "/".join(call.words[1:])
    to = f"/redirects/{left}/{rest}" if left else f"/image/{rest}"
    await send(writer, b"", status=301, more={"Location": to})


async def _noai(writer: Writer, call: Call) -> None:
    await send(writer, picture(call.target), more={"X-Robots-Tag": call.words[0]})


async def _tag(writer: Writer, call: Call) -> None:
    """Send the next word as X-Robots-Tag."""
    await send(writer, picture(call.target), more={"X-Robots-Tag": call.number()})


async def _cookie(writer: Writer, call: Call) -> None:
    await send(writer, picture(call.target), more={"Set-Cookie": "a=b; Path=/"})


async def _empty(writer: Writer, _: Call) -> None:
    await send(writer, b"")


async def _headers(writer: Writer, _: Call) -> None:
    """Send headers that never end."""
    writer.write(b"HTTP/1.1 200 x\r\n")
    while not writer.is_closing():
        writer.write(b"".join(b"X-%d: y\r\n" % random.randrange(10**9) for _ in range(50)))
        await writer.drain()
        await asyncio.sleep(0)


FAULTS: dict[str, Answer] = {
    answer.__name__[1:].replace("_", "-"): answer
    for answer in (
        *(_status, _retry_after, _unavailable, _reset, _hang_up, _garbage, _headers),
        *(_half, _half_chunk, _bad_chunk, _length, _announced, _endless, _endless_chunks),
        *(_drip, _silence, _stall, _slow, _type, _empty, _bytes, _cookie),
        *(_loop, _redirect, _redirects, _noai, _tag),
    )
} | {
    "html.jpg": _html,
    **dict.fromkeys(
        ("gzip", "gzip-bomb", "gzip-half", "gzip-not", "deflate", "deflate-bare", "brotli"), _packed
    ),
}
"""Every fault, by the first word of its path; any other path is a picture."""
