"""`python -m jobs.discover` as people run it, against a server of the documented shape."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.discover import Discover, discover
from redaction_core.errors import UsageError
from redaction_core.storage import open_store
from tests.command import LIMIT_S, ROOT, Ended
from tests.openverse_server import CLIENT_ID, CLIENT_SECRET, OpenverseServer, image

QUERIES = ("cats", "nothing", "old maps", "dogs")
FAST = ("--requests-per-minute", "1000000")
SECRETS = {"OPENVERSE_CLIENT_ID": CLIENT_ID, "OPENVERSE_CLIENT_SECRET": CLIENT_SECRET}


def start(*flags: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    variables = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.discover", *flags],
        cwd=ROOT,
        env={**variables, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*flags: str, environment: dict[str, str] | None = None) -> Ended:
    with start(*flags, environment=environment) as process:
        out, error = process.communicate(timeout=LIMIT_S)
    return Ended(code=process.returncode, stdout=out, stderr=error)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A server, and flags that lead to it and to an output."""

    server: OpenverseServer
    folder: Path

    def flags(self, output: str = "out") -> tuple[str, ...]:
        where = ("--output", output if "://" in output else str(self.folder / output))
        return ("--queries", *QUERIES, *where, "--api", self.server.address, *FAST)

    def urls(self, output: str = "out") -> bytes:
        return (self.folder / output / "urls.parquet").read_bytes()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = {
        "cats": [image("cats", number) for number in range(45)],
        "old maps": [image("old maps", number, title=f"A\n{number}\x00") for number in range(61)],
        "dogs": [image("dogs", 0), image("cats", 3), image("dogs", 1, url=None)],
    }
    with OpenverseServer(found) as server:
        yield Place(server=server, folder=tmp_path)


def rows(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path).to_pylist())


def test_a_search_ends_with_one_list(place: Place) -> None:
    ended = run(*place.flags(), "--contact", "me@example.org")

    assert ended.code == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 1
    result = ended.result
    assert result.pop("seconds") >= 0
    assert result.pop("note").startswith("Licences are as Openverse reports them")
    assert result == {
        "verb": "discover",
        "status": "complete",
        "output": str(place.folder / "out" / "urls.parquet"),
        "queries": 4,
        "queries_without_results": 1,
        "results": 109,
        "urls": 107,
        "duplicates": 1,
        "unusable": 1,
        "requests": 9,
    }
    found = rows(place.folder / "out" / "urls.parquet")
    assert len(found) == 107
    assert found[45]["title"] == "A 0"
    assert [row["query"] for row in found] == ["cats"] * 45 + ["old maps"] * 61 + ["dogs"]
    assert "discover: 4 of 4 queries, 109 results" in ended.stderr.splitlines()[-1]
    agents = {each.headers["User-Agent"] for each in place.server.state.asked}
    assert len(agents) == 1
    assert agents.pop().endswith("(+me@example.org)")


@pytest.mark.parametrize("answered", [0, 1, 4, 8])
def test_killed_at_any_page_and_run_again_it_is_the_same_list(place: Place, answered: int) -> None:
    state = place.server.state
    assert run(*place.flags("calm")).code == 0
    calm = list(state.searches)
    state.asked.clear()

    state.hold_after = answered
    with start(*place.flags("killed")) as process:
        assert state.held.wait(LIMIT_S)
        process.kill()
    assert not (place.folder / "killed" / "urls.parquet").exists()
    state.hold_after = None
    state.release.set()
    ended = run(*place.flags("killed"))

    assert ended.code == 0, ended.stderr
    assert place.urls("killed") == place.urls("calm")
    # The page that was under way was asked for again, and no other.
    assert state.searches == [*calm[: answered + 1], *calm[answered:]]
    assert names(place.folder / "killed") == names(place.folder / "calm")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_days_quota_ends_a_run_that_another_goes_on_with(place: Place) -> None:
    place.server.state.quota = 4
    ended = run(*place.flags())
    assert ended.code == 1
    assert not ended.stdout
    *_, last = ended.stderr.splitlines()
    assert last.startswith("error: rate_limited: ")
    assert "asks to wait 86399 s" in last
    assert "200/day" in last

    place.server.state.quota = 5
    ended = run(*place.flags())
    assert ended.code == 0, ended.stderr
    assert (ended.result["requests"], ended.result["urls"]) == (5, 107)


def test_a_finished_search_asks_nothing(place: Place) -> None:
    assert run(*place.flags()).code == 0
    before = place.urls()
    place.server.state.asked.clear()
    place.server.state.found = {}
    ended = run(*place.flags())
    assert (ended.code, ended.result["requests"], ended.result["urls"]) == (0, 0, 107)
    assert not place.server.state.asked
    assert place.urls() == before


