"""Lists of URLs: formats, columns, and rows that cannot be read."""

import datetime as dt
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from isal import igzip

from redaction_core.errors import UsageError
from redaction_core.url_lists import open_url_list
from redaction_core.url_lists.text import LONGEST_LINE


def written(folder: Path, name: str, data: bytes | str) -> str:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def rows(location: str, column: str | None = None) -> list[dict[str, Any]]:
    tables = list(open_url_list(location, column=column).batches())
    return [row for table in tables for row in table.to_pylist()]


def urls(location: str) -> list[str | None]:
    return [row["url"] for row in rows(location)]


def problems(location: str) -> list[str | None]:
    return [row["problem"] for row in rows(location)]


TXT = "\ufeffhttp://a/1\r\n\r\n# no\r\n  http://a/2 \r\nhttp://a/ü"


@pytest.mark.parametrize("name", ["list.txt", "list", "list.urls"])
@pytest.mark.parametrize("packed", [False, True])
def test_one_url_a_line(name: str, packed: bool, tmp_path: Path) -> None:  # noqa: FBT001
    data = gzip.compress(TXT.encode()) if packed else TXT.encode()
    location = written(tmp_path, name, data)  # .gz or not: the content says it
    found = open_url_list(location)
    assert (found.url_column, found.columns, found.location) == ("url", {}, location)
    assert urls(location) == ["http://a/1", "http://a/2", "http://a/ü"]
    (table,) = found.batches()
    assert table.schema == pa.schema([("url", pa.string()), ("problem", pa.string())])


@pytest.mark.parametrize(("suffix", "mark"), [("csv", ","), ("tsv", "\t"), ("csv.gz", ",")])
def test_tables_of_text(suffix: str, mark: str, tmp_path: Path) -> None:
    lines = ["id,URL,text", '1, http://a/1 ,"a ""b"",\nc"', "", "2,,", ""]
    text = "\r\n".join(lines).replace(",", mark)
    data = text.encode()
    location = written(tmp_path, f"x.{suffix}", gzip.compress(data) if "gz" in suffix else data)
    found = open_url_list(location)
    assert found.url_column == "URL"
    assert found.columns == {"id": "string", "text": "string"}
    assert rows(location) == [
        {"url": "http://a/1", "id": "1", "text": f'a "b"{mark}\nc', "problem": None},
        {"url": "", "id": "2", "text": "", "problem": None},
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("url,x\nhttp://a,1\n", "csv"),
        ("url\tx\nhttp://a\t1\n", "tsv"),
        ('{"url":"http://a"}', "jsonl"),
    ],
)
def test_without_a_suffix_the_content_decides(text: str, kind: str, tmp_path: Path) -> None:
    location = written(tmp_path, "list", text)
    assert open_url_list(location).format == kind
    assert urls(location) == ["http://a"]


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        '{"url": " http://a/1 ", "n": 1.10, "big": 123456789012345678901234567890, "ok": true}',
        '{"n": null, "deep": {"a": [1, "ü"]}, "text": "\\ud83d\\ude00 \\ud800", "url": null}',
        "  ",
        '{"url": 7, "late": 1}',
    ]
    location = written(tmp_path, "x.jsonl", "\n".join(lines))
    found = open_url_list(location)
    assert list(found.columns) == ["n", "big", "ok", "deep", "text", "late"]
    nothing = dict.fromkeys([*found.columns, "problem"])
    assert rows(location) == [
        nothing
        | {"url": "http://a/1", "n": "1.10", "big": "123456789012345678901234567890", "ok": "true"},
        nothing | {"url": None, "deep": '{"a": [1, "ü"]}', "text": "\U0001f600 \ufffd"},
        nothing | {"url": "7", "late": "1"},
    ]


def test_fields_that_come_late_are_left_out(tmp_path: Path) -> None:
    lines = [json.dumps({"url": f"http://a/{number}"}) for number in range(1000)]
    location = written(tmp_path, "x.jsonl", "\n".join([*lines, '{"url": "http://b", "late": 1}']))
    assert open_url_list(location).columns == {}
    assert urls(location)[-1] == "http://b"


