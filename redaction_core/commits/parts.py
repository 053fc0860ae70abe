"""Parquet parts: the same rows give the same bytes, and the bytes give the name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from redaction_core.commits.layout import sha16
from redaction_core.plan import PlannedInput
from redaction_core.schemas import PLAN_PART

_ROW_GROUP: Final = 256  # rows; readers that want a few pictures need not read a whole part


def part_key(folder: str, shard: int, data: bytes) -> str:
    """Name a part by its shard and content: `<folder>/part-<shard>-<sha16>.parquet`."""
    return f"{folder}/part-{shard:06d}-{sha16(data)}.parquet"


def part_bytes(rows: Sequence[Mapping[str, Any]] | pa.Table, schema: pa.Schema) -> bytes:
    """Write rows as Parquet.

    Columns of bytes hold encoded images: compressing them again, or looking for equal ones, takes
    longer than all else and gains nothing.
    """
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=schema)
    columns = dict(_leaves(schema))
    out = pa.BufferOutputStream()  # Arrow's own: a Python file would take turns with other threads
    pq.write_table(
        table,
        out,
        row_group_size=_ROW_GROUP if "none" in columns.values() else None,
        compression=columns,
        use_dictionary=[name for name, compression in columns.items() if compression != "none"],
        write_statistics=[name for name, compression in columns.items() if compression != "none"],
    )
    written: bytes = out.getvalue().to_pybytes()
    return written


def read_part(data: bytes) -> pa.Table:
    """Read a part; raises ArrowException, OSError or ValueError when it is damaged.

    In this thread alone: Arrow's own threads may hold on to Python's bytes for a moment longer,
    and abort a process that ends meanwhile.
    """
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)


def plan_part(shard: Sequence[PlannedInput]) -> bytes:
    """Write the inputs of one shard."""
    columns = {name: [getattr(item, name) for item in shard] for name in PLAN_PART.names}
    return part_bytes(pa.Table.from_pydict(columns, PLAN_PART), PLAN_PART)


def _leaves(schema: pa.Schema) -> Iterator[tuple[str, str]]:
    """Yield the path of every column that holds values, and its compression."""
    for column in schema:
        fields = column.type if pa.types.is_struct(column.type) else ()
        leaves = [(f"{column.name}.{each.name}", each.type) for each in fields]
        for path, kind in leaves or [(column.name, column.type)]:
            yield path, "none" if pa.types.is_binary(kind) else "zstd"
