"""Searching Openverse: its client, what it makes of answers, the pages and the list."""

import asyncio
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redaction_core.discovery.answers import Page, plain_text
from redaction_core.discovery.openverse import (
    Credentials,
    Manners,
    checked_api,
    open_api,
    user_agent,
)
from redaction_core.discovery.rates import retry_after_s
from redaction_core.discovery.search import PLAN, Done, Search, adopt, collect
from redaction_core.discovery.url_list import URL_LIST, UrlList
from redaction_core.errors import Failure, InputError, UsageError
from redaction_core.storage import Blob, DiskStore, open_store
from tests.openverse_server import CLIENT_ID, CLIENT_SECRET, OpenverseServer, State, image

FAST = Manners(requests_per_minute=1e6, backoff_s=0)
OURS = Credentials(client_id=CLIENT_ID, client_secret=CLIENT_SECRET)


@pytest.fixture
def server() -> Iterator[OpenverseServer]:
    found = {
        "cats": [image("cats", number) for number in range(45)],
        "dogs": [image("dogs", 0), image("cats", 3), image("dogs", 1)],
        "many": [image("many", number) for number in range(300)],
    }
    with OpenverseServer(found) as running:
        yield running


@pytest.fixture
def state(server: OpenverseServer) -> State:
    return server.state


def search_for(server: OpenverseServer, *queries: str, **changes: object) -> Search:
    values: dict[str, Any] = {"api": server.address, "queries": queries, "page_size": 20}
    return Search(**{**values, **changes})


def run(
    search: Search,
    folder: Path,
    manners: Manners = FAST,
    credentials: Credentials | None = None,
    said: list[str] | None = None,
) -> tuple[UrlList, Done]:
    async def whole() -> tuple[UrlList, Done]:
        say = (said if said is not None else []).append
        async with open_api(search.api, manners, credentials=credentials, say=say) as api:
            return await collect(search, open_store(str(folder)), api)

    return asyncio.run(whole())


def rows(folder: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(folder / "urls.parquet").to_pylist())


def test_all_pages_of_all_queries_make_one_list(server: OpenverseServer, tmp_path: Path) -> None:
    urls, done = run(search_for(server, "cats", "nothing", "dogs"), tmp_path)

    expected = [*server.state.found["cats"], server.state.found["dogs"][0]]
    expected.append(server.state.found["dogs"][2])
    found = rows(tmp_path)
    assert [row["url"] for row in found] == [each["url"] for each in expected]
    assert [row["query"] for row in found] == ["cats"] * 45 + ["dogs"] * 2
    assert pq.read_schema(tmp_path / "urls.parquet").equals(URL_LIST)
    first = expected[0]
    assert found[0] == {
        "landing_url": first["foreign_landing_url"],
        "openverse_id": first["id"],
        "query": "cats",
        **{
            name: first[name] for name in found[0].keys() - {"landing_url", "openverse_id", "query"}
        },
    }
    assert (urls.rows, urls.duplicates, urls.unusable) == (47, 1, 0)
    assert done == Done(queries=3, results=48, without_results=1, pages_asked=5, pages_stored=0)
    assert server.state.searches == [
        *(("cats", 1), ("cats", 2), ("cats", 3)),
        *(("nothing", 1), ("dogs", 1)),
    ]


def test_no_page_is_asked_for_twice(server: OpenverseServer, tmp_path: Path) -> None:
    search = search_for(server, "cats", "dogs")
    run(search, tmp_path)
    before = (tmp_path / "urls.parquet").stat()
    server.state.asked.clear()

    _, done = run(search, tmp_path)

    after = (tmp_path / "urls.parquet").stat()
    assert not server.state.asked
    assert (done.pages_asked, done.pages_stored) == (0, 4)
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


