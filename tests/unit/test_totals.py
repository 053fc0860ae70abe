"""Totals: what rows add up to does not depend on how they were cut into shards."""

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from redaction_core.totals import Totals

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "failure": st.sampled_from([None, "truncated", "mask_full"]),
            "mae": st.none() | st.integers(0, 100),
            "psnr": st.none() | st.integers(0, 100),
        }
    )
)


@given(ROWS, st.integers(1, 5))
def test_shards_add_up_to_the_whole(rows: list[dict[str, object]], size: int) -> None:
    measures = ("mae", "psnr")
    added = Totals()

    for start in range(0, len(rows), size):
        added.add(Totals.of_rows(rows[start : start + size], measures))

    assert added == Totals.of_rows(rows, measures)
    assert added.inputs == len(rows)
    assert added.failed == sum(row["failure"] is not None for row in rows)
    for name in measures:
        values = [row[name] for row in rows if row[name] is not None]
        assert added.means().get(name) == (sum(values) / len(values) if values else None)


@given(ROWS)
def test_json_brings_them_back(rows: list[dict[str, object]]) -> None:
    totals = Totals.of_rows(rows, ("mae",))

    assert Totals.of_json(json.loads(json.dumps(totals.to_json()))) == totals


def test_json_does_not_depend_on_the_order_of_failures() -> None:
    rows = [{"failure": name, "mae": None} for name in ("b", "a", "c", "a")]
    first = Totals.of_rows(rows, ["mae"]).to_json()
    random.Random(1).shuffle(rows)

    assert json.dumps(Totals.of_rows(rows, ["mae"]).to_json()) == json.dumps(first)
    assert first["failures"] == {"a": 2, "b": 1, "c": 1}


def test_sums_can_be_put_whole() -> None:
    totals = Totals()
    totals.put("seconds", 2.0)
    totals.put("seconds", 7.0, 2)
    totals.put("none", 0.0, 0)

    assert totals.means() == {"seconds": 3.0}
