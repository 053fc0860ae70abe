"""A list of URLs as the source of a data set: its order, its ids, what is kept of it."""

import csv
import io
import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redaction_core.errors import Failure, UsageError
from redaction_core.fetching import FetchPolicy
from redaction_core.plan import PlannedInput
from redaction_core.schemas import column_names
from redaction_core.sources import Content, Details
from redaction_core.sources.row_index import image_id
from redaction_core.sources.urls import UrlSource
from redaction_core.url_lists import open_url_list
from tests.fault_origin import FaultOrigin, picture

LOCAL = FetchPolicy(timeout_s=20, backoff_s=0, allow_private_hosts=("127.0.0.1",))


def source(path: Path, **changes: Any) -> UrlSource:  # noqa: ANN401 - any field
    return UrlSource(**({"location": str(path), "policy": LOCAL} | changes))


def listed(path: Path, *urls: str) -> UrlSource:
    path.write_text("".join(f"{url}\n" for url in urls))
    return source(path)


def details(given: UrlSource) -> list[tuple[PlannedInput, Details]]:
    return [(item, Details.of(item)) for item in given.planned()]


def read(given: UrlSource, inputs: Sequence[PlannedInput]) -> dict[str, Content]:
    reader = given.open()
    try:
        found = list(reader.contents(inputs))
    finally:
        reader.close()
    assert len(found) == len(inputs)
    return {each.item.key: each for each in found}


def failure(content: Content) -> Failure | None:
    return content.error and content.error.failure


def test_inputs_are_in_the_order_of_their_ids_which_are_those_of_images(tmp_path: Path) -> None:
    urls = [f"http://host-{number % 7}.org/ü {number}.jpg" for number in range(3_000)]
    found = details(listed(tmp_path / "list.txt", *urls))
    keys = [item.key for item, _ in found]
    assert keys == sorted(keys)
    assert {item.key: each.name for item, each in found} == {image_id(url): url for url in urls}
    assert all(each.image_id is None and not each.secret for _, each in found)
    assert all((item.size, item.failure, item.output) == (0, None, None) for item, _ in found)
    # Every shard has its share of every host.
    hosts = [{each.name.split("/")[2] for _, each in found[at : at + 100]} for at in (0, 1500)]
    assert all(len(each) == 7 for each in hosts)


def test_ids_stay_whatever_else_is_in_the_list_and_whatever_its_format(tmp_path: Path) -> None:
    urls = [f"http://example.org/{number}" for number in range(100)]
    first = [item.key for item in listed(tmp_path / "a.txt", *urls).planned()]
    more = [f"http://example.com/{number}" for number in range(50)]
    longer = {item.key for item in listed(tmp_path / "b.txt", *more, *reversed(urls)).planned()}
    assert longer > set(first)
    pq.write_table(pa.table({"url": urls}), tmp_path / "c.parquet")
    assert [item.key for item in source(tmp_path / "c.parquet").planned()] == first