@pytest.mark.parametrize(
    ("limit", "page_size", "expected"),
    [
        (1, 20, (1, 1)),
        (20, 20, (1, 20)),
        (21, 20, (2, 21)),
        (240, 20, (12, 240)),
        (40, 7, (6, 40)),
        (240, 14, (17, 238)),
        (4800, 20, (12, 240)),
    ],
)
def test_no_query_reaches_beyond_limit_and_depth(
    server: OpenverseServer, tmp_path: Path, limit: int, page_size: int, expected: tuple[int, int]
) -> None:
    search = search_for(server, "many", limit_per_query=limit, page_size=page_size)
    urls, _ = run(search, tmp_path)
    assert (len(server.state.searches), urls.rows) == expected


def test_licences_go_into_the_search(server: OpenverseServer, tmp_path: Path) -> None:
    run(search_for(server, "cats", license=("by", "cc0")), tmp_path)
    assert server.state.asked[0].query["license"] == "by,cc0"
    assert {row["license"] for row in rows(tmp_path)} == {"by", "cc0"}


def test_a_plus_in_a_licence_and_any_query_arrive_as_they_are(
    server: OpenverseServer, tmp_path: Path
) -> None:
    query = 'a+b & "c"=ü #?%41'
    run(search_for(server, query, license=("sampling+",)), tmp_path)
    asked = server.state.asked[0].query
    assert (asked["q"], asked["license"]) == (query, "sampling+")


def test_json_lines_hold_the_same_rows(server: OpenverseServer, tmp_path: Path) -> None:
    run(search_for(server, "dogs"), tmp_path)
    run(search_for(server, "dogs", format="jsonl"), tmp_path)
    lines = (tmp_path / "urls.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows(tmp_path)
    assert list(json.loads(lines[0])) == URL_LIST.names


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


def answer(*results: dict[str, Any], **changes: object) -> bytes:
    counts = {"result_count": 1, "page_count": 1, "page_size": 20, "page": 1}
    return json.dumps({**counts, "results": results, **changes}).encode()


@pytest.mark.parametrize(
    "body",
    [
        answer(page=2),
        answer(page="1"),
        answer(page_count=None),
        answer(page_count=-1),
        answer(result_count=True),
        answer(results={}),
        answer(results=["a"]),
        *(answer(image("a", 0, **{name: 5})) for name in ("id", "url", "title", "license")),
        *(answer(image("a", 0, **{name: None})) for name in ("id", "license")),
        *(answer(image("a", 0, **{name: "1"})) for name in ("width", "height")),
        answer(image("a", 0, width=1.5)),
        b"\xff",
    ],
)
def test_an_answer_of_another_shape_is_an_error(body: bytes) -> None:
    with pytest.raises(InputError, match="documents it") as caught:
        Page.of_answer(body, 1)
    assert caught.value.failure == Failure.SERVER_ERROR


def test_what_may_be_missing_may_be_missing() -> None:
    (found,) = Page.of_answer(answer({"id": "1", "url": "http://a/b", "license": "by"}), 1).results
    assert (found.title, found.width, found.foreign_landing_url) == (None, None, None)
    changes = {"title": " \n", "width": 0, "height": 2**31}
    (found,) = Page.of_answer(answer(image("a", 0, **changes)), 1).results
    assert (found.title, found.width, found.height) == (None, None, None)


@pytest.mark.parametrize(
    "url",
    [None, "", "ftp://a/b", "//a/b", "a", "http:///b", "http://[a/b", "http://u:p@a/b", "http://u@a/",
     "http://a/b c", "http://a/\x00b", "http://a/b\n", "javascript:alert(1)", "file:///etc/passwd"],
)  # fmt: skip
def test_a_url_that_cannot_be_fetched_is_left_out(url: str | None) -> None:
    (found,) = Page.of_answer(answer(image("a", 0, url=url)), 1).results
    urls = UrlList("parquet")
    urls.add(found, "a")
    assert (urls.rows, urls.unusable) == (0, 1)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a\tb\r\n  c", "a b c"),
        ("a\x00\x1b[31mb\x7f\x85", "a[31mb"),
        ("a \x00 b", "a b"),
        ("\ud800a\udfff", "a"),
        ("a\u202eb\u2066c\u2028d", "abc d"),
        ("Größe 🧑\u200d🎨 猫", "Größe 🧑\u200d🎨 猫"),
    ],
)
def test_texts_of_strangers_become_one_plain_line(text: str, plain: str) -> None:
    assert plain_text(text) == plain


