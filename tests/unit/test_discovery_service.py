"""Openverse as a service: its faults, its pace, its tokens, and who we say we are."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from redaction_core.discovery.openverse import (
    Credentials,
    Manners,
    checked_api,
    open_api,
    user_agent,
)
from redaction_core.discovery.rates import retry_after_s
from redaction_core.discovery.search import Search
from redaction_core.errors import Failure, InputError, UsageError
from tests.openverse_server import CLIENT_ID, CLIENT_SECRET, OpenverseServer
from tests.unit.searches import run, search_for

OURS = Credentials(client_id=CLIENT_ID, client_secret=CLIENT_SECRET)


@pytest.mark.parametrize("fault", ["429:0", "500", "502", "503:0", "408", "drop", "cut"])
def test_what_passes_is_tried_again(server: OpenverseServer, tmp_path: Path, fault: str) -> None:
    server.state.faults.extend([fault] * 4)
    said: list[str] = []
    urls, _ = run(search_for(server, "dogs"), tmp_path, said=said)
    assert urls.rows == 3
    assert len(server.state.asked) == 5
    assert all(line.endswith(": again in 0 s") for line in said)
    assert said


@pytest.mark.parametrize(
    ("fault", "failure", "requests"),
    [
        ("429:0", Failure.RATE_LIMITED, 5),
        ("500", Failure.SERVER_ERROR, 5),
        ("408", Failure.TIMEOUT, 5),
        ("drop", Failure.CONNECTION, 10),  # aiohttp sends each once more itself
        ("cut", Failure.CONNECTION, 5),
        ("429:3600", Failure.RATE_LIMITED, 1),
        ("503:3600", Failure.SERVER_ERROR, 1),
        ("400", Failure.CLIENT_ERROR, 1),
        ("401", Failure.FORBIDDEN, 1),
        ("403", Failure.FORBIDDEN, 1),
        ("404", Failure.CLIENT_ERROR, 1),
        ("301", Failure.CLIENT_ERROR, 1),
        ("<html>", Failure.SERVER_ERROR, 1),
        ("[" * 100_000, Failure.SERVER_ERROR, 1),
        ("[]", Failure.SERVER_ERROR, 1),
        ("{}", Failure.SERVER_ERROR, 1),
    ],
)
def test_what_does_not_pass_is_one_line_and_stores_nothing(
    server: OpenverseServer, tmp_path: Path, fault: str, failure: Failure, requests: int
) -> None:
    server.state.faults.extend([fault] * 10)
    with pytest.raises(InputError, match=r"\A[^\n]+\Z") as caught:
        run(search_for(server, "dogs"), tmp_path)
    assert caught.value.failure == failure
    assert len(server.state.asked) == requests
    assert not list(tmp_path.rglob("*.*"))


def test_an_answer_without_end_is_left(server: OpenverseServer, tmp_path: Path) -> None:
    server.state.faults.append("x" * (2**24 + 1))
    with pytest.raises(InputError, match="more than 16777216 bytes"):
        run(search_for(server, "dogs"), tmp_path)


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with OpenverseServer({}) as gone:
        search = search_for(gone, "dogs")
    with pytest.raises(InputError, match=gone.address) as caught:
        run(search, tmp_path)
    assert caught.value.failure == Failure.CONNECTION


def test_a_long_wait_ends_the_search_and_tells_the_limits(
    server: OpenverseServer, tmp_path: Path
) -> None:
    server.state.quota = 2
    search = search_for(server, "cats", "dogs")
    with pytest.raises(InputError, match=r"200/day, 60000/min.*86399 s.*--max-wait-s"):
        run(search, tmp_path)

    server.state.quota = None
    urls, done = run(search, tmp_path)

    assert (urls.rows, done.pages_asked, done.pages_stored) == (47, 2, 2)


def test_the_service_sets_the_pace(server: OpenverseServer) -> None:
    async def gap_s(rate: str, manners: Manners, credentials: Credentials | None) -> float:
        server.state.rates = {"burst": rate, "sustained": "200/day"}
        async with open_api(server.address, manners, credentials=credentials) as api:
            await api.search("dogs", licenses=(), page=1, page_size=20)
            return api._gap_s  # noqa: SLF001 - to wait for it would take a minute

    fast = Manners(requests_per_minute=600)
    assert asyncio.run(gap_s("20/min", fast, None)) == 3
    assert asyncio.run(gap_s("20/m", fast, None)) == 3
    assert asyncio.run(gap_s("2/second", fast, None)) == 0.5
    assert asyncio.run(gap_s("6000/min", fast, None)) == 0.1
    assert asyncio.run(gap_s("5/hour", fast, None)) == 0.1
    assert asyncio.run(gap_s("fast", fast, None)) == 0.1
    assert asyncio.run(gap_s("6000/min", Manners(), None)) == 3


def test_requests_keep_their_distance(
    server: OpenverseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr("redaction_core.discovery.openverse.asyncio.sleep", recorded)
    monkeypatch.setattr("redaction_core.discovery.openverse.time.monotonic", lambda: 1000.0)
    run(search_for(server, "cats"), tmp_path, Manners())
    assert slept == [3, 6]  # the clock stands still


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 17 ", 17),
        ("-1", None),
        ("nan", None),
        ("soon", None),
        ("9" * 30, None),
        ("Fri, 01 Mar 2024 00:01:00 GMT", 60),
        ("Thu, 29 Feb 2024 23:59:00 -0000", 0),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, datetime(2024, 3, 1, tzinfo=UTC)) == seconds


def test_the_user_agent_is_honest(server: OpenverseServer, tmp_path: Path) -> None:
    manners = Manners(contact="me@example.org", requests_per_minute=1e6)
    run(search_for(server, "dogs"), tmp_path, manners)
    assert server.state.asked[0].headers["User-Agent"] == user_agent("me@example.org")
    assert user_agent("me@example.org").endswith(" (+me@example.org)")
    assert user_agent(None).startswith("redaction-audit")
    for wrong in ("a\r\nb: c", "ü@example.org"):
        with pytest.raises(UsageError):
            user_agent(wrong)


def test_credentials_become_a_token_that_is_used_until_it_ends(
    server: OpenverseServer, tmp_path: Path
) -> None:
    run(search_for(server, "cats", page_size=48), tmp_path / "one", credentials=OURS)
    run(search_for(server, "many", page_size=48), tmp_path / "two", credentials=OURS)
    paths = [each.path for each in server.state.asked]
    assert paths == [
        *("/v1/auth_tokens/token/", "/v1/images/"),
        *("/v1/auth_tokens/token/", *["/v1/images/"] * 5),
    ]
    assert server.state.asked[-1].headers["Authorization"] == f"Bearer {server.state.tokens[-1]}"


def test_a_token_that_ends_is_renewed(server: OpenverseServer, tmp_path: Path) -> None:
    server.state.expires_in = 1
    run(search_for(server, "cats"), tmp_path, credentials=OURS)
    assert len(server.state.tokens) == 3


def test_a_token_that_is_withdrawn_is_renewed_once(server: OpenverseServer, tmp_path: Path) -> None:
    server.state.faults.extend(["401"])
    urls, _ = run(search_for(server, "dogs"), tmp_path, credentials=OURS)
    assert (urls.rows, len(server.state.tokens)) == (3, 2)
    server.state.faults.extend(["401"] * 5)
    with pytest.raises(InputError) as caught:
        run(search_for(server, "cats"), tmp_path, credentials=OURS)
    assert caught.value.failure == Failure.FORBIDDEN
    assert len(server.state.tokens) == 4


def test_wrong_credentials_are_refused_and_never_shown(
    server: OpenverseServer, tmp_path: Path
) -> None:
    wrong = Credentials(client_id="who-is-it", client_secret="pass-word")  # noqa: S106 - made up
    with pytest.raises(InputError, match="OPENVERSE_CLIENT_ID") as caught:
        run(search_for(server, "dogs"), tmp_path, credentials=wrong)
    for text in (str(caught.value), repr(wrong)):
        assert "who-is-it" not in text
        assert "pass-word" not in text
    assert len(server.state.asked) == 1


def test_credentials_go_to_other_machines_encrypted_only(tmp_path: Path) -> None:
    search = Search(api="http://api.example", queries=("a",), page_size=20)
    with pytest.raises(UsageError, match="https"):
        run(search, tmp_path, credentials=OURS)


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENVERSE_CLIENT_ID", raising=False)
    monkeypatch.delenv("OPENVERSE_CLIENT_SECRET", raising=False)
    assert Credentials.of_environment() is None
    monkeypatch.setenv("OPENVERSE_CLIENT_ID", CLIENT_ID)
    with pytest.raises(UsageError):
        Credentials.of_environment()
    monkeypatch.setenv("OPENVERSE_CLIENT_SECRET", CLIENT_SECRET)
    assert Credentials.of_environment() == OURS


@pytest.mark.parametrize(
    "api",
    ["api.openverse.org", "ftp://host", "https://", "https://user:sec@host", "https://host?a=sec",
     "https://host#sec", "https://[host", "https://host:sec", "https://host/\n"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_its_text(api: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_api(api)
    assert "sec" not in str(caught.value)


def test_an_address_is_taken_without_its_last_slash() -> None:
    assert checked_api("http://127.0.0.1:80/base/") == "http://127.0.0.1:80/base"
