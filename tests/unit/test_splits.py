"""Splits by hashes of groups or contents."""

import pytest

from redaction_core.errors import UsageError
from redaction_core.splits import Splits


@pytest.mark.parametrize("fraction", [0, 0.0333, 0.5, 1])
def test_val_gets_about_its_fraction(fraction: float) -> None:
    splits = Splits(val_fraction=fraction)
    count = sum(splits.split(f"unit {number}") == "val" for number in range(10_000))
    assert abs(count / 10_000 - fraction) < 0.01


def test_a_unit_has_one_split_whoever_asks() -> None:
    units = [f"unit {number}" for number in range(1000)]
    one, other = Splits(val_fraction=0.3), Splits(val_fraction=0.3)
    assert [one.split(unit) for unit in units] == [other.split(unit) for unit in reversed(units)][
        ::-1
    ]
    assert [one.split(unit) for unit in units] != [
        Splits(val_fraction=0.3, seed=1).split(unit) for unit in units
    ]


def test_a_larger_fraction_keeps_what_was_in_val() -> None:
    units = [f"unit {number}" for number in range(1000)]
    small, large = Splits(val_fraction=0.1), Splits(val_fraction=0.2)
    assert all(large.split(unit) == "val" for unit in units if small.split(unit) == "val")


@pytest.mark.parametrize(
    ("group_by", "name", "carried", "group"),
    [
        (None, "a_1.jpg", {"who": "A"}, None),
        ("who", "a_1.jpg", {"who": "A"}, "A"),
        ("who", "a_1.jpg", {}, None),
        ("who", "a_1.jpg", {"who": 7}, "7"),
        (r"([^/]+)_\d+\.jpg", "faces/Ann_Bo_0001.jpg", {}, "Ann_Bo"),
        (r"[a-z]+", "12abc34", {}, "abc"),
        (r"([^/]+)_\d+\.jpg", "other.png", {}, None),
        ("who", "a_1.jpg", {"who": ""}, None),
        (r"^([a-z]*)_", "_1.jpg", {}, None),
        # Of a long name only the end counts, as expressions may take quadratic time.
        (r"^(a+)", "b" * 100 + "a" * 500, {}, "a" * 500),
    ],
)
def test_groups(group_by: str | None, name: str, carried: dict[str, object], group: str) -> None:
    assert Splits(group_by=group_by, columns=("who",)).group(name, carried) == group


@pytest.mark.parametrize("values", [{"val_fraction": -0.1}, {"val_fraction": 1.1}])
def test_fractions_that_are_none_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="--val-fraction"):
        Splits(**values)  # type: ignore[arg-type]  # a grid


def test_neither_column_nor_expression_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--group-by \(: no column"):
        Splits(group_by="(", columns=("who",))
