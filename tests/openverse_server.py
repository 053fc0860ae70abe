"""A real server on a free port that answers in the documented shape of the Openverse API.

Source: WordPress/openverse, api/examples/image_responses.py, api/utils/pagination.py and
throttle.py; errors are those of Django REST framework and, for tokens, of oauthlib.
"""

import json
import re
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

CLIENT_ID, CLIENT_SECRET = "an-id", "a-very-secret-secret"
FORM = ("application/x-www-form-urlencoded", "client_credentials")
DEPTH = 240
LICENSES = ("by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd", "cc0", "pdm")
LICENSES_ALL = {*LICENSES, "sampling+", "nc-sampling+"}


def image(query: str, number: int, **changes: object) -> dict[str, Any]:
    """Make the result that stands at a place, counted from 0, among those of a query."""
    ident = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{query}/{number}"))
    slug = re.sub(r"\W+", "-", query)
    return {
        "id": ident,
        "title": f"{query} {number}",
        "indexed_on": "2022-08-27T17:39:48Z",
        "foreign_landing_url": f"https://photos.example/{slug}/{number}",
        "url": f"https://cdn.photos.example/{slug}/{number}.jpg",
        "creator": f"Someone {number % 7}",
        "creator_url": f"https://photos.example/people/{number % 7}",
        "license": LICENSES[number % len(LICENSES)],
        "license_version": "4.0",
        "license_url": "https://creativecommons.org/licenses/",
        "provider": "photos",
        "source": "photos",
        "category": None,
        "filesize": 896128,
        "filetype": "jpg",
        "tags": [{"accuracy": None, "name": query, "unstable__provider": "photos"}],
        "attribution": f'"{query} {number}" by Someone',
        "fields_matched": ["title"],
        "mature": False,
        "height": 400 + number,
        "width": 600 + number,
        "thumbnail": f"https://api.example/v1/images/{ident}/thumb/",
        "detail_url": f"https://api.example/v1/images/{ident}/",
        "related_url": f"https://api.example/v1/images/{ident}/related/",
        "unstable__sensitivity": [],
        **changes,
    }


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as it came."""

    path: str
    query: dict[str, str]
    headers: Message

    @property
    def search(self) -> tuple[str, int]:
        """Query and page."""
        return self.query["q"], int(self.query["page"])


@dataclass(kw_only=True)
class State:
    """What the server holds and does; tests change it while it runs."""

    found: Mapping[str, list[dict[str, Any]]]
    """Results by query; a query that is not there finds none."""
    faults: deque[str] = field(default_factory=deque)
    """Used up one a request: a status ("503", "429:0" with its Retry-After), "drop" hangs up, "cut"
    breaks off in the body, "pass" does nothing wrong; anything else is the body of a 200."""
    asked: list[Asked] = field(default_factory=list)
    quota: int | None = None
    """So many searches are answered; then 429 until there is more."""
    retry_after_s: int = 86_399
    """What those 429 ask to wait."""
    rates: Mapping[str, str] = field(
        default_factory=lambda: {"anon_burst": "60000/min", "anon_sustained": "200/day"}
    )
    hold_after: int | None = None
    """So many searches are answered; the next ones hang until `release`."""
    held: Event = field(default_factory=Event)
    release: Event = field(default_factory=Event)
    tokens: list[str] = field(default_factory=list)
    """Those that are good; `pop` withdraws one."""
    expires_in: float = 36_000

    @property
    def searches(self) -> list[tuple[str, int]]:
        """Query and page of all searches, in order."""
        return [each.search for each in self.asked if each.path == "/v1/images/"]


class OpenverseServer:
    """Serves until the context ends."""

    def __init__(self, found: Mapping[str, list[dict[str, Any]]]) -> None:
        state = State(found=found)

        self.state = state
        handler = type("Handler", (_Handler,), {"state": state})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.state.release.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that were killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        self.state.asked.append(Asked(path=url.path, query=query, headers=self.headers))
        if url.path != "/v1/images/":
            self.answer(404, {"detail": "Not found."})
        elif not self.spoil():
            self.search(query)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.state.asked.append(Asked(path=self.path, query={}, headers=self.headers))
        form = {name: values[-1] for name, values in parse_qs(body).items()}
        if self.path != "/v1/auth_tokens/token/":
            self.answer(404, {"detail": "Not found."})
        elif (self.headers["Content-Type"], form.get("grant_type")) != FORM:
            self.answer(400, {"error": "unsupported_grant_type"})
        elif (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            self.answer(401, {"error": "invalid_client", "sent": body})
        else:
            self.state.tokens.append(f"token-{len(self.state.asked)}")
            self.answer(
                200,
                {
                    "access_token": self.state.tokens[-1],
                    "expires_in": self.state.expires_in,
                    "token_type": "Bearer",
                    "scope": "read write groups",
                },
            )

    def spoil(self) -> bool:
        """Do the next fault; False if there is none."""
        state = self.state
        if state.hold_after is not None and len(state.searches) > state.hold_after:
            state.held.set()
            state.release.wait()
        fault = state.faults.popleft() if state.faults else "pass"
        if state.quota is not None and fault == "pass":
            if state.quota == 0:
                fault = f"429:{state.retry_after_s}"
            else:
                state.quota -= 1
        if fault == "pass":
            return False
        status, _, wait = fault.partition(":")
        if fault == "drop":
            self.close_connection = True
        elif fault == "cut":
            self.answer(200, {"result_count": 1}, cut=True)
        elif status.isdigit():
            detail = f"Request was throttled. Expected available in {wait} seconds."
            self.answer(
                int(status),
                {"detail": detail if status == "429" else "Something is wrong."},
                **({"Retry-After": wait} if wait else {}),
                **({"Location": "https://elsewhere.example/"} if status == "301" else {}),
            )
        else:
            self.answer(200, fault.encode())
        return True

    def search(self, query: Mapping[str, str]) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        known = token in self.state.tokens
        if token and not known:
            self.answer(401, {"detail": "Invalid token header."})
            return
        page, page_size = int(query.get("page", 1)), int(query.get("page_size", 20))
        most = 50 if known else 20
        if page_size > most:
            detail = f"page_size may not exceed {most} for anonymous requests"
            self.answer(400 if known else 401, {"detail": detail})
            return
        if page * page_size > DEPTH:
            self.answer(400 if known else 401, {"detail": "pagination depth may not exceed 240"})
            return
        licenses = query["license"].split(",") if "license" in query else None
        if licenses and (wrong := sorted({*licenses} - LICENSES_ALL)):
            detail = {"license": [f"License '{wrong[0]}' does not exist."]}
            self.answer(400, {"detail": detail})
            return
        found = [
            each
            for each in self.state.found.get(query["q"], [])
            if licenses is None or each["license"] in licenses
        ][:DEPTH]
        start = (page - 1) * page_size
        self.answer(
            200,
            {
                "result_count": len(found),
                "page_count": -(-len(found) // page_size),
                "page_size": page_size,
                "page": page,
                "results": found[start : start + page_size],
            },
        )

    def answer(self, status: int, content: object, *, cut: bool = False, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) + 100 * cut))
        for scope, rate in self.state.rates.items():
            self.send_header(f"X-RateLimit-Limit-{scope}", rate)
            self.send_header(f"X-RateLimit-Available-{scope}", "7")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = cut
