"""What a last pass over the whole run changes in the parts of a shard: columns, never rows.

A commit stands for ever, and so does what it names, until a marked copy of it takes its place.
Which one that is follows from the commits alone, and is kept in `marks/`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from redaction_core.commits.layout import MARKS, is_mark, json_bytes, read_json, sha16
from redaction_core.commits.parts import part_bytes, part_key, read_part
from redaction_core.errors import ObjectMissingError, StorageError
from redaction_core.storage import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """New values for whole columns of one part."""

    store: Store
    plan_id: str
    shard: int
    part: str
    """Key of the part that the commit names."""
    columns: Mapping[str, list[Any]]
    """JSON values, one a row."""

    @property
    def key(self) -> str:
        """Name of the record that says which part has these values."""
        digest = sha16(json.dumps([self.part, self.columns], sort_keys=True).encode())
        return f"{MARKS}{self.plan_id}-{self.shard:06d}-{digest}.json"


def mark(marks: Marks) -> str:
    """Write the part with its new values, unless that was done before; gives its key.

    Raises StorageError when storage fails, or neither the part nor a copy of it is there.
    """
    try:
        found: str = read_json(marks.store, marks.key)["part"]
    except ObjectMissingError:
        pass
    else:
        if marks.store.exists(found):
            return found
    table = _read(marks)
    for name, values in marks.columns.items():
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        table = table.set_column(place, field, pa.array(values, field.type))
    data = part_bytes(table.combine_chunks(), table.schema)
    folder = marks.part.partition("/")[0]
    part = part_key(folder, marks.shard, data)
    marks.store.put_if_absent(part, data)
    marks.store.put(marks.key, json_bytes({"part": part}))
    return part


def marked_parts(store: Store, plan_id: str, shard: int, table: str) -> set[str]:
    """Name the parts of a shard's table that stand, or stood, in the place of committed ones."""
    records = store.list(f"{MARKS}{plan_id}-{shard:06d}-", missing_ok=True)
    keys = [entry.key for entry in records if is_mark(entry.key)]
    parts = (str(read_json(store, key).get("part")) for key in keys)
    return {part for part in parts if part.startswith(f"{table}/")}


def _read(marks: Marks) -> pa.Table:
    """Read the part as committed, or a copy that was marked before: they differ in marks alone."""
    folder = marks.part.partition("/")[0]
    copies = marked_parts(marks.store, marks.plan_id, marks.shard, folder)
    for key in (marks.part, *sorted(copies)):
        try:
            return read_part(marks.store.read(key).data)
        except ObjectMissingError:
            continue
        except (pa.ArrowException, OSError) as error:
            raise StorageError(f"{key} in {marks.store.location} is damaged") from error
    raise StorageError(f"{marks.part} is missing in {marks.store.location}: use --overwrite")