def test_broken_lines_are_rows(tmp_path: Path) -> None:
    long = b"x" * (3 * LONGEST_LINE + 5)
    whole = b'{"url": "http://a"}'
    deep = b"[" * 100_000
    lines = [whole, b"{", b"[1]", b'{"url": "\xff"}', deep, long, b"7", whole]
    location = written(tmp_path, "x.jsonl", b"\n".join(lines))
    too_long = f"a line of more than {LONGEST_LINE} bytes"
    assert problems(location) == [
        *(None, "not JSON", "not a JSON object", "not UTF-8", "not JSON", too_long),
        *("not a JSON object", None),
    ]
    assert urls(location) == ["http://a", *[None] * 6, "http://a"]

    location = written(tmp_path, "x.txt", b"\n".join([b"http://a", b"\xff", long, b"http://b"]))
    assert problems(location) == [None, "not UTF-8", too_long, None]

    lines = [b"url,x", b"a,1", b"b", b"c,1,2", b"\xff,1", b"d,\xff", long, b'"e",1', b"f,1"]
    location = written(tmp_path, "x.csv", b"\n".join(lines))
    assert problems(location) == [
        *(None, "1 fields, the first line has 2", "3 fields, the first line has 2"),
        *("not UTF-8", "not UTF-8", too_long, None, None),
    ]
    assert [url for url in urls(location) if url] == ["a", "e", "f"]


@pytest.mark.parametrize("columns", ["url", "url,text"])
@pytest.mark.parametrize("lines", [2, 20_000])
@pytest.mark.parametrize("last", [(), ("y" * (LONGEST_LINE + 1),)], ids=["", "long"])
def test_a_stray_quote_costs_one_row(
    columns: str, lines: int, last: tuple[str, ...], tmp_path: Path
) -> None:
    rest = [f"http://a/{number}" + ",x" * columns.count(",") for number in range(lines)]
    location = written(tmp_path, "x.csv", "\n".join([columns, '"http://b,x', *rest, *last]))
    found = rows(location)
    assert [row["url"] for row in found[1 : lines + 1]] == [line.split(",")[0] for line in rest]
    assert [bool(row["problem"]) for row in found] == [
        True,
        *[False] * lines,
        *[True for _ in last],
    ]


def test_quotes_over_lines_that_hold_urls(tmp_path: Path) -> None:
    location = written(tmp_path, "x.csv", 'url\n"http://a\n"http://b\nhttp://c\n')
    assert urls(location) == [None, None, "http://c"]
    assert None not in problems(location)[:2]


def test_types_of_parquet(tmp_path: Path) -> None:
    when = dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    table = pa.table(
        {
            "n": pa.array([1, None], pa.int8()),
            "u": pa.array([2**64 - 1, 1], pa.uint64()),
            "f": pa.array([0.5, None], pa.float32()),
            "b": pa.array([True, None]),
            "s": pa.array(["x", "y"]).dictionary_encode(),
            "t": pa.array([when, None], pa.timestamp("s", "Europe/Paris")),
            "d": pa.array([when.date(), None]),
            "raw": pa.array([b"1", b"2"]),
            "list": pa.array([[1], [2]]),
            "a.b": pa.array([{"x": 1}, None]),
            "url": pa.array([" http://a ", None], pa.large_string()),
            "x.y": pa.array([1, 2]),
        }
    )
    path = tmp_path / "list"  # without a suffix
    pq.write_table(table, path)
    found = open_url_list(str(path))
    assert list(found.columns.items()) == [
        *(("n", "int64"), ("u", "string"), ("f", "float64"), ("b", "bool"), ("s", "string")),
        *(("t", "string"), ("d", "string"), ("x.y", "int64")),
    ]
    (batch,) = found.batches()
    assert [str(field.type) for field in batch.schema] == [
        *("string", "int64", "string", "double", "bool", "string", "string", "string", "int64"),
        "string",
    ]
    names = ("url", *found.columns, "problem")
    full = ("http://a", 1, str(2**64 - 1), 0.5, True, "x")
    full += ("2020-01-02 03:04:05.000Z", "2020-01-02", 1, None)
    rest = (None, None, "1", None, None, "y", None, None, 2, None)
    assert batch.to_pylist() == [dict(zip(names, row, strict=True)) for row in (full, rest)]


def test_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"http://a", b"\xff", None])
    bad = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    for column in (raw, bad):
        pq.write_table(pa.table({"url": column, "x": bad}), tmp_path / "x.parquet")
        found = rows(str(tmp_path / "x.parquet"))
        assert [row["url"] for row in found] == ["http://a", None, None]
        assert [row["x"] for row in found] == ["http://a", None, None]
        assert [row["problem"] for row in found] == [None, "not UTF-8", None]


