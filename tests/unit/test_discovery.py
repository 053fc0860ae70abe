"""Searching Openverse: the pages, the list, limits, and going on where a search ended."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from redaction_core.discovery.openverse import open_api
from redaction_core.discovery.search import PLAN, Done, Search, adopt, collect
from redaction_core.discovery.url_list import URL_LIST, UrlList
from redaction_core.errors import UsageError
from redaction_core.storage import Blob, DiskStore, open_store
from tests.openverse_server import OpenverseServer, image
from tests.unit.searches import FAST, run, search_for


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
