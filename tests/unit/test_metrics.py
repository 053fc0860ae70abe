"""Metrics against scikit-image and NumPy, over the whole image and over hidden pixels."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from skimage import data, metrics

from redaction_core.metrics import Errors, mean_errors, mean_signed_chroma, measure, psnr

Pixels = npt.NDArray[np.uint8]
Hidden = npt.NDArray[np.bool_]

GENERATOR = np.random.default_rng(7)


def noisy(image: Pixels, sigma: float = 9) -> Pixels:
    return np.clip(image + GENERATOR.normal(0, sigma, image.shape), 0, 255).astype(np.uint8)


def pictures() -> list[Pixels]:
    camera: Pixels = data.camera()
    cat: Pixels = data.chelsea()
    # From the smallest that has an SSIM to several tiles, flat parts and odd sides included.
    return [
        camera[:224, :224],
        camera[100:111, 50:61],
        camera[:11, :300],
        camera[:, :263],
        np.full((40, 50), 255, np.uint8),
        cat[:97, :61],
        cat,
    ]


def ssim_map(estimate: Pixels, original: Pixels) -> tuple[float, npt.NDArray[np.float64]]:
    mean, similarity = metrics.structural_similarity(
        estimate,
        original,
        full=True,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=-1 if original.ndim == 3 else None,
    )
    return mean, similarity


def holes(shape: tuple[int, ...]) -> list[Hidden]:
    height, width = shape[:2]
    box = np.zeros((height, width), bool)
    box[height // 2 : height // 2 + 4, width // 2 : width // 2 + 6] = True
    corner = np.zeros((height, width), bool)
    corner[-1, -1] = True
    scattered = GENERATOR.random((height, width)) < 0.1
    scattered[0, 0] = True
    return [box, corner, scattered, np.ones((height, width), bool)]


def expected(estimate: Pixels, original: Pixels, hidden: Hidden | None) -> Errors:
    chosen = ... if hidden is None else hidden
    mean, similarity = ssim_map(estimate, original)
    levels = np.abs(estimate[chosen].astype(int) - original[chosen].astype(int)).ravel()
    mse = float(metrics.mean_squared_error(estimate[chosen] / 255, original[chosen] / 255))
    ranks = np.percentile(levels, [50, 95, 99], method="inverted_cdf") / 255
    return Errors(
        mae=float(levels.mean() / 255),
        mse=mse,
        psnr=float(
            metrics.peak_signal_noise_ratio(original[chosen], estimate[chosen], data_range=255)
        ),
        ssim=mean if hidden is None else float(similarity[hidden].mean()),
        error_p50=ranks[0],
        error_p95=ranks[1],
        error_p99=ranks[2],
    )


def assert_same(measured: Errors, reference: Errors) -> None:
    assert measured.ssim == pytest.approx(reference.ssim, abs=2e-6)
    for name in ("mae", "mse", "psnr", "error_p50", "error_p95", "error_p99"):
        assert getattr(measured, name) == pytest.approx(getattr(reference, name), rel=1e-9), name


@pytest.mark.parametrize("number", range(len(pictures())))
def test_whole_images_measure_as_scikit_image_says(number: int) -> None:
    original = pictures()[number]
    estimate = noisy(original)

    assert_same(measure(estimate, original), expected(estimate, original, None))


@pytest.mark.parametrize("number", range(len(pictures())))
@pytest.mark.parametrize("hole", range(4))
def test_hidden_pixels_alone_count(number: int, hole: int) -> None:
    original = pictures()[number]
    hidden = holes(original.shape)[hole]
    estimate = noisy(original, 40)

    assert_same(measure(estimate, original, hidden), expected(estimate, original, hidden))


def test_images_taller_than_a_strip() -> None:
    original = np.tile(data.camera()[:, :40], (3, 1))
    estimate = noisy(original)
    hidden = GENERATOR.random(original.shape) < 0.3

    assert_same(measure(estimate, original), expected(estimate, original, None))
    assert_same(measure(estimate, original, hidden), expected(estimate, original, hidden))


def test_equal_images() -> None:
    original = pictures()[0]

    errors = measure(original, original.copy())

    assert errors.psnr is None
    assert (errors.mae, errors.mse, errors.error_p99) == (0, 0, 0)
    assert errors.ssim == pytest.approx(1, abs=1e-6)


def test_opposite_images() -> None:
    black = np.zeros((16, 16, 3), np.uint8)

    errors = measure(~black, black)

    assert (errors.mae, errors.mse, errors.psnr, errors.error_p50) == (1, 1, 0, 1)


@pytest.mark.parametrize("shape", [(10, 300), (300, 10), (1, 1), (4, 1, 3), (10, 10, 3)])
def test_small_images_have_no_ssim(shape: tuple[int, ...]) -> None:
    errors = measure(np.full(shape, 51, np.uint8), np.zeros(shape, np.uint8))

    assert errors.ssim is None
    assert errors.mae == pytest.approx(0.2)


@pytest.mark.parametrize("shape", [(1, 1), (224, 224), (301, 77), (40, 50, 3)])
def test_mean_errors_are_exactly_those_of_all_errors(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    original, estimate = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    hidden = rng.random(shape[:2]) < 0.3
    hidden[0, 0] = True

    for where in (None, hidden, np.asfortranarray(hidden)):
        errors = measure(estimate, original, where)
        assert mean_errors(estimate, original, where) == (errors.mae, errors.mse)
    assert psnr(errors.mse) == errors.psnr
    with pytest.raises(ValueError, match="nothing is hidden"):
        mean_errors(estimate, original, np.zeros(shape[:2], bool))
    with pytest.raises(ValueError, match="shapes differ"):
        mean_errors(estimate, original[:, :0])


def test_percentiles_are_levels_that_occur() -> None:
    original = np.zeros((1, 100), np.uint8)
    estimate = np.zeros((1, 100), np.uint8)
    estimate[0, :5] = 100
    estimate[0, :1] = 200

    errors = measure(estimate, original)

    assert (errors.error_p50, errors.error_p95, errors.error_p99) == (0, 0, 100 / 255)


def test_views_are_measured_as_their_pixels() -> None:
    original = pictures()[-1]
    estimate = noisy(original)

    turned = measure(estimate[::-1, ::-1], original[::-1, ::-1])

    assert turned.mae == measure(estimate, original).mae
    assert turned.ssim == pytest.approx(measure(estimate, original).ssim, abs=1e-6)


@pytest.mark.parametrize(
    ("estimate", "hidden", "message"),
    [
        ((16, 17), None, "shapes differ"),
        ((16, 16, 3), None, "shapes differ"),
        ((16, 16), (16, 17), "a mask of"),
        ((16, 16), (16, 16), "nothing is hidden"),
    ],
)
def test_what_cannot_be_compared(
    estimate: tuple[int, ...], hidden: tuple[int, ...] | None, message: str
) -> None:
    mask = None if hidden is None else np.zeros(hidden, bool)

    with pytest.raises(ValueError, match=message):
        measure(np.zeros(estimate, np.uint8), np.zeros((16, 16), np.uint8), mask)


def test_chroma_is_that_of_bt_601() -> None:
    colours = GENERATOR.integers(0, 256, (9, 7, 3), np.uint8)
    red, green, blue = np.moveaxis(colours / 255, -1, 0)

    cb, cr = mean_signed_chroma(colours)

    # ITU-T T.871 (JFIF), section 7.
    assert cb == pytest.approx((-0.168736 * red - 0.331264 * green + 0.5 * blue).mean(), abs=1e-6)
    assert cr == pytest.approx((0.5 * red - 0.418688 * green - 0.081312 * blue).mean(), abs=1e-6)


def test_gray_has_no_chroma_and_pure_colours_have_most() -> None:
    gray = GENERATOR.integers(0, 256, (9, 7), np.uint8)
    blue = np.zeros((5, 5, 3), np.uint8)
    blue[..., 2] = 255

    assert mean_signed_chroma(gray) == (0, 0)
    assert mean_signed_chroma(np.dstack([gray] * 3)) == (0, 0)
    assert math.isclose(mean_signed_chroma(blue)[0], 0.5)
