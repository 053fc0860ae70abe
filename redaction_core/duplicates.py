"""The last pass over a data set: same contents, splits that do not leak, pictures that look alike.

Everything is found by sorting on disk; in memory are only the groups that share a content.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from redaction_core import schemas

if TYPE_CHECKING:
    from redaction_core.ledger import Ledger

NEAR_BITS: Final = 2
"""Pictures look alike whose difference hashes differ in no more bits."""

# What was seen first stays the first: later rounds come later, and rows have their order.
_DUPLICATES: Final = """
    create table duplicates as
    select shard, row, first_id as duplicate_of from (
        select *,
            first_value(image_id) over (partition by content order by shard, row) as first_id
        from contents
    )
    where image_id != first_id
"""

# Units (groups, or contents that stand alone) that share a content, as pairs.
_LINKS: Final = """
    select distinct lowest, unit from (
        select unit, min(unit) over (partition by content) as lowest from contents
    )
    where unit != lowest
    order by lowest, unit
"""

# One split for all that is linked: the source's own where it says one, of those the one that must
# be kept from training. Else train, if any is there: somebody may have trained on it by the time
# that a later round links it to what is in val.
_SPLITS: Final = """
    create table splits as
    with rooted as (
        select contents.*, coalesce(linked.root, contents.unit) as root
        from contents left join linked using (unit)
    ),
    decided as (
        select root, case
            when bool_or(fixed and split = 'test') then 'test'
            when bool_or(fixed and split = 'val') then 'val'
            when bool_or(split = 'train') then 'train'
            else 'val'
        end as decided
        from rooted group by root
    )
    select shard, row, image_id, content, unit, coalesce(decided, split) as split,
        decided != split as moved
    from rooted join decided using (root)
"""

_MARKED: Final = """
    create table marked as
    select shard from duplicates union select shard from splits where moved union from rows
"""

_MARKS: Final = """
    select shard, row, duplicate_of, split
    from splits left join duplicates using (shard, row)
    where shard in (select shard from marked)
    order by shard, row
"""

# Two hashes that differ in at most two bits agree in one of three thirds. Of those that share a
# third, each is compared with the first alone: blank pictures may be very many.
_NEAR: Final = f"""
    with hashes as (
        select image_id, difference_hash as hash
        from contents anti join duplicates using (shard, row)
    ),
    bands as (
        select image_id, hash, band, (hash >> (21 * band)) & ((1 << 21) - 1) as value
        from hashes, (values (0), (1), (2)) as thirds(band)
    ),
    firsts as (
        select *, first_value(image_id) over bucket as first_id,
            first_value(hash) over bucket as first_hash
        from bands window bucket as (partition by band, value order by image_id)
    )
    select distinct first_id as image_id, image_id as near_image_id,
        bit_count(xor(hash, first_hash))::integer as distance
    from firsts
    where image_id != first_id and bit_count(xor(hash, first_hash)) <= {NEAR_BITS}
    order by all
"""  # noqa: S608 - numbers of our own


def find_duplicates(ledger: Ledger, replaced: Iterable[int] = ()) -> None:
    """Make the tables `duplicates` and `splits` in the ledger's database.

    `replaced` are shards whose part, as committed, gave way to a marked copy: they are marked
    again, whether or not something is to be marked now.
    """
    ledger.database.execute(_DUPLICATES)
    roots = _Roots()
    for lowest, unit in ledger.rows(_LINKS):
        roots.join(lowest, unit)
    linked = pa.table(
        {"unit": roots.units, "root": [roots.of(unit) for unit in roots.units]},
        schema=pa.schema([("unit", pa.string()), ("root", pa.string())]),
    )
    ledger.database.register("rows", linked)
    ledger.database.execute("create table linked as select * from rows")
    ledger.database.unregister("rows")
    ledger.database.execute(_SPLITS)
    again = pa.table({"shard": pa.array(list(replaced), pa.int32())})
    ledger.database.register("rows", again)
    ledger.database.execute(_MARKED)
    ledger.database.unregister("rows")


def marks(ledger: Ledger) -> Iterator[tuple[int, dict[str, list[Any]]]]:
    """Yield what changes in the images of a shard: its number, and the columns in full."""
    for shard, rows in groupby(ledger.rows(_MARKS), key=itemgetter(0)):
        found = list(rows)
        yield (
            shard,
            {"duplicate_of": [row[2] for row in found], "split": [row[3] for row in found]},
        )


def near_duplicates(ledger: Ledger) -> tuple[bytes, int]:
    """Give the table of pictures that look alike as Parquet, and the number of its pairs."""
    out = io.BytesIO()
    count = 0
    names = schemas.NEAR_DUPLICATES.names
    with pq.ParquetWriter(out, schemas.NEAR_DUPLICATES, compression="zstd") as writer:
        for _, rows in groupby(enumerate(ledger.rows(_NEAR)), key=lambda pair: pair[0] // 10_000):
            found = [dict(zip(names, row, strict=True)) for _, row in rows]
            count += len(found)
            writer.write_table(pa.Table.from_pylist(found, schema=schemas.NEAR_DUPLICATES))
    return out.getvalue(), count


class _Roots:
    """Which units hang together (union-find); the root is the lowest name."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    @property
    def units(self) -> list[str]:
        """All units that are linked to another."""
        return list(self._above)

    def join(self, one: str, other: str) -> None:
        """Note that two units share a content."""
        low, high = sorted((self.of(one), self.of(other)))
        self._above.setdefault(low, low)
        self._above[high] = low
        for unit in (one, other):
            self._above.setdefault(unit, low)

    def of(self, unit: str) -> str:
        """Find the root, and shorten the way to it."""
        path = []
        while (above := self._above.get(unit, unit)) != unit:
            path.append(unit)
            unit = above
        for each in path:
            self._above[each] = unit
        return unit
