"""Intervals: factors that make them hold what they say, for redactions seen and unseen."""

import json

import numpy as np
import pytest

from redaction_core.checkpoints import Model
from redaction_core.errors import CheckpointError
from redaction_core.models import BUILDERS
from redaction_core.redaction import Blur, Pixelate, parse
from redaction_core.uncertainty import (
    ANY,
    LEVELS,
    Calibration,
    Factors,
    Floats,
    Ratios,
    calibrate,
    calibration_of,
    errors_and_scales,
    interval_score,
    spread,
)


def drawn(count: int, *, seed: int = 0, size: float = 1.0) -> tuple[Floats, Floats]:
    """8-bit errors of Laplace's law, of scales that a network underestimates by `size`."""
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.normal(-4, 1, count))
    originals = rng.uniform(0, 255, count)
    results = originals + 255 * rng.laplace(0, size * scales)
    return np.abs(np.rint(results) - np.rint(originals)) / 255, scales


@pytest.mark.parametrize("size", [0.1, 1.0, 7.0])
def test_intervals_hold_what_they_say(size: float) -> None:
    counts = Ratios()
    for seed in range(5):
        counts.add(*drawn(20_000, seed=seed, size=size))
    (factors,) = counts.factors()

    errors, scales = drawn(100_000, seed=99, size=size)

    for level in LEVELS:
        held = (spread(errors) <= factors.of(level) * scales).mean()
        assert held == pytest.approx(level, abs=0.01)
    assert factors.mean * scales.mean() == pytest.approx(errors.mean(), rel=0.05)


def test_an_error_stands_for_what_is_rounded_to_it() -> None:
    errors = np.repeat([0.0, 3.0], 1000) / 255

    none, three = np.split(spread(errors) * 255, 2)

    assert (none.min(), none.max()) == pytest.approx((0, 0.5), abs=0.01)
    assert (three.min(), three.max()) == pytest.approx((2.5, 3.5), abs=0.01)
    assert three.mean() == pytest.approx(3, abs=0.01)


def test_counts_of_workers_add_up() -> None:
    one, other, both = Ratios(), Ratios(), Ratios()
    one.add(*drawn(100, seed=1))
    other.add(*drawn(100, seed=2))
    for seed in (1, 2):
        both.add(*drawn(100, seed=seed))

    assert Ratios(one.counts + other.counts).factors() == both.factors()


@pytest.mark.parametrize("error", [0.0, 1.0])
def test_errors_beyond_all_bins_are_counted(error: float) -> None:
    counts = Ratios()
    counts.add(np.full(10, error), np.full(10, 1e-6))

    (factors,) = counts.factors()
    assert 0 < factors.of(0.5) < np.inf
    assert factors.mean == pytest.approx(error / 1e-6, abs=1e-3)


def test_nothing_counted_is_no_calibration() -> None:
    assert Ratios().factors() == ()
    assert calibrate({"blur:1": Ratios()}) is None


def times(size: float, *, scale: float = 0.01) -> Factors:
    return Factors(scale=scale, mean=size, levels=tuple(size * level for level in LEVELS))


def known(**sizes: float) -> Calibration:
    factors = {text.replace("_", ":"): (times(size),) for text, size in sizes.items()}
    return Calibration(factors=factors | {ANY: (times(9),)})


def test_images_of_another_scale_have_factors_of_their_own() -> None:
    counts = Ratios()
    rng = np.random.default_rng(0)
    for scale, size in ((0.01, 1.0), (0.04, 3.0)):
        scales = np.full(50_000, scale)
        counts.add(np.rint(255 * np.abs(rng.laplace(0, size * scales))) / 255, scales)
    made = calibrate({"blur:1": counts})
    assert made is not None

    low, middle, high = (made.of(Blur(sigma=1), scale) for scale in (0.005, 0.02, 0.1))

    assert (low.scale, middle.scale, high.scale) == (0.005, 0.02, 0.1)
    assert low.mean == pytest.approx(1, rel=0.05)
    assert middle.mean == pytest.approx(3**0.5, rel=0.05)
    assert high.mean == pytest.approx(3, rel=0.05)


