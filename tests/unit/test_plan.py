"""Planning: names, collisions, shards, comparison; each against a plain reference."""

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest

from redaction_core.errors import Failure
from redaction_core.plan import (
    Change,
    PlannedInput,
    compare,
    differences,
    fingerprint,
    output_key,
    planned,
    shards,
)
from redaction_core.storage import Entry

# Names that touch each other in every way: renamed, not renamed, folders, and neighbours of "/".
TOUCHING = ("a", "a-b", "a.jpg", "a.jpg.png", "a.jpg.png/x", "a.jpg.png/x.png", "a.png", "a.png/y")


def entries(keys: Sequence[str]) -> list[Entry]:
    ordered = sorted(keys, key=str.encode)
    return [Entry(key=key, size=len(key), version="1") for key in ordered]


def subsets(keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    sizes = range(len(keys) + 1)
    return itertools.chain.from_iterable(itertools.combinations(keys, size) for size in sizes)


@pytest.mark.parametrize(
    ("key", "suffix", "expected"),
    [
        ("a.jpg", ".png", "a.jpg.png"),
        ("a.png", ".png", "a.png"),
        ("A.PNG", ".png", "A.PNG"),
        ("a", ".webp", "a.webp"),
        ("a.jpeg", ".jpg", "a.jpeg"),
        ("a.JPG", ".jpg", "a.JPG"),
        ("a.png", ".jpg", "a.png.jpg"),
        ("a.jpeg", ".png", "a.jpeg.png"),
        ("d.png/ü #%", ".png", "d.png/ü #%.png"),
    ],
)
def test_output_key(key: str, suffix: str, expected: str) -> None:
    assert output_key(key, suffix) == expected


def test_the_renamed_input_fails_and_no_other() -> None:
    for keys in subsets(TOUCHING):
        for item in planned(entries(keys), ".png"):
            output = output_key(item.key, ".png")
            clashes = any(
                (other == output and other != item.key) or other.startswith(output + "/")
                for other in keys
            )
            assert item.failure == (Failure.NAME_COLLISION if clashes else None), keys
            assert item.output == (None if clashes else output), keys


def test_an_extension_never_touches_what_an_earlier_plan_named() -> None:
    """Every split of touching names into earlier, both, new only and earlier only (gone)."""
    names = TOUCHING[2:]
    for states in itertools.product(("absent", "earlier", "both", "new"), repeat=len(names)):
        given = dict(zip(names, states, strict=True))
        old = [name for name in names if given[name] in ("earlier", "both")]
        now = [name for name in names if given[name] in ("both", "new")]
        before = list(planned(entries(old), ".png"))
        result = list(planned(entries(now), ".png", before))

        assert [item.key for item in result] == sorted(now, key=str.encode)
        named = {item.key: item for item in before}
        for item in result:
            if item.key in named:
                assert item == named[item.key]
        outputs = [item.output for item in before if item.output]
        outputs += [item.output for item in result if item.output and item.key not in named]
        assert len(outputs) == len(set(outputs)), given
        assert not any(
            one.startswith(other + "/") for one, other in itertools.permutations(outputs, 2)
        ), given
        for item in result:  # no needless failure
            if item.failure is Failure.NAME_COLLISION and item.key not in named:
                mine = output_key(item.key, ".png")
                others = [*outputs, *(key for key in now if key != item.key)]
                assert any(
                    one == mine or one.startswith(mine + "/") or mine.startswith(one + "/")
                    for one in others
                ), given


def test_problems_and_long_names_fail_in_the_plan() -> None:
    listed = [
        Entry(key="a\\u000a", problem=Failure.BAD_NAME, detail="control characters"),
        Entry(key="d/" + "n" * 252, size=1, version="1"),
        Entry(key="e/" + "ü" * 126, size=1, version="1"),
        Entry(key="f/" * 449 + "g", size=1, version="1"),
        Entry(key="h", problem=Failure.UNREADABLE, detail="not a regular file"),
    ]
    result = list(planned(listed, ".png"))
    assert [item.failure for item in result] == [
        Failure.BAD_NAME,
        Failure.BAD_NAME,
        Failure.BAD_NAME,
        Failure.BAD_NAME,
        Failure.UNREADABLE,
    ]
    assert all(item.output is None and item.detail for item in result)


def test_the_longest_names_that_fit() -> None:
    keys = ["n" * 251, "m" * 251 + ".png", "f/" * 447 + "g" * 2]
    assert all(item.failure is None for item in planned(entries(keys), ".png"))


def test_a_failed_input_claims_no_output_name() -> None:
    listed = [
        Entry(key="a.jpg", size=1, version="1"),
        Entry(key="a.jpg.png", problem=Failure.UNREADABLE, detail="a dangling link"),
    ]
    assert [item.output for item in planned(listed, ".png")] == ["a.jpg.png", None]


def test_planning_streams() -> None:
    taken = 0

    def listing() -> Iterator[Entry]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield Entry(key=f"{number:04d}.jpg", size=1, version="1")

    for given, _ in enumerate(planned(listing(), ".png"), 1):
        assert taken <= given + 1


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 23])
@pytest.mark.parametrize("shard_size", [1, 5, 100])
def test_shards_cut_without_loss(count: int, shard_size: int) -> None:
    inputs = list(planned(entries([f"{number:03d}" for number in range(count)]), ".png"))
    cut = list(shards(inputs, shard_size))
    assert list(itertools.chain.from_iterable(cut)) == inputs
    assert all(len(shard) == shard_size for shard in cut[:-1])
    assert all(cut)


@pytest.mark.parametrize("seed", range(20))
def test_compare_agrees_with_dictionaries(seed: int) -> None:
    chance = random.Random(seed)
    keys = ["a", "a-", "a/", "aé", "b", "\U0001f600", "\uffff", "é", "z"]

    def some() -> dict[str, PlannedInput]:
        chosen = sorted(chance.sample(keys, chance.randrange(len(keys) + 1)), key=str.encode)
        return {
            key: PlannedInput(key=key, size=chance.randrange(2), version=chance.choice("xy"))
            for key in chosen
        }

    old, new = some(), some()
    result = list(compare(old.values(), new.values()))

    assert [item.key for _, item in result] == sorted(old.keys() | new.keys(), key=str.encode)
    for change, item in result:
        before, now = old.get(item.key), new.get(item.key)
        if before is None:
            assert change is Change.NEW
        elif now is None:
            assert change is Change.GONE
        else:
            assert change is (Change.SAME if before == now else Change.CHANGED)
        assert item == (before if now is None else now)


def test_fingerprint_depends_on_values_and_not_on_order() -> None:
    one = fingerprint({"a": 1, "b": [1, 2]})
    assert one == fingerprint({"b": [1, 2], "a": 1})
    assert one == fingerprint({"b": (1, 2), "a": 1})
    assert one != fingerprint({"a": 1, "b": [2, 1]})
    assert one != fingerprint({"a": "1", "b": [1, 2]})
    assert len(one) == 64


def test_differences_name_the_fields() -> None:
    old = {"redact": "pixelate:4", "same": [1], "gone": 1, "was_text": "4"}
    new = {"redact": "pixelate:8", "same": (1,), "added": None, "was_text": 4}
    assert differences(old, new) == [
        "added: (absent) -> null",
        "gone: 1 -> (absent)",
        "redact: pixelate:4 -> pixelate:8",
        "was_text: 4 -> 4",
    ]
    assert differences(old, old) == []
