"""What became of every input over all rounds of a run, gathered from its commits.

It lies in a database of its own on disk; what it says is the last word on each input.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from redaction_core import schemas
from redaction_core.commits import Commit, Run, ShardRef, read_shard
from redaction_core.commits.parts import read_part
from redaction_core.errors import StorageError
from redaction_core.ingestion import CONTENTS, LEDGER
from redaction_core.scratch import scratch_database
from redaction_core.sources import Details

if TYPE_CHECKING:
    import duckdb

    from redaction_core.plan import PlannedInput

_TABLES: Final = {CONTENTS: schemas.CONTENTS, LEDGER: schemas.FAILURES}
_READERS: Final = 8
_READ_AHEAD: Final = 32  # shards
_FETCHED: Final = 2_000  # rows

# An input that failed and was tried again is in the ledger of both rounds; shards count on over
# rounds, so the highest one has the last word. What succeeded is never tried again. Sorted are the
# ids alone, as urls and details may be long.
_LAST_WORD: Final = """
    create table last as
    select image_id, max(shard) as shard from ledger
    where image_id not in (select image_id from contents)
    group by image_id;
    create view failed as select ledger.* from ledger semi join last using (image_id, shard)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardParts:
    """What one shard committed."""

    shard: ShardRef
    commit: Commit

    def key(self, table: str) -> str | None:
        """Name the shard's part of a table; None where it has no rows."""
        named = (part for part in self.commit.parts if part.startswith(f"{table}/"))
        return next(named, None)


class Ledger:
    """The tables `contents` and `ledger` of all shards, and the view `failed`: the last word.

    Beside the columns of their schemas they have `shard` and `row`, the place in the shard's part.
    """

    def __init__(self, run: Run, database: duckdb.DuckDBPyConnection) -> None:
        self.database = database
        self._run = run

    @classmethod
    @contextmanager
    def open(cls, run: Run) -> Iterator[Ledger]:
        """Gather what the commits name; raises StorageError where a shard has none."""
        with scratch_database() as database:
            ledger = cls(run, database)
            ledger._gather()
            database.execute(_LAST_WORD)
            yield ledger

    def shards(self) -> Iterator[ShardParts]:
        """Yield all shards with what they committed, in order."""
        pairs = zip(self._run.shards(), self._run.commits(), strict=True)
        return (ShardParts(shard=shard, commit=commit) for shard, commit in pairs)

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Run a query, and stream what it finds."""
        found = self.database.cursor().execute(query)
        while some := found.fetchmany(_FETCHED):
            yield from some

    def counts(self, query: str) -> dict[str, int]:
        """Give what a query of names and numbers finds, by name."""
        return {str(name): int(count) for name, count in sorted(self.rows(query))}

    def number(self, query: str) -> int:
        """Give the single number that a query finds."""
        ((found,),) = self.rows(query)
        return int(found)

    def failures(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield the last failure of each input that has no image, by the shard that had it."""
        names = schemas.FAILURES.names
        for (shard,) in self.rows("select distinct shard from last order by shard"):
            query = f"select {', '.join(names)} from failed where shard = {shard} order by image_id"  # noqa: S608 - no strangers' text
            yield shard, [dict(zip(names, row, strict=True)) for row in self.rows(query)]

    def failed_inputs(self, classes: Collection[str]) -> Iterator[PlannedInput]:
        """Yield what is planned of each input whose last word is one of these failures (or any)."""
        shards = {shard.number: shard for shard in self._run.shards()}
        for number, rows in self.failures():
            wanted = {row["image_id"] for row in rows if not classes or row["failure"] in classes}
            if wanted:
                inputs = read_shard(self._run.store, shards[number])
                yield from (
                    item for item in inputs if (Details.of(item).image_id or item.key) in wanted
                )

    def _gather(self) -> None:
        for name, schema in _TABLES.items():
            self.database.register("rows", _placed(schema.empty_table(), 0))
            self.database.execute(f"create table {name} as select * from rows")  # noqa: S608 - our own names
            self.database.unregister("rows")
        shards = self.shards()
        with ThreadPoolExecutor(_READERS) as readers:
            while some := list(islice(shards, _READ_AHEAD)):
                for name in _TABLES:
                    read = [readers.submit(self._read, parts, name) for parts in some]
                    found = [each for future in read if (each := future.result()) is not None]
                    if found:
                        self.database.register("rows", pa.concat_tables(found))
                        self.database.execute(f"insert into {name} by name select * from rows")  # noqa: S608 - our own names
                        self.database.unregister("rows")

    def _read(self, parts: ShardParts, table: str) -> pa.Table | None:
        if (key := parts.key(table)) is None:
            return None
        try:
            found = read_part(self._run.store.read(key).data)
        except (pa.ArrowException, OSError) as error:
            raise StorageError(f"{key} in {self._run.store.location} is damaged") from error
        return _placed(found, parts.shard.number)


def _placed(part: pa.Table, shard: int) -> pa.Table:
    """Say of every row in which shard it is, and in which place there."""
    shards = pa.array([shard] * part.num_rows, pa.int32())
    places = pa.array(range(part.num_rows), pa.int32())
    return part.append_column("shard", shards).append_column("row", places)
