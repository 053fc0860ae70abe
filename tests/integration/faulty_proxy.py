"""An HTTP proxy before a real server that spoils answers: the next ones as told, or some by chance.

"503" (any status) answers the request itself. "drop" hangs up and "reset" resets the connection,
"stall" says nothing until the client gives up: the server never hears of the request. "lose",
"lose-reset" and "lose-stall" do the same after the server did its work. "cut" hangs up in the
middle of the answer's body, "behead" in its head, "broken" leaves out the end of an answer in XML
and counts it as whole, "slow" lets the request and its answer drip. "pass" does nothing wrong.
"""

import http.client
import os
import random
import socket
import struct
import time
from collections import Counter, deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Final, Self
from urllib.parse import urlsplit

DEADLY: Final = (
    *("503", "503", "500", "drop", "reset", "stall"),
    *("lose", "lose-reset", "lose-stall", "cut", "behead", "broken"),
)
"""After these a request must be made again; S3 says 503 (SlowDown) more often than other things."""
KINDS: Final = (*DEADLY, "slow")
_CODES: Final = {503: "SlowDown", 500: "InternalError"}
_DRIPS: Final = 10


class FaultyProxy:
    """Spoils answers by the queue `faults`, used up one a request; after that by chance.

    Chance depends on the seed, on the request, and on how often the same was made before: not on
    the order in which threads and processes make theirs.
    """

    def __init__(self, upstream: str, *, rate: float = 0.0, seed: int = 0) -> None:
        """Take the share of requests to spoil; `upstream` is the URL of the server."""
        self.faults: deque[str] = deque()
        self.rate = rate
        self.drip_s = 0.03
        """Between two of the ten pieces of what is slow."""
        self.stall_s = 600.0
        """What stalls for so long is counted as "waited for": the client should have given up."""
        self.requests = 0
        self.spoilt: Counter[str] = Counter()
        self.upstream = urlsplit(upstream).netloc
        self._seed = seed
        self._storm = (0, 0.0)
        self._storm_ends = 0.0
        self._seen: Counter[str] = Counter()
        self._lock = Lock()
        self._server = _Server(self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def storm(self, seconds: float, *, after: int = 0) -> None:
        """Let every request fail for so long, once so many more have been made."""
        self._storm = (self.requests + after + 1, seconds)

    def calm(self) -> None:
        """End the storm."""
        self._storm_ends = 0.0

    def draw(self, request: str) -> str:
        """Say what is done to a request."""
        with self._lock:
            self.requests += 1
            self._seen[request] += 1
            if self.requests == self._storm[0]:
                self._storm_ends = time.monotonic() + self._storm[1]
            if self.faults:
                kind = self.faults.popleft()
            else:
                chance = random.Random(f"{self._seed} {self._seen[request]} {request}")
                kind = "pass"
                if time.monotonic() < self._storm_ends:
                    kind = chance.choice(DEADLY)
                elif chance.random() < self.rate:
                    kind = chance.choice(KINDS)
            if kind != "pass":
                self.spoilt[kind] += 1
            return kind

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._server.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, proxy: FaultyProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy
        self.connections: set[socket.socket] = set()

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients hang up, and the server dies."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, and one to the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._upstream = http.client.HTTPConnection(self.server.proxy.upstream)
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        self._upstream.close()
        super().finish()

    def answer(self) -> None:
        fault = self.server.proxy.draw(f"{self.command} {self.path}")
        if fault == "reset":  # without a look at the body: in the middle of an upload
            return self._hang_up("reset")
        body = self._body(slowly=fault == "slow")
        if fault in ("drop", "stall"):
            return self._hang_up(fault)
        if fault.isdigit():
            head, data = _refusal(int(fault))
        else:
            head, data = self._ask(body)
        if fault.startswith("lose"):
            return self._hang_up(fault.removeprefix("lose").lstrip("-"))
        if self.command == "HEAD":
            data = b""
        if fault == "broken" and data.startswith(b"<?xml"):
            head, data = _with_length(head, len(data) // 2), data[: len(data) // 2]
        elif fault in ("cut", "behead", "broken"):
            whole = fault != "behead" and data
            self.wfile.write(head + data[: len(data) // 2] if whole else head[: len(head) // 2])
            return self._hang_up("drop")
        whole = head + data
        for piece in _pieces(len(whole)) if fault == "slow" else [slice(None)]:
            if piece.start:
                time.sleep(self.server.proxy.drip_s)
            self.wfile.write(whole[piece])
        return None

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

    def _body(self, *, slowly: bool) -> bytes:
        size = int(self.headers.get("Content-Length") or 0)
        if not slowly:
            return self.rfile.read(size)
        pieces = []
        for piece in _pieces(size):
            time.sleep(self.server.proxy.drip_s)
            pieces.append(self.rfile.read(piece.stop - piece.start))
        return b"".join(pieces)

    def _ask(self, body: bytes) -> tuple[bytes, bytes]:
        """Let the server do its work; gives head and body of its answer."""
        self._upstream.putrequest(
            self.command, self.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in self.headers.items():  # Host too: it is signed
            self._upstream.putheader(name, value)
        self._upstream.endheaders(body)
        found = self._upstream.getresponse()
        data = found.read()
        lines = [f"HTTP/1.1 {found.status} {found.reason}"]
        for name, value in found.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                lines.append(f"{name}: {value}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return (head if found.getheader("Content-Length") else _with_length(head, len(data))), data

    def _hang_up(self, how: str) -> None:
        self.close_connection = True
        if how == "stall":
            self.connection.settimeout(self.server.proxy.stall_s)
            try:
                self.connection.recv(1)
            except TimeoutError:
                self.server.proxy.spoilt["waited for"] += 1
        elif how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _pieces(size: int) -> list[slice]:
    step = max(1, -(-size // _DRIPS))
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _refusal(status: int) -> tuple[bytes, bytes]:
    code = _CODES.get(status)
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>-</Message></Error>'
    data = text.encode() if code else b""
    return _with_length(f"HTTP/1.1 {status} No\r\n\r\n".encode(), len(data)), data


def _with_length(head: bytes, size: int) -> bytes:
    """Say another length of the body."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"content-length:")]
    return b"\r\n".join([*kept, b"Content-Length: %d" % size, b"", b""])
