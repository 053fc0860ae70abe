"""Which store a location names, and which it refuses."""

from pathlib import Path

import pytest

from redaction_core.errors import (
    UsageError,
)
from redaction_core.storage import (
    open_file,
    open_store,
)


@pytest.mark.parametrize("location", ["here", "./here/", "file://{}/here", "{}/x/../here"])
def test_local_locations(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store(location.format(tmp_path)).location == f"{tmp_path}/here"


def test_file_urls_are_percent_decoded(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}/a%20b%23").location == f"{tmp_path}/a b#"


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://user:secret@host/x",
        "gs://bucket/x",
        "s3a://bucket/x",
        "s3://",
        "s3://user:secret@bucket/x",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "file://host/x",
        "file:///x?y",
    ],
)
def test_other_locations_are_refused_in_one_line(location: str) -> None:
    with pytest.raises(UsageError, match="write s3://bucket/prefix") as caught:
        open_store(location)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_locations_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for location in ("x y.tar", "./x y.tar", f"{tmp_path}/x y.tar", f"file://{tmp_path}/x%20y.tar"):
        store, key = open_file(location)
        assert (store.location, key) == (str(tmp_path), "x y.tar")
    store, key = open_file("/x")
    assert (store.location, key) == ("/", "x")


@pytest.mark.parametrize(
    "location",
    [
        *("", "/", ".", "..", "x/", "x/.", "x/..", "a\\b", "a\nb", "file:///", "file:///x/"),
        *("s3://", "s3://bucket", "s3://bucket/", "s3://bucket/x/", "s3://bucket//x", "s3:///x"),
        *("s3://bucket/a//b", "s3://user:secret@bucket/x", "http://user:secret@host/x"),
    ],
)
def test_locations_that_name_no_file(location: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_file(location)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