@pytest.mark.parametrize(
    ("names", "column", "chosen"),
    [
        ("Link,src,IMAGE_URL,Url", None, "Url"),
        ("Link,src,IMAGE_URL", None, "IMAGE_URL"),
        ("src,Link", None, "Link"),
        ("x,src", None, "src"),
        ("photo", None, "photo"),
        ("url,photo", "photo", "photo"),
    ],
)
def test_the_url_column(names: str, column: str | None, chosen: str, tmp_path: Path) -> None:
    values = ",".join(f"of-{name}" for name in names.split(","))
    location = written(tmp_path, "x.csv", f"{names}\n{values}\n")
    found = open_url_list(location, column=column)
    assert found.url_column == chosen
    assert list(found.columns) == [name for name in names.split(",") if name != chosen]
    (table,) = found.batches()
    assert table.column_names == ["url", *found.columns, "problem"]  # a name may be there twice
    assert table.column(0)[0].as_py() == f"of-{chosen}"


@pytest.mark.parametrize(
    ("name", "data", "column", "says"),
    [
        ("x.txt", b"", None, "the file is empty"),
        ("x.txt", b"\n# nothing\n", None, "the list is empty"),
        ("x.csv", b"url,x\n\n", None, "the list is empty"),
        ("x.jsonl", b"7\n", None, "no line is a JSON object"),
        ("x.jsonl", b'[{"url": "http://a"}]', None, "one object a line"),
        ("x.csv", b"a,b\n1,2\n", None, "name one: there are a, b"),
        ("x.csv", b"a,b\n1,2\n", "c", "no column 'c'; there are a, b"),
        ("x.csv", b"a,a\n1,2\n", None, "two columns are named 'a'"),
        ("x.csv", b"http://a\nhttp://b\n", None, "the first line holds a URL"),
        ("x.csv", b"\xff,b\n1,2\n", None, "not UTF-8"),
        ("x.txt", b"http://a", "link", "no column 'link'; there is url"),
        ("x.txt", "http://a".encode("utf-16"), None, "neither text in UTF-8 nor Parquet"),
        ("x.parquet", b"http://a", None, "not a Parquet file"),
        ("x.parquet", b"PAR1 and no more", None, "cannot be read"),
        ("x.txt.gz", gzip.compress(b"http://a\n" * 9999)[:-9], None, ""),
        ("x.csv", (",".join(f"c{n}" for n in range(1001)) + "\n").encode(), None, "1001 columns"),
    ],
)
def test_lists_that_are_refused(
    name: str, data: bytes, column: str | None, says: str, tmp_path: Path
) -> None:
    location = written(tmp_path, name, data)
    with pytest.raises(UsageError) as caught:
        list(open_url_list(location, column=column).batches())
    assert says in str(caught.value)
    assert location in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "", "folder"])
def test_files_that_are_not_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError):
        open_url_list(f"{tmp_path}/{name}")


def test_a_damaged_gzip_ends_with_an_error_and_not_as_if_it_were_whole(tmp_path: Path) -> None:
    text = "".join(f"http://a/{number * 7919}\n" for number in range(200_000)).encode()
    packed = igzip.compress(text)
    for data in (packed[:-1000], packed[:-2000] + bytes(1000) + packed[-1000:]):
        found = open_url_list(written(tmp_path, "x.txt.gz", data))
        with pytest.raises(UsageError, match="damaged"):
            list(found.batches())


def test_many_rows_come_in_batches(tmp_path: Path) -> None:
    location = written(tmp_path, "x.txt", "".join(f"http://a/{n}\n" for n in range(25_000)))
    found = open_url_list(location)
    assert [table.num_rows for table in found.batches()] == [10_000, 10_000, 5_000]
    assert urls(location) == [f"http://a/{n}" for n in range(25_000)]
    wide = written(tmp_path, "y.txt", ("y" * (LONGEST_LINE - 1) + "\n") * 40)
    assert max(table.nbytes for table in open_url_list(wide).batches()) < 20_000_000


def test_a_bomb_does_not_fill_memory(tmp_path: Path) -> None:
    packed = igzip.compress(b"http://a\n" + b" " * 300_000_000)
    location = written(tmp_path, "x.txt.gz", packed)
    code = (
        "import resource, sys\n"
        "from redaction_core.url_lists import open_url_list\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(sum(table.num_rows for table in open_url_list(sys.argv[1]).batches()))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, location], capture_output=True, text=True, check=True
    )
    count, grown = map(int, done.stdout.split())
    assert count == 2
    assert grown < 60_000  # KiB