def test_factors_between_strengths_are_interpolated() -> None:
    calibration = known(pixelate_4=1.0, pixelate_16=4.0, pixelate_8_nearest=100.0)

    def of(block: int, *, nearest: bool = False) -> Factors:
        return calibration.of(Pixelate(block=block, nearest=nearest), 0.01)

    assert of(4).mean == pytest.approx(1)
    assert of(8).mean == pytest.approx(2)
    assert of(8).of(0.9) == pytest.approx(1.8)
    assert of(2).mean == pytest.approx(1)  # the nearest known
    assert of(16, nearest=True).mean == pytest.approx(100)


@pytest.mark.parametrize("how", [Blur(sigma=2), None, parse("box:4x4@center")])
def test_what_was_not_measured_has_the_factors_of_all(how: Blur | None) -> None:
    assert known(pixelate_4=1.0).of(how, 0.01).mean == pytest.approx(9)


def test_a_calibration_survives_its_config() -> None:
    counts = Ratios()
    counts.add(*drawn(1000))
    made = calibrate({"pixelate:4": counts})
    assert made is not None

    read = Calibration.of_config({"calibration": json.loads(json.dumps(made.as_json()))})

    assert read is not None
    levels = [each.of(Pixelate(block=4), 0.02).levels for each in (read, made)]
    assert levels[0] == pytest.approx(levels[1], rel=1e-4)
    assert set(read.factors) == {"pixelate:4", ANY}


def row(**changed: object) -> dict[str, object]:
    return {"scale": 0.1, "mean": 1, "levels": [1, 1, 1, 1]} | changed


@pytest.mark.parametrize(
    "told",
    [
        {"levels": [0.5], "redactions": {}},
        {"levels": list(LEVELS), "redactions": {}},
        {"levels": list(LEVELS), "redactions": {ANY: []}},
        {"levels": list(LEVELS), "redactions": {"blur:1": [row()]}},
        *(
            {"levels": list(LEVELS), "redactions": {ANY: [damaged]}}
            for damaged in (
                row(mean=-1),
                row(scale=0),
                row(levels=[1, 1]),
                row(levels=list("1x11")),
            )
        ),
        {"redactions": {}},
        "1",
    ],
)
def test_a_damaged_calibration_is_refused(told: object) -> None:
    network = BUILDERS["redacto-baseline"]()
    model = Model(name="redacto", network=network, sha256="", config={"calibration": told})

    with pytest.raises(CheckpointError, match="calibration of redacto"):
        calibration_of(model)


def test_errors_are_those_of_what_is_hidden_in_every_colour() -> None:
    result = np.zeros((2, 2, 3), np.uint8)
    original = np.zeros((2, 2, 3), np.uint8)
    original[0, 1] = 51, 102, 255
    scale = np.array([[0.1, 0.2], [0.3, 0.4]])
    hidden = np.array([[False, True], [False, False]])

    errors, scales = errors_and_scales(result, original, scale, hidden)

    assert errors == pytest.approx([0.2, 0.4, 1.0])
    assert scales == pytest.approx([0.2, 0.2, 0.2])


def test_errors_of_colours_are_those_of_luma() -> None:
    result = np.zeros((1, 1, 3), np.uint8)
    original = np.full((1, 1, 3), (255, 0, 0), np.uint8)

    errors, scales = errors_and_scales(result, original, np.full((1, 1), 0.5), None)

    assert errors == pytest.approx([0.299])
    assert scales.tolist() == [0.5]


def test_the_interval_score_is_best_for_the_right_width() -> None:
    errors, _ = drawn(100_000)
    right = float(np.quantile(errors, 0.9))
    scores = {
        width: interval_score(errors, np.full_like(errors, right * width), 0.9)
        for width in (0.5, 1.0, 2.0)
    }

    assert min(scores, key=scores.__getitem__) == 1
    # All within: the width alone counts.
    assert interval_score(np.zeros(3), np.full(3, 0.25), 0.9) == 0.5
