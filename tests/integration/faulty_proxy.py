"""An HTTP proxy before a real server that spoils the next answers, as told."""

import http.client
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self
from urllib.parse import urlsplit


class FaultyProxy:
    """Faults are used up one a request: "503" (any status) answers it, "drop" hangs up.

    Both leave the server untouched; "lose" lets the server do its work and hangs up then, "cut"
    hangs up in the middle of the answer's body, "pass" does nothing wrong.
    """

    def __init__(self, upstream: str) -> None:
        faults: deque[str] = deque()
        host = urlsplit(upstream).netloc

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.close_connection = True
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = faults.popleft() if faults else "pass"
                if fault == "drop":
                    return
                if fault.isdigit():
                    self.send_response_only(int(fault))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                server = http.client.HTTPConnection(host)
                server.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():  # Host too: it is signed
                    server.putheader(name, value)
                server.endheaders(body)
                found = server.getresponse()
                data = found.read()
                server.close()
                if fault == "lose":
                    return
                self.send_response_only(found.status)
                for name, value in found.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection"):
                        self.send_header(name, value)
                if not found.getheader("Content-Length"):
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.faults = faults
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
