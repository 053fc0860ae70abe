"""`jobs.ingest` as people run it: real Ray, a real S3 server, a real web server."""

import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.images import Transform, encode, normalise
from redaction_core.storage import open_store
from tests import hostile_images
from tests.command import WITHOUT_RAY, Ended, run
from tests.data_sets import DataSet
from tests.fault_origin import FaultOrigin, picture
from tests.local_cluster import local_cluster

PRIVATE = ("--allow-private-hosts", "127.0.0.1")
GOOD = [f"/id/{number}" for number in range(12)]
COPIED = [f"/id/{number}" for number in range(3)]
BAD = {
    "/status/404": "not_found",
    "/status/410": "not_found",
    "/status/403": "forbidden",
    "/status/401": "forbidden",
    "/status/418": "client_error",
    "/status/500": "server_error",
    "/retry-after/100": "rate_limited",
    "/reset": "connection",
    "/half": "incomplete_body",
    "/silence": "timeout",
    "/drip": "timeout",
    "/endless": "too_many_bytes",
    "/gzip-bomb": "too_many_bytes",
    "/html.jpg": "not_an_image",
    "/loop": "bad_redirect",
    "/robots-forbidden/a.jpg": "robots_txt",
    "/noai": "robots_tag",
}
FAST = ("--timeout-s", "3", "--attempts", "2", "--max-bytes", "2000000")


@pytest.fixture(scope="module", autouse=True)
def cluster(s3_server: EmbeddedS3) -> Iterator[None]:
    """Have one cluster for all runs, as its start takes longer than theirs."""
    with local_cluster(s3_server.environment) as cluster, pytest.MonkeyPatch.context() as patch:
        cluster.add(cpus=2)
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield


def ingest(log: Path, output: str, *flags: str) -> Ended:
    environment = {"RAY_ADDRESS": os.environ["RAY_ADDRESS"]}
    return run(log, "--output", output, *flags, verb="ingest", environment=environment)


def write_list(path: Path, origin: FaultOrigin, paths: list[str]) -> str:
    path.write_text("".join(f"{origin.url(each)}\n" for each in paths))
    return str(path)


def expected_png(path: str, **changes: Any) -> bytes:  # noqa: ANN401 - any field
    return encode(normalise(picture(path), Transform(**changes)).pixels, "png")


def test_every_url_ends_as_an_image_or_in_the_ledger_and_retries_heal(tmp_path: Path) -> None:
    output = f"{tmp_path}/out"
    with FaultOrigin() as origin:
        paths = [*GOOD, *COPIED, "/status/503/times/1/id/9", *BAD]
        urls = write_list(tmp_path / "urls.txt", origin, paths)
        with (tmp_path / "urls.txt").open("a") as file:
            file.write("http://localhost:1/private\nhttp://10.1.2.3/a.png\nftp://example.org/a\n")
        flags = ("--urls", urls, "--shard-size", "9", *PRIVATE, *FAST)
        ended = ingest(tmp_path / "first", output, *flags)
        assert ended.code == 0, ended.stderr
        found = DataSet.read(output)
        assert {origin.url(path): failure for path, failure in BAD.items()} | {
            "http://localhost:1/private": "private_address",
            "http://10.1.2.3/a.png": "private_address",
            "ftp://example.org/a": "bad_url",
        } == found.failed
        assert ended.result["failures"] == found.summary["failures"]
        by_url = {row["url"]: row for row in found.images}
        for path in (*GOOD, "/status/503/times/1/id/9"):
            assert by_url[origin.url(path)]["image"]["bytes"] == expected_png(path)
        assert len(found.images) == len(GOOD) + len(COPIED) + 1
        assert ended.result["duplicates"] == len(COPIED)
        found.check_splits()
        assert "not_found" in ended.stderr

        # The same command again asks for nothing.
        asked = len(origin.calls)
        again = ingest(tmp_path / "again", output, *flags)
        assert again.code == 0, again.stderr
        assert len(origin.calls) == asked
        times = dict.fromkeys(("seconds", "images_per_s_per_worker"))
        assert ended.result["images_per_s_per_worker"] > 0
        assert again.result | times == ended.result | times

        # Retries ask for what failed so, and for nothing else.
        committed = {
            name: open_store(output).read(name).data
            for name in found.names
            if name.startswith(("images/", "commits/", "ledger/", "contents/"))
        }
        origin.heal()
        before = dict(origin.counts)
        healed = ingest(
            tmp_path / "healed", output, *flags, "--retry-failed", "timeout", "server_error"
        )
        assert healed.code == 0, healed.stderr
        new = {path for path, count in origin.counts.items() if count > before.get(path, 0)}
        assert new - {"/robots.txt"} == {"/silence", "/drip", "/status/500"}
        after = DataSet.read(output)
        assert set(found.failed.items()) - set(after.failed.items()) == {
            (origin.url("/silence"), "timeout"),
            (origin.url("/drip"), "timeout"),
            (origin.url("/status/500"), "server_error"),
        }
        assert after.summary["ok"] == found.summary["ok"] + 3
        assert after.summary["inputs"] == found.summary["inputs"]
        store = open_store(output)
        assert all(store.read(name).data == data for name, data in committed.items())
        after.check_splits()

        # All of it, and then there is nothing left that the server could heal.
        ingest(tmp_path / "all", output, *flags, "--retry-failed")
        last = DataSet.read(output)
        assert set(last.failed.values()) == {
            "private_address",
            "bad_url",
            "robots_txt",
        }