@given(st.text(st.characters()), st.text(st.characters()))
def test_a_stored_page_reads_as_it_was(title: str, creator: str) -> None:
    page = Page.of_answer(answer(image("a", 0, title=title, creator=creator)), 1)
    assert Page.of_answer(page.to_json(), 1) == page
    assert "\n" not in f"{page.results[0].title}{page.results[0].creator}"
    urls = UrlList("parquet")
    urls.add(page.results[0], "a")
    assert pq.read_table(io.BytesIO(urls.finish())).num_rows == 1


def test_an_empty_list_has_its_columns() -> None:
    assert pq.read_schema(io.BytesIO(UrlList("parquet").finish())).equals(URL_LIST)
    assert UrlList("jsonl").finish() == b""


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


SEARCH = Search(api="http://a", queries=("a", "b"), page_size=20)
OTHERS = {
    "api": "http://b",
    "license": ("by",),
    "limit_per_query": 3,
    "page_size": 10,
    "format": "jsonl",
    "queries": ("b", "a"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_search_is_refused(tmp_path: Path, name: str) -> None:
    store = open_store(str(tmp_path))
    adopt(store, SEARCH)
    adopt(store, SEARCH)
    other = Search(
        **{"api": "http://a", "queries": ("a", "b"), "page_size": 20, name: OTHERS[name]}
    )
    with pytest.raises(UsageError, match=f"another search \\({name}: "):
        adopt(store, other, extend=True)
    assert store.read(PLAN).data == SEARCH.to_json()


def test_queries_can_be_added(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    more = Search(api="http://a", queries=("a", "b", "c"), page_size=20)
    adopt(store, SEARCH)
    with pytest.raises(UsageError, match="--extend"):
        adopt(store, more)
    adopt(store, more, extend=True, dry_run=True)
    assert store.read(PLAN).data == SEARCH.to_json()
    adopt(store, more, extend=True)
    assert store.read(PLAN).data == more.to_json()
    with pytest.raises(UsageError, match="another search"):
        adopt(store, SEARCH, extend=True)


def test_a_place_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match=r"mine\.txt"):
        adopt(open_store(str(tmp_path)), SEARCH)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"verb": "discover", "version": 1, "b": 2}'])
def test_a_damaged_plan_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / PLAN).write_text(content)
    with pytest.raises(UsageError, match=r"discover\.json.*damaged"):
        adopt(open_store(str(tmp_path)), SEARCH)


def test_a_damaged_page_is_one_line(server: OpenverseServer, tmp_path: Path) -> None:
    search = search_for(server, "dogs")
    run(search, tmp_path)
    (tmp_path / search.page_key("dogs", 1)).write_text("{")
    with pytest.raises(UsageError, match=r"0001\.json.*damaged"):
        run(search, tmp_path)


def test_pages_that_another_run_stored_first_count(server: OpenverseServer, tmp_path: Path) -> None:
    search = search_for(server, "dogs")
    run(search, tmp_path / "first")
    server.state.found = {"dogs": [image("dogs", 9)]}

    class Late(DiskStore):
        """Shows no page before it is written."""

        hides = True

        def read(self, key: str, *, max_bytes: int | None = None) -> Blob:
            hidden = self.hides and key.startswith("pages/")
            return super().read(f"{key}.hidden" if hidden else key, max_bytes=max_bytes)

        def put_if_absent(self, key: str, data: bytes) -> bool:
            self.hides = False
            return super().put_if_absent(key, data)

    async def whole() -> UrlList:
        async with open_api(server.address, FAST) as api:
            return (await collect(search, Late(str(tmp_path / "first")), api))[0]

    assert asyncio.run(whole()).rows == 3
