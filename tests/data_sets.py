"""What `jobs.ingest` left at a location, read as anyone would."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import pyarrow.parquet as pq

from redaction_core.storage import Store, open_store

TIMES = {"seconds", "attempts"}
"""What differs between two runs of the same inputs."""


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
        return [
            {name: value for name, value in row.items() if name not in TIMES}
            for row in self.failures
        ]

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


def _rows(store: Store, names: list[str], table: str) -> Iterator[dict[str, Any]]:
    for name in names:
        if name.startswith(f"{table}/"):
            yield from pq.read_table(io.BytesIO(store.read(name).data)).to_pylist()
