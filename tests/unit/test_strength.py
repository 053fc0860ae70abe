"""The strength of redactions: grids, means with intervals, the weakest that is enough."""

import numpy as np
import pytest

from redaction_core.errors import UsageError
from redaction_core.redaction import parse
from redaction_core.strength import Mean, family, mean_of, parse_grid, strength, weakest_enough


def test_a_grid_is_in_the_order_of_family_and_strength() -> None:
    found = parse_grid(["pixelate:16,2,4", "blur:2,1", "box:0.25,0.05", "pixelate:4"])

    assert [str(each) for each in found] == [
        *("blur:1", "blur:2", "box:0.05@random", "box:0.25@random"),
        *("pixelate:2", "pixelate:4", "pixelate:16"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pixelate:8,4:nearest", ["pixelate:4:nearest", "pixelate:8:nearest"]),
        ("box:0.1,0.2@center", ["box:0.1@center", "box:0.2@center"]),
        ("box:8x8,4x4@center", ["box:4x4@center", "box:8x8@center"]),
        ("freeform:0.3,0.1", ["freeform:0.1@random", "freeform:0.3@random"]),
        ("pixels:0.5@random", ["pixels:0.5@random"]),
    ],
)
def test_several_of_a_kind(text: str, expected: list[str]) -> None:
    assert [str(each) for each in parse_grid([text])] == expected


@pytest.mark.parametrize("text", ["", "pixelate:", "pixelate:4,", "blur", "mosaic:4", "box:4x4,2"])
def test_what_is_no_redaction_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_grid([text])


def test_families_differ_in_more_than_strength() -> None:
    texts = ["pixelate:4", "pixelate:4:nearest", "blur:2", "box:0.1@center", "box:0.1@random"]
    texts += ["freeform:0.1@random", "pixels:0.1@random"]
    texts += ["box:8x8@center", "box:8x8@random"]

    assert len({family(parse(text)) for text in texts}) == len(texts)
    assert strength(parse("box:8x4@center")) == 32


@pytest.mark.parametrize("images_of_one", [1, 10])
def test_intervals_hold_the_truth_as_often_as_they_say(images_of_one: int) -> None:
    rng = np.random.default_rng(3)
    held, tries, people = 0, 200, 60
    for _ in range(tries):
        own = rng.normal(0.5, 0.1, people)
        values = (own[:, None] + rng.normal(0, 0.02, (people, images_of_one))).ravel()
        units = [str(person) for person in range(people) for _ in range(images_of_one)]
        found = mean_of(values, units)
        assert found is not None
        held += found.low <= 0.5 <= found.high

    # Were images drawn instead of people, ten of each would make it hold in half of the tries.
    assert 0.88 <= held / tries <= 0.99


def test_unknown_values_do_not_count() -> None:
    values = np.array([0.2, np.nan, 0.4])

    found = mean_of(values, [None, None, None])

    assert found is not None
    assert (found.value, found.images) == (pytest.approx(0.3), 2)
    assert mean_of(np.array([np.nan]), [None]) is None


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=5000)

    assert mean_of(values, [None] * 5000) == mean_of(values, [None] * 5000)


def mean(value: float, spread: float = 0.02) -> Mean:
    return Mean(value=value, low=value - spread, high=value + spread, images=9)


def test_the_weakest_redaction_that_holds() -> None:
    found = weakest_enough(
        [
            (parse("pixelate:16"), mean(0.1)),
            (parse("pixelate:2"), mean(0.7)),
            (parse("pixelate:4"), mean(0.29)),  # its interval reaches above
            (parse("pixelate:8"), mean(0.2)),
            (parse("blur:1"), mean(0.1)),
            (parse("blur:2"), mean(0.5)),  # a stronger one that does not hold
        ],
        0.3,
    )

    assert [(each.family, each.weakest) for each in found] == [
        ("blur", None),
        ("pixelate, mean of each block", "pixelate:8"),
    ]
    assert found[0].strongest_tried == "blur:2"
