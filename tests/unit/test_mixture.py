"""Mixtures draw what their texts say, as often as their weights say."""

import math

import numpy as np
import pytest

from redaction_core.errors import UsageError
from redaction_core.mixture import RedactionMixture, ScaleMixture
from redaction_core.redaction import Blur, Box, Freeform, Pixelate, Redaction, Scattered, parse


def drawn(*texts: str, count: int = 3000) -> list[Redaction]:
    mixture, rng = RedactionMixture.parse(texts), np.random.default_rng(0)
    return [mixture.draw(rng) for _ in range(count)]


@pytest.mark.parametrize(
    "text",
    [
        *("pixelate:4", "pixelate:3:nearest", "blur:1.5", "box:4x6@center", "box:4x6@random"),
        *("box:0.1@random", "freeform:0.25@random", "pixels:.5@random"),
    ],
)
def test_a_single_redaction_is_itself(text: str) -> None:
    assert set(drawn(text, count=5)) == {parse(text)}
    assert RedactionMixture.parse([text]).fixed == (parse(text),)
    assert set(RedactionMixture.parse([text]).extremes) == {parse(text)}


@pytest.mark.parametrize(
    ("text", "low", "middle", "high"),
    [
        ("pixelate:2-16", Pixelate(block=2), Pixelate(block=9), Pixelate(block=16)),
        (
            *("pixelate:4-8:nearest", Pixelate(block=4, nearest=True)),
            *(Pixelate(block=6, nearest=True), Pixelate(block=8, nearest=True)),
        ),
        ("blur:1-4", Blur(sigma=1), Blur(sigma=2.5), Blur(sigma=4)),
        (
            *("box:0.01-0.25@random", Box(fraction=0.01, random=True)),
            *(Box(fraction=0.05, random=True), Box(fraction=0.25, random=True)),
        ),
        (
            "freeform:0.1-0.4",
            Freeform(fraction=0.1),
            Freeform(fraction=0.2),
            Freeform(fraction=0.4),
        ),
        ("pixels:.1-.9", Scattered(fraction=0.1), Scattered(fraction=0.3), Scattered(fraction=0.9)),
        ("pixels:.2", *3 * (Scattered(fraction=0.2),)),
        ("box:.2", *3 * (Box(fraction=0.2, random=True),)),
        ("box:.2@center", *3 * (Box(fraction=0.2),)),
    ],
)
def test_ranges_have_ends_and_a_middle(
    text: str, low: Redaction, middle: Redaction, high: Redaction
) -> None:
    mixture = RedactionMixture.parse([text])

    assert mixture.fixed == (middle,)
    assert mixture.extremes == (low, high)
    assert mixture.texts == (text,)


def test_blocks_of_a_range_are_all_as_likely() -> None:
    blocks = [how.block for how in drawn("pixelate:2-5") if isinstance(how, Pixelate)]

    counts = np.bincount(blocks)
    assert counts[:2].sum() == 0
    assert len(counts) == 6
    assert all(abs(count / 3000 - 1 / 4) < 0.03 for count in counts[2:])


def test_sigmas_of_a_range_are_uniform() -> None:
    sigmas = np.array([how.sigma for how in drawn("blur:1-4") if isinstance(how, Blur)])

    assert 1 <= sigmas.min() < 1.02
    assert 3.98 < sigmas.max() <= 4
    assert abs(np.median(sigmas) - 2.5) < 0.1


@pytest.mark.parametrize("text", ["box:0.01-0.25@random", "freeform:0.01-0.25", "pixels:0.01-0.25"])
def test_shares_of_a_range_are_log_uniform(text: str) -> None:
    shares = [how.fraction for how in drawn(text) if isinstance(how, Box | Freeform | Scattered)]

    assert len(shares) == 3000
    assert 0.01 <= min(shares) < 0.011
    assert 0.24 < max(shares) <= 0.25
    assert abs(math.log(float(np.median(shares))) - math.log(0.05)) < 0.1


def test_weights_say_how_often() -> None:
    found = drawn("pixelate:4=0.5", "blur:1", "freeform:0.1-0.4=2.5")

    shares = [
        sum(isinstance(how, kind) for how in found) / len(found)
        for kind in (Pixelate, Blur, Freeform)
    ]
    assert np.allclose(shares, [0.125, 0.25, 0.625], atol=0.03)


def test_what_is_drawn_has_a_text_that_comes_back() -> None:
    for how in drawn("blur:0.5-8", "box:0.00001-0.9@random", "freeform:.1-.4", "pixels:.1-.4"):
        assert parse(str(how)) == how


def test_a_draw_takes_two_numbers_of_the_stream() -> None:
    one, other = np.random.default_rng(3), np.random.default_rng(3)

    RedactionMixture.parse(["pixelate:4", "blur:1-4"]).draw(one)
    other.random(2)

    assert one.random() == other.random()


@pytest.mark.parametrize(
    "text",
    [
        *("", "pixelate", "pixelate:1-4", "pixelate:8-4", "pixelate:4-", "pixelate:2.5-4"),
        *("pixelate:4-8:means", "blur:0-4", "blur:.5-4", "blur:4-1", "blur:1-400", "blur:1-2-3"),
        *("box:2-4x4@center", "pixels:0.1-0.4@center", "box:0-0.4@random", "freeform:0.1-1.5"),
        *("pixelate:4=0", "pixelate:4=", "pixelate:4=-1", "pixelate:4=nan", "pixelate:4=1=1"),
        *("pixelate:4=1e400", "=1", "pixelate:٢-٤", "freeform:0.4-0.1@random"),
    ],
)
def test_other_redactions_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"\Aredaction .*\Z"):
        RedactionMixture.parse(["pixelate:4", text])


def test_an_empty_mixture_is_refused() -> None:
    with pytest.raises(UsageError, match=r"\Ano redaction is named\Z"):
        RedactionMixture.parse([])
    with pytest.raises(UsageError, match=r"\Ano scale is named\Z"):
        ScaleMixture.parse([])


def test_scales_are_drawn_by_weight_and_range() -> None:
    mixture = ScaleMixture.parse(["0.64=0.4", "1=0.2", "0.3-0.5=0.4"])

    scales = mixture.draw(np.random.default_rng(0), 5000)

    assert scales.dtype == np.float64
    assert scales.shape == (5000,)
    ranged = scales[scales < 0.6]
    assert abs(len(ranged) / 5000 - 0.4) < 0.03
    assert abs((scales == 0.64).mean() - 0.4) < 0.03
    assert abs((scales == 1).mean() - 0.2) < 0.03
    assert 0.3 <= ranged.min() < 0.301
    assert 0.499 < ranged.max() <= 0.5
    assert abs(np.median(ranged) - math.sqrt(0.15)) < 0.01


def test_no_scales_may_be_drawn() -> None:
    assert len(ScaleMixture.parse(["1"]).draw(np.random.default_rng(0), 0)) == 0


@pytest.mark.parametrize(
    "text",
    ["", "0", "1.5", "0.5-1.2", "0.9-0.3", "-0.5", "nan", "0-1", "0.5-", "0.5=0", "0.5=x", "1e-1"],
)
def test_other_scales_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"\Ascale .*\Z"):
        ScaleMixture.parse(["1", text])


@pytest.mark.parametrize("text", ["pixels:0.9996", "box:0.9999", "freeform:0.5-0.9999"])
def test_what_stands_for_a_range_can_be_read_again(text: str) -> None:
    (middle,) = RedactionMixture.parse([text]).fixed

    assert parse(str(middle)) == middle
