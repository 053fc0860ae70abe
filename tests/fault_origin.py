"""A web server whose faults live in the URL: `/status/503/times/2/id/7` fails twice, then serves.

A path is read from the left: a fault with what it takes, then `times/N` (so often, per URL; else
always), then anything, such as `id/7`, that makes it another URL. Where nothing is wrong (any more)
it answers with a picture of its own, the same at each call: `picture(target)`.
"""

import asyncio
import threading
from collections import Counter
from typing import Self
from urllib.parse import unquote, urlsplit

from tests.fault_answers import FAULTS, Call, Writer, picture, send

__all__ = ["FaultOrigin", "picture"]

TLS_HELLO = b"\x16"

ROBOTS = """\
User-agent: redaction-audit
Disallow: /robots-forbidden/

User-agent: otherbot
Disallow: /
"""


class FaultOrigin:
    """Serves on all `addresses` at one free port, in a thread of its own, while the context lasts.

    `heal()` ends all faults: from then on every path answers with its picture. `robots` is the
    answer to /robots.txt: a text, a status, or a path whose fault it shows; /rules has the usual.
    """

    def __init__(self, *addresses: str, robots: str | int = ROBOTS) -> None:
        self.addresses = addresses or ("127.0.0.1",)
        self.robots = robots
        self.healed = False
        self.calls: list[Call] = []
        self.counts: Counter[str] = Counter()
        """Requests by target (path and query), robots.txt among them."""
        self.busy = 0
        self.busiest = 0
        """Most requests at once."""
        self.connections = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._open: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def url(self, path: str, host: str | None = None) -> str:
        """Give the URL of a path, at the first address or under another name."""
        return f"http://{host or self.addresses[0]}:{self.port}{path}"

    def heal(self) -> None:
        """Let every path answer with its picture."""
        self.healed = True

    def asked(self, path: str) -> int:
        """Tell how often a path was asked for."""
        return self.counts[path]

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        servers = []
        for address in self.addresses:
            server = await asyncio.start_server(self._connected, address, self.port, backlog=1024)
            self.port = server.sockets[0].getsockname()[1]
            servers.append(server)
        self._ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            while not writer.is_closing():
                start = await reader.readexactly(1)
                if start == TLS_HELLO:
                    writer.write(b"HTTP/1.1 400 no TLS here\r\n\r\n")
                    return
                head = start + await reader.readuntil(b"\r\n\r\n")
                await self._answer(writer, head.decode("latin-1").split("\r\n"))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, writer: Writer, head: list[str]) -> None:
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in headers.items()}
        target = head[0].split(" ")[1]
        call = Call(target=target, headers=headers, query=urlsplit(target).query)
        self.calls.append(call)
        self.counts[call.target] += 1
        path = urlsplit(call.target).path
        if path == "/robots.txt" and not self.healed:
            if isinstance(self.robots, int):
                path = f"/status/{self.robots}"
            elif self.robots.startswith("/"):
                path, _, call.query = self.robots.partition("?")
        call.words = [unquote(word) for word in path.strip("/").split("/")]
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await self._answer_call(writer, call)
        finally:
            self.busy -= 1

    async def _answer_call(self, writer: Writer, call: Call) -> None:
        if call.words in (["robots.txt"], ["rules"]):
            text = self.robots if isinstance(self.robots, str) else ""
            text = ROBOTS if text.startswith("/") else text
            await send(writer, text.encode(), "text/plain")
            return
        fault = FAULTS.get(call.words[0])
        if fault is None or self.healed or self._over(call):
            await send(writer, picture(call.target))
            return
        await fault(writer, call)

    def _over(self, call: Call) -> bool:
        """Take `times/N` out of the path, and say whether the fault has had its times."""
        if "times" not in call.words:
            return False
        at = call.words.index("times")
        times = int(call.words[at + 1])
        del call.words[at : at + 2]
        return self.counts[call.target] > times