def test_disk_and_s3_hold_the_same(tmp_path: Path, s3_location: str) -> None:
    with FaultOrigin() as origin:
        rows = [
            {"url": origin.url(path), "licence": "by", "title": f"a, “{path}”\n", "split": "x"}
            for path in [*GOOD, *COPIED, "/status/404"]
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (tmp_path / "list.jsonl.gz").write_bytes(gzip.compress(lines))
        open_store(f"{s3_location}/lists").put("list.jsonl.gz", gzip.compress(lines))
        both = []
        for place, name in ((str(tmp_path), "disk"), (s3_location, "s3")):
            lists = place if name == "disk" else f"{place}/lists"
            ended = ingest(
                tmp_path / name,
                f"{place}/out",
                *("--urls", f"{lists}/list.jsonl.gz", "--shard-size", "5", *PRIVATE),
                *("--color", "rgb", "--fit", "pad", "--size", "40", "--val-fraction", "0.5"),
                *("--group-by", r"/id/(\d)"),
            )
            assert ended.code == 0, ended.stderr
            both.append(DataSet.read(f"{place}/out"))
    disk, s3 = both
    assert disk.images == s3.images
    assert disk.ledger() == s3.ledger()
    assert [name for name in disk.names if name.startswith("images/")] == [
        name for name in s3.names if name.startswith("images/")
    ]
    assert {row["licence"] for row in disk.images} == {"by"}
    assert {row["list_split"] for row in disk.images} == {"x"}
    assert {row["split"] for row in disk.images} == {"train", "val"}
    assert {row["title"] for row in disk.images} == {f"a, “{path}”\n" for path in GOOD}
    splits = {row["url"].rpartition("/")[2][0]: set[str]() for row in disk.images}
    for row in disk.images:
        splits[row["url"].rpartition("/")[2][0]].add(row["split"])
        path = row["url"].removeprefix(origin.url(""))
        changes = {"color": "rgb", "fit": "pad", "size": 40}
        assert row["image"]["bytes"] == expected_png(path, **changes)
    assert all(len(each) == 1 for each in splits.values())


def test_datasets_duckdb_and_pandas_open_it(tmp_path: Path) -> None:
    (tmp_path / "in" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "in" / "test" / "dog").mkdir(parents=True)
    for number in range(9):
        (tmp_path / f"in/train/cat/{number}.png").write_bytes(picture(f"/id/{number}"))
    (tmp_path / "in/test/dog/0.png").write_bytes(picture("/id/100"))
    # A copy of what is in train: it must not stay there.
    (tmp_path / "in/test/dog/1.png").write_bytes(picture("/id/3"))
    output = tmp_path / "out"
    ended = ingest(tmp_path / "log", str(output), "--images", f"{tmp_path}/in", "--size", "32")
    assert ended.code == 0, ended.stderr
    DataSet.read(str(output)).check_splits()

    loaded = datasets.load_dataset(
        "parquet", data_files=f"{output}/images/*.parquet", cache_dir=f"{tmp_path}/cache"
    )["train"]
    frame = pd.read_parquet(output / "images")
    table = duckdb.connect().execute(f"from '{output}/images/*.parquet'").fetchall()
    assert len(loaded) == len(frame) == len(table) == 11
    for row, other in zip(loaded, frame.to_dict("records"), strict=True):
        source = (tmp_path / "in" / row["url"]).read_bytes()
        pixels = normalise(source, Transform(size=32)).pixels
        assert isinstance(row["image"], Image.Image)
        assert np.array_equal(np.asarray(row["image"]), pixels)
        decoded = Image.open(io.BytesIO(other["image"]["bytes"]))
        assert np.array_equal(np.asarray(decoded), pixels)
        assert row["label"] == row["url"].split("/")[1]
        in_test = row["url"].startswith("test/") or row["url"] == "train/cat/3.png"
        assert (row["split"] == "test") == in_test
    assert ended.result["splits"]["test"] == 3


def test_hostile_images_end_in_the_right_class_or_pixels(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    cases = {case.name: case for case in hostile_images.make(max_pixels=2**20)}
    for name, case in cases.items():
        (folder / name).write_bytes(case.data)
    flags = ("--images", str(folder), "--size", "64", "--color", "rgb", "--fit", "stretch")
    ended = ingest(tmp_path / "log", f"{tmp_path}/out", *flags, "--max-pixels", str(2**20))
    assert ended.code == 0, ended.stderr
    found = DataSet.read(f"{tmp_path}/out")
    assert found.failed == {
        name: str(case.failure) for name, case in cases.items() if case.failure is not None
    }
    good = {name for name, case in cases.items() if case.failure is None}
    assert {row["url"] for row in found.images} == good


def test_extend_adds_urls_and_keeps_what_is_there(tmp_path: Path) -> None:
    output = f"{tmp_path}/out"
    with FaultOrigin() as origin:
        urls = write_list(tmp_path / "urls.txt", origin, GOOD)
        flags = ("--urls", urls, "--shard-size", "5", *PRIVATE)
        assert ingest(tmp_path / "first", output, *flags).code == 0
        first = DataSet.read(output)
        asked = dict(origin.counts)
        write_list(tmp_path / "urls.txt", origin, [*GOOD, *COPIED, "/id/77"])
        assert "left out are the 4 new" in ingest(tmp_path / "plain", output, *flags).stderr
        assert dict(origin.counts) == asked
        ended = ingest(tmp_path / "extended", output, *flags, "--extend")
        assert ended.code == 0, ended.stderr
        found = DataSet.read(output)
        assert len(found.images) == len(GOOD) + 4
        by_id = {row["image_id"]: row for row in found.images}
        assert all(by_id[row["image_id"]] == row for row in first.images)
        assert ended.result["duplicates"] == len(COPIED)
        # Each worker asks for the rules; every URL is asked for once, however often it joins.
        asked = {path: count for path, count in origin.counts.items() if path != "/robots.txt"}
        assert asked == {path: 1 + (path in COPIED) for path in (*GOOD, "/id/77")}
        refused = ingest(tmp_path / "other", output, *flags, "--size", "32")
        assert refused.code == 2
        assert "size: 224 -> 32" in refused.error


def test_credentials_reach_the_server_and_no_file_nor_log(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with FaultOrigin() as origin:
        secret = f"http://me:hunter2@127.0.0.1:{origin.port}"
        (tmp_path / "urls.txt").write_text(
            f"{secret}/id/1\n{secret}/status/404\n{origin.url('/id/2?token=s3cret')}\n"
        )
        ended = ingest(tmp_path / "log", str(output), "--urls", f"{tmp_path}/urls.txt", *PRIVATE)
        assert ended.code == 0, ended.stderr
        assert ended.result["ok"] == 2
        assert origin.asked("/id/2?token=s3cret") == 1
        sent = [call.headers.get("authorization") for call in origin.calls]
    assert "Basic bWU6aHVudGVyMg==" in sent
    for path in (*output.rglob("*"), *(tmp_path / "log").rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            assert b"hunter2" not in data, path
            assert b"s3cret" not in data, path
    text = json.dumps(DataSet.read(str(output)).images, default=str)
    assert "hunter2" not in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "--urls LIST or --images PLACE"),
        (("--urls", "missing.txt"), "no such file"),
        (("--images", "missing"), "no such folder"),
        (("--urls", "{}/list.txt", "--size", "0"), "size"),
        (("--urls", "{}/list.txt", "--retry-failed", "bad_luck"), "the classes are"),
        (("--urls", "{}/list.txt", "--group-by", "("), "no column of the list"),
        (("--urls", "{}/list.txt", "--url-column", "link"), "no column 'link'"),
        (("--urls", "{}/empty.txt"), "empty"),
        (("--urls", "{}/list.txt", "--val-fraction", "2"), "a share, 0 to 1"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path: Path, flags: tuple[str, ...], says: str) -> None:
    (tmp_path / "list.txt").write_text("http://example.org/a.jpg\n")
    (tmp_path / "empty.txt").write_text("")
    given = [flag.format(tmp_path) for flag in flags]
    ended = run(
        tmp_path / "log",
        *("--output", f"{tmp_path}/out", *given),
        verb="ingest",
        environment=WITHOUT_RAY,
    )
    assert ended.code == 2
    assert says in ended.error
    assert not (tmp_path / "out").exists()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("http://example.org/a.jpg\nhttp://example.org/b.jpg\n")
    ended = run(
        tmp_path / "log",
        *("--urls", f"{tmp_path}/list.txt", "--output", f"{tmp_path}/out", "--dry-run"),
        verb="ingest",
        environment=WITHOUT_RAY,
    )
    assert ended.code == 0, ended.stderr
    assert ended.result["inputs"] == 2
    assert not (tmp_path / "out").exists()