def test_repeats_are_inputs_of_their_own(tmp_path: Path) -> None:
    url, other = "http://example.org/a", "http://example.org/b"
    found = details(listed(tmp_path / "list.txt", url, other, url, url))
    assert sorted(item.key for item, _ in found) == sorted(
        [image_id(other), *(image_id(url, repeat) for repeat in range(3))]
    )
    assert [each.name for _, each in found].count(url) == 3


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_columns_are_carried_with_their_types(tmp_path: Path, kind: str) -> None:
    rows = [
        {"name": "a, “b”", "count": 2**60, "share": 0.1, "good": True},
        {"name": None, "count": None, "share": None, "good": None},
        {"name": "", "count": -1, "share": -1.5e300, "good": False},
    ]
    rows = [{"url": f"http://example.org/{at}", **row} for at, row in enumerate(rows)]
    path = tmp_path / f"list.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        out = io.StringIO()
        writer = csv.DictWriter(out, rows[0], delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(out.getvalue())
    given = source(path)
    kinds = ["string", "int64", "float64", "bool"] if kind == "parquet" else ["string"] * 4
    assert given.columns == dict(zip(("name", "count", "share", "good"), kinds, strict=True))
    found = {each.name[-1]: dict(each.columns) for _, each in details(given)}
    if kind == "parquet":
        for at, row in enumerate(rows):
            assert found[str(at)] == {
                name: value for name, value in row.items() if value is not None and name != "url"
            }
    else:
        assert found["0"]["name"] == "a, “b”"
        assert found["0"]["count"] == str(2**60)
        assert found["2"]["share"] == "-1.5e+300"


def test_columns_with_taken_names_are_renamed(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    row = {"url": "http://example.org/a", "split": "x", "image_id": "y", "problem": "z", "q": "w"}
    path.write_text(json.dumps(row | {"list_split": "v"}))
    names = column_names(open_url_list(str(path)).columns, labels=False)
    given = source(path, renamed=names)
    ((_, found),) = details(given)
    wanted = {"list_split": "x", "list_image_id": "y", "problem": "z", "q": "w"}
    assert dict(found.columns) == wanted | {"list_list_split": "v"}
    assert list(given.columns) == list(found.columns)


def test_the_column_with_the_urls_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("url,other\nhttp://example.org/a,http://example.org/b\n")
    ((_, found),) = details(source(path, list_column="other"))
    assert (found.name, found.columns) == (
        "http://example.org/b",
        {"url": "http://example.org/a"},
    )


def test_a_row_that_cannot_be_read_is_a_bad_url(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text('{"url": "http://example.org/a"}\nno JSON\n{"url": null, "x": "1"}\n[]\n')
    given = source(path)
    found = list(given.planned())
    assert len({item.key for item in found}) == 4
    bad = [item for item in found if item.failure is not None]
    assert {item.failure for item in bad} == {Failure.BAD_URL}
    assert {item.key for item in bad} < {image_id("", repeat) for repeat in range(3)}
    assert {item.detail for item in bad} == {"not JSON", "not a JSON object"}
    contents = read(given, bad)
    assert {each.attempts for each in contents.values()} == {0}
    assert {failure(each) for each in contents.values()} == {Failure.BAD_URL}
    (empty,) = (item for item in found if item.failure is None and not Details.of(item).name)
    assert failure(read(given, [empty])[empty.key]) is Failure.BAD_URL


def test_a_change_of_a_carried_value_is_a_change_of_the_input(tmp_path: Path) -> None:
    path, versions = tmp_path / "list.csv", []
    for licence in ("by", "by", "cc0"):
        path.write_text(f"url,licence\nhttp://example.org/a,{licence}\n")
        ((item, _),) = details(source(path))
        versions.append((item.key, item.version))
    assert versions[0] == versions[1] != versions[2]
    assert versions[0][0] == versions[2][0]


def test_credentials_are_used_and_never_planned(tmp_path: Path) -> None:
    with FaultOrigin() as origin:
        host = f"127.0.0.1:{origin.port}"
        urls = [
            f"http://me:hunter2@{host}/id/1",
            f"http://me:hunter2@{host}/id/1",
            f"http://you:hunter2@{host}/id/1",
            f"http://{host}/id/2?token=hunter2",
            f"http://{host}/id/3",
        ]
        given = listed(tmp_path / "list.txt", *urls)
        planned = list(given.planned())
        assert {item.key for item in planned} == {
            image_id(urls[0], 0),
            image_id(urls[0], 1),
            *map(image_id, urls[2:]),
        }
        assert "hunter2" not in repr(planned)
        assert {Details.of(item).name for item in planned} == {
            f"http://{host}/id/1",
            f"http://{host}/id/2?token=***",
            f"http://{host}/id/3",
        }
        # Another process has nothing but the plan and the list.
        found = read(pickle.loads(pickle.dumps(given)), planned)  # noqa: S301 - our own
        sent = {call.headers.get("authorization") for call in origin.calls}
    assert all(each.error is None for each in found.values())
    assert found[image_id(urls[3])].data == picture("/id/2?token=hunter2")
    assert sent == {None, "Basic bWU6aHVudGVyMg==", "Basic eW91Omh1bnRlcjI="}


def test_a_list_that_changed_gives_nobody_another_url_s_credentials(tmp_path: Path) -> None:
    with FaultOrigin() as origin:
        host = f"127.0.0.1:{origin.port}"
        urls = [f"http://me:{number}@{host}/id/{number}" for number in range(4)]
        path = tmp_path / "list.txt"
        given = listed(path, f"http://{host}/id/plain", *urls)
        planned = list(given.planned())
        # One stays at its line, one moved, one gave way to another, one is gone.
        path.write_text("\n".join(["http://x.org/", urls[0], urls[2], f"http://{host}/other"]))
        found = read(replace(given), planned)
        asked = set(origin.counts)
    told = {Details.of(each.item).name[-1]: each for each in found.values()}
    assert {name: failure(each) for name, each in told.items()} == {
        "n": None,
        "0": None,
        "1": Failure.INPUT_CHANGED,
        "2": None,
        "3": Failure.INPUT_CHANGED,
    }
    assert told["1"].attempts == 0
    assert asked == {"/id/plain", "/id/0", "/id/2", "/robots.txt"}


def test_what_the_fetcher_says_is_what_the_content_says(tmp_path: Path) -> None:
    with FaultOrigin() as origin:
        paths = ["/id/1", "/status/404", "/status/503/times/1/id/2", "/noai"]
        given = listed(tmp_path / "list.txt", *(origin.url(path) for path in paths))
        found = read(given, list(given.planned()))
        told = {
            Details.of(each.item).name.removeprefix(origin.url("")): each for each in found.values()
        }
    assert {
        path: (failure(each), each.http_status, each.attempts) for path, each in told.items()
    } == {
        "/id/1": (None, 200, 1),
        "/status/404": (Failure.NOT_FOUND, 404, 1),
        "/status/503/times/1/id/2": (None, 200, 2),
        "/noai": (Failure.ROBOTS_TAG, 200, 1),
    }
    assert told["/id/1"].data == picture("/id/1")
    assert told["/id/1"].received == len(picture("/id/1"))
    assert all(each.seconds > 0 for each in told.values())
    assert all(each.data == b"" for path, each in told.items() if failure(each))


def test_a_list_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\A[^\n]+\Z"):
        list(source(tmp_path / "gone.txt").planned())


def test_carried_urls_bring_no_credentials_along(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("url,page,note\nhttp://a.org/1,http://me:hunter2@b.org/p,me:hunter2@ is mine\n")
    source = UrlSource(location=str(path), policy=FetchPolicy())
    (item,) = source.planned()
    assert Details.of(item).columns == {"page": "http://b.org/p", "note": "me:hunter2@ is mine"}