def test_queries_come_from_a_file_and_are_added(place: Place) -> None:
    assert run(*place.flags()).code == 0
    before = rows(place.folder / "out" / "urls.parquet")
    place.server.state.asked.clear()
    place.server.state.found = {"birds": [image("birds", 0)]}
    (place.folder / "more.txt").write_bytes("\ufeffcats\r\n\r\n  birds \n".encode())
    flags = (*place.flags(), "--queries-file", str(place.folder / "more.txt"))

    refused = run(*flags)
    ended = run(*flags, "--extend")

    assert refused.code == 2
    assert "--extend" in refused.error
    assert ended.code == 0, ended.stderr
    assert place.server.state.searches == [("birds", 1)]
    after = rows(place.folder / "out" / "urls.parquet")
    assert after[:-1] == before
    assert after[-1]["query"] == "birds"


def test_a_dry_run_asks_and_writes_nothing(place: Place) -> None:
    ended = run(*place.flags(), "--dry-run")
    assert ended.code == 0, ended.stderr
    assert (ended.result["requests_at_most"], ended.result["requests_per_day"]) == (48, 200)
    assert not (place.folder / "out").exists()
    run(*place.flags())
    ended = run(*place.flags(), "--dry-run", environment=SECRETS)
    assert (ended.result["pages_stored"], ended.result["requests_per_day"]) == (9, 10_000)
    assert len(place.server.state.asked) == 9


def test_credentials_are_used_and_appear_nowhere(place: Place) -> None:
    flags = (*place.flags(), "--page-size", "48")
    ended = run(*flags, environment=SECRETS)
    assert ended.code == 0, ended.stderr
    assert ended.result["requests"] == 6  # one is for the token
    written = b"".join(p.read_bytes() for p in place.folder.rglob("*") if p.is_file())
    for secret in (CLIENT_ID, CLIENT_SECRET, place.server.state.tokens[0]):
        assert secret not in ended.stderr + ended.stdout
        assert secret.encode() not in written


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"queries": ()}, "--queries"),
        ({"queries": (" ",)}, "blank"),
        ({"queries": ("a\x1bb",)}, "control"),
        ({"queries": ("a" * 201,)}, "200 characters"),
        ({"queries_file": "{}/none"}, "--queries-file"),
        ({"queries_file": "{}"}, "--queries-file"),
        ({"queries_file": "{}/latin1"}, "UTF-8"),
        ({"page_size": 21}, "OPENVERSE_CLIENT_ID"),
        ({"page_size": 0}, "--page-size"),
        ({"limit_per_query": 241}, "OPENVERSE_CLIENT_ID"),
        ({"limit_per_query": 0}, "--limit-per-query"),
        *(({"requests_per_minute": value}, "--requests-per-minute") for value in (0, -1, math.nan)),
        *(({"max_wait_s": value}, "--max-wait-s") for value in (-1, math.inf)),
        ({"contact": "ü"}, "--contact"),
        ({"api": "ftp://host"}, "--api"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    values: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "latin1").write_bytes(b"\xff\xe4")
    if "queries_file" in values:
        values = {"queries_file": values["queries_file"].format(tmp_path)}
    with pytest.raises(UsageError, match=r"\A[^\n]+\Z") as caught:
        discover(Discover(output=f"{tmp_path}/out", **{"queries": ("a",), **values}))
    assert told in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_flags_that_make_no_sense_exit_with_2(tmp_path: Path) -> None:
    ended = run("--output", f"{tmp_path}/out", "--queries", "a", "--page-size", "21")
    assert ended.code == 2
    assert "--page-size" in ended.error


def test_to_a_bucket_it_is_the_same_list(place: Place, s3_location: str) -> None:
    assert run(*place.flags()).code == 0
    state = place.server.state
    state.hold_after = len(state.searches) + 3
    with start(*place.flags(f"{s3_location}/out")) as process:
        assert state.held.wait(LIMIT_S)
        process.kill()
    state.hold_after = None
    state.release.set()
    ended = run(*place.flags(f"{s3_location}/out"))
    assert ended.code == 0, ended.stderr
    assert ended.result["output"] == f"{s3_location}/out/urls.parquet"
    assert open_store(f"{s3_location}/out").read("urls.parquet").data == place.urls()


def test_json_lines(place: Place) -> None:
    assert run(*place.flags(), "--format", "jsonl").code == 0
    lines = (place.folder / "out" / "urls.jsonl").read_text().splitlines()
    assert len(lines) == 107
    assert json.loads(lines[0])["url"] == "https://cdn.photos.example/cats/0.jpg"
