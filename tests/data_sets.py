"""What `jobs.ingest` left at a location, read as anyone would; and lists that are disturbed."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow.parquet as pq

from redaction_core.storage import Store, open_store
from tests.command import Output
from tests.fault_origin import FaultOrigin

TIMES = {"seconds", "attempts"}
"""What differs between two runs of the same inputs."""
TIMED = ("ledger/", "failures/")
"""Tables with such columns: the hash in the names of their parts differs, too."""


@dataclass(kw_only=True)
class DataSet:
    """A finished data set, in memory."""

    images: list[dict[str, Any]]
    """By image_id."""
    failures: list[dict[str, Any]]
    """By image_id."""
    summary: dict[str, Any]
    names: list[str]
    """All keys."""

    @classmethod
    def read(cls, location: str) -> Self:
        """Read it, and check what is true of every finished data set."""
        store = open_store(location)
        names = [entry.key for entry in store.list()]
        found = cls(
            images=sorted(_rows(store, names, "images"), key=lambda row: row["image_id"]),
            failures=sorted(_rows(store, names, "failures"), key=lambda row: row["image_id"]),
            summary=json.loads(store.read("dataset.json").data),
            names=names,
        )
        assert "_SUCCESS" in names
        ids = [row["image_id"] for row in (*found.images, *found.failures)]
        assert len(ids) == len(set(ids)) == found.summary["inputs"]
        assert len(found.images) == found.summary["ok"]
        return found

    @property
    def failed(self) -> dict[str, str]:
        """Failure by URL or key."""
        return {row["url"]: row["failure"] for row in self.failures}

    def ledger(self) -> list[dict[str, Any]]:
        """Give the failures without what may differ between two runs."""
        return without_times(self.failures)

    def check_splits(self) -> None:
        """Assert that no content is in two splits, and that every copy says what it is of."""
        first: dict[bytes, dict[str, Any]] = {}
        originals = [row for row in self.images if row["duplicate_of"] is None]
        for row in originals:
            assert row["image"]["bytes"] not in first, row["url"]
            first[row["image"]["bytes"]] = row
        for row in self.images:
            original = first[row["image"]["bytes"]]
            assert row["split"] == original["split"]
            assert row["duplicate_of"] in (None, original["image_id"])


def without_times(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what may differ between two runs."""
    return [{name: row[name] for name in row if name not in TIMES} for row in rows]


class Ingestion:
    """A list of URLs: good ones, slow ones, repeats, and such that fail."""

    verb = "ingest"
    workers = ("ShardWorker", "ray::HostsActor", "ray::_caught")

    good = (*(f"/id/{number}" for number in range(36)), *(f"/slow/0.5/id/{n}" for n in range(4)))
    repeats = good[:10]
    broken = ("/status/404", "/status/410", "/html.jpg", "/noai")
    healing = (*(f"/status/500/id/{number}" for number in range(6)), *("/status/500/id/0",) * 2)
    """Pictures, once the origin is healed."""
    never = "http://10.1.2.3/a.png"

    def __init__(self, origin: FaultOrigin) -> None:
        self.origin = origin

    def write(self, place: Store) -> None:
        """Write the list."""
        paths = (*self.good, *self.repeats, *self.broken, *self.healing)
        urls = (*map(self.origin.url, paths), self.never)
        place.put("urls.txt", "".join(f"{url}\n" for url in urls).encode())

    def flags(self, root: str) -> Sequence[str]:
        """Give all flags but the output."""
        return (
            *("--urls", f"{root}/urls.txt", "--shard-size", "7", "--workers", "2"),
            *("--size", "48", "--val-fraction", "0.4", "--allow-private-hosts", "127.0.0.1"),
            *("--timeout-s", "10", "--attempts", "2"),
        )

    def begin(self, output: str) -> None:  # noqa: ARG002 - others need it
        """Let what fails fail."""
        self.origin.healed = False

    def read(self, output: str) -> Output:
        """Read all that must be the same, byte for byte or but for times."""
        store = open_store(output)
        found = Output.read(output)
        same = ("images/", "contents/", "dataset.json", "near_duplicates.parquet")
        found.images = {
            name: store.read(name).data for name in found.names if name.startswith(same)
        }
        for name in found.names:
            if name.startswith(TIMED):
                rows = without_times(_rows(store, [name], name.partition("/")[0]))
                found.images[name.rpartition("-")[0]] = json.dumps(rows).encode()
        rows = [*_rows(store, found.names, "images"), *_rows(store, found.names, "failures")]
        for row in without_times(rows):
            row.pop("image", None)  # compared with its part
            found.rows.append(row | {"key": row["image_id"]})
        found.rows.sort(key=lambda row: row["key"])
        return found

    def check(self, output: str) -> None:
        """Assert that there are images, failures, repeats and marked copies of parts."""
        self._check(output, ok=len(self.good) + len(self.repeats), repeats=len(self.repeats))

    def _check(self, output: str, *, ok: int, repeats: int) -> None:
        found = DataSet.read(output)
        found.check_splits()
        assert {row["split"] for row in found.images} == {"train", "val"}
        inputs = len((*self.good, *self.repeats, *self.broken, *self.healing, self.never))
        assert (found.summary["inputs"], found.summary["ok"]) == (inputs, ok)
        assert found.summary["duplicates"] == repeats
        assert any(name.startswith("marks/") for name in found.names)


class Retries(Ingestion):
    """Retries of what failed in a finished data set, after the origin has healed."""

    def __init__(self, origin: FaultOrigin, folder: str) -> None:
        """Take the folder that has the list, and in `out` the data set."""
        super().__init__(origin)
        self.folder = folder

    def write(self, place: Store) -> None:
        """Write nothing: the list is there."""

    def flags(self, root: str) -> Sequence[str]:  # noqa: ARG002 - a run goes on with its own list
        """Give all flags but the output."""
        classes = ("server_error", "private_address")
        return (*super().flags(self.folder), "--retry-failed", *classes)

    def begin(self, output: str) -> None:
        """Let the output be the finished data set, and the origin healed."""
        self.origin.heal()
        finished, store = open_store(f"{self.folder}/out"), open_store(output)
        for entry in finished.list():
            store.put(entry.key, finished.read(entry.key).data)

    def check(self, output: str) -> None:
        """Assert that what healed is there, and repeats of it are marked."""
        healed = len(self.good) + len(self.repeats) + len(self.healing)
        self._check(output, ok=healed, repeats=len(self.repeats) + 2)


def _rows(store: Store, names: list[str], table: str) -> Iterator[dict[str, Any]]:
    for name in names:
        if name.startswith(f"{table}/"):
            yield from pq.read_table(io.BytesIO(store.read(name).data)).to_pylist()
