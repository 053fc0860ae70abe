"""Networks on a device: colour, batches, large images, and memory that really runs out."""

from typing import Any

import pytest
import torch
from torch import Tensor

from redaction_core.checkpoints import Model, load_model, shipped
from redaction_core.inference import Restorer, best_precision, undoes_blur
from redaction_core.models.enhancer import Enhancer
from redaction_core.models.starts import start_of
from redaction_core.redaction import Blur, Pixelate, block_means, redact
from tests.unit.networks import enhanced, filled, holes, noise, restorer, small, wild

CPU = torch.device("cpu")
HOW = Pixelate(block=4)


def pixelated(how: Pixelate, *shape: int) -> list[Tensor]:
    return list(redact(how, noise(*shape), [""] * shape[0]).images_u8)


def blurry(*shape: int) -> Tensor:
    """Pixels that a network continues without leaving 0 to 255."""
    return noise(*shape) // 8 + 112


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def close(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether images are alike but for sums in another order, which may turn a rounding over."""
    differences = [(a.int() - b.int()).abs() for a, b in zip(one, other, strict=True)]
    levels = torch.cat([difference.flatten() for difference in differences])
    return int(levels.max()) <= 1 and float(levels.float().mean()) < 0.01


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (13, 6), (40, 40)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["enhancer", "enhancer-baseline"])
def test_enhancing_keeps_size_and_channels(name: str, channels: int, size: tuple[int, int]) -> None:
    images = pixelated(HOW, 2, channels, *size)

    results = enhanced(restorer(name), images, HOW)

    assert [result.shape for result in results] == [image.shape for image in images]
    assert all(result.dtype == torch.uint8 for result in results)


def untrained(precision: torch.dtype = torch.float32) -> Restorer:
    """Give what it starts from, nearly: as built, the last layers hardly change anything."""
    torch.manual_seed(0)
    model = Model(name="enhancer", network=Enhancer(width=8, blocks=2), sha256="", config={})
    return Restorer(model, device=CPU, precision=precision)


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (13, 6), (40, 40)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [0.5, 2, 8])
def test_undoing_blur_keeps_size_and_channels(
    sigma: float, channels: int, size: tuple[int, int]
) -> None:
    how = Blur(sigma=sigma)
    images = list(redact(how, noise(2, channels, *size), ["a", "b"]).images_u8)

    results = enhanced(restorer("enhancer"), images, how)

    assert [result.shape for result in results] == [image.shape for image in images]
    assert all(result.dtype == torch.uint8 for result in results)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [0.7, 1, 2])
def test_blur_is_undone(sigma: float, channels: int, precision: torch.dtype) -> None:
    how = Blur(sigma=sigma)
    # Detail of three pixels a side, which such a blur leaves something of.
    sharp = noise(2, channels, 16, 20).repeat_interleave(3, -1).repeat_interleave(3, -2)
    blurred = redact(how, sharp, ["a", "b"]).images_u8

    results = torch.stack(enhanced(untrained(precision), list(blurred), how))

    before, after = ((images.float() - sharp).abs().mean() for images in (blurred, results))
    assert after < 0.75 * before


def test_colours_of_a_blur_come_from_where_the_network_starts() -> None:
    how = Blur(sigma=1.5)
    blurred = redact(how, blurry(1, 3, 40, 40), [""]).images_u8

    (result,) = enhanced(restorer("enhancer"), list(blurred), how)

    seen = blurred.float() / 255
    start = start_of(seen, how)[0] * 255
    # Red less green, and green less blue.
    differences = [(image[:2] - image[1:]) for image in (result.float(), start)]
    inside = ((result > 0) & (result < 255)).all(0)
    assert inside.sum() > 100
    assert (differences[0] - differences[1])[:, inside].abs().max() <= 1.01


def test_which_networks_undo_blur() -> None:
    names = ("enhancer", "enhancer-baseline", "redacto", "redacto-baseline")
    models = [Model(name=name, network=small(name), sha256="", config={}) for name in names]

    assert [undoes_blur(model) for model in models] == [True, True, False, False]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"training": {"redactions": ["pixelate:2-16=3", "blur:1-4=0.5"]}}, True),
        ({"training": {"redactions": ["pixelate:4", "pixelate:4:nearest"]}}, False),
        ({"training": {"minutes": 90.0}}, True),
        ({"training": None}, True),
    ],
)
def test_weights_undo_blur_if_they_were_trained_to(
    config: dict[str, Any], *, expected: bool
) -> None:
    model = Model(name="enhancer", network=small("enhancer"), sha256="", config=config)

    assert undoes_blur(model) == expected


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block", [2, 4, 7, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_results_of_the_shipped_weights_explain_their_input(
    channels: int, block: int, precision: torch.dtype
) -> None:
    how = Pixelate(block=block)
    images = redact(how, blurry(1, channels, 48, 56), [""]).images_u8
    enhancer = Restorer(load_model(shipped("enhancer")), device=CPU, precision=precision)

    (result,) = enhanced(enhancer, list(images), how)

    again, seen = (block_means(x.float(), block) for x in (result[None], images))
    assert (again - seen).abs().max() <= 0.5
    assert not torch.equal(result, images[0])


@pytest.mark.parametrize(
    "how", [Pixelate(block=4), Pixelate(block=4, nearest=True), Blur(sigma=2)], ids=str
)
def test_gray_is_never_tinted_by_enhancing(how: Pixelate | Blur) -> None:
    gray = list(redact(how, noise(2, 1, 30, 33), ["a", "b"]).images_u8)
    enhancer = restorer("enhancer")

    for result in enhanced(enhancer, [image.expand(3, -1, -1) for image in gray], how):
        assert torch.equal(result, result[:1].expand(3, -1, -1))


@pytest.mark.parametrize("name", ["redacto", "redacto-baseline"])
@pytest.mark.parametrize("size", [(2, 1), (9, 17), (40, 40)])
@pytest.mark.parametrize("channels", [1, 3])
def test_known_pixels_come_back_bit_for_bit(
    name: str, size: tuple[int, int], channels: int
) -> None:
    images, hidden = noise(2, channels, *size), holes(2, *size)

    results = filled(restorer(name), list(images), list(hidden))

    for result, image, mask in zip(results, images, hidden, strict=True):
        known = ~mask.expand_as(image)
        assert result.dtype == torch.uint8
        assert torch.equal(result[known], image[known])


@pytest.mark.parametrize("name", ["redacto", "redacto-baseline"])
def test_gray_is_never_tinted_by_filling(name: str) -> None:
    gray, hidden = noise(1, 1, 30, 33), holes(1, 30, 33)
    # What hidden pixels hold is no reason to take an image for a coloured one.
    colours = torch.where(hidden, noise(1, 3, 30, 33, seed=9), gray)
    filler = restorer(name)

    (single,) = filled(filler, list(gray), list(hidden))
    (triple,) = filled(filler, list(colours), list(hidden))

    assert torch.equal(triple, single.expand(3, -1, -1))


def test_a_self_ensemble_treats_left_and_right_alike() -> None:
    images, hidden = list(blurry(2, 3, 20, 27)), list(holes(2, 20, 27))
    mirrored = [image.flip(-1) for image in images], [mask.flip(-1) for mask in hidden]
    alone, both = restorer("redacto"), restorer("redacto", self_ensemble=True)

    def off(filler: Restorer) -> int:
        one, other = filled(filler, images, hidden), filled(filler, *mirrored)
        pairs = zip(one, other, strict=True)
        return max(int((a.int() - b.flip(-1).int()).abs().max()) for a, b in pairs)

    assert off(alone) > 1
    assert off(both) <= 1  # sums come in another order
    for whole, image, mask in zip(filled(both, images, hidden), images, hidden, strict=True):
        assert torch.equal(whole[:, ~mask[0]], image[:, ~mask[0]])


def test_a_gray_neighbour_does_not_take_the_colour_out() -> None:
    colour, hidden = noise(1, 3, 16, 16), holes(1, 16, 16)
    gray = noise(1, 1, 16, 16).expand(-1, 3, -1, -1)
    filler = restorer("redacto")

    (alone,) = filled(filler, list(colour), list(hidden))
    both = filled(filler, [colour[0], gray[0]], [hidden[0], hidden[0]])

    assert close([alone], [both[0]])
    assert not torch.equal(alone[0], alone[1])
    assert torch.equal(both[1][0], both[1][2])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(9, 11), (40, 40)])
def test_neighbours_in_the_batch_make_no_difference(
    size: tuple[int, int], precision: torch.dtype
) -> None:
    images, hidden = blurry(5, 3, *size), holes(5, *size)
    soft = list(redact(HOW, images, [""] * 5).images_u8)
    # As trained: wild weights leave 0 to 255, where clipping hides all differences.
    enhancer, filler = (
        Restorer(load_model(shipped(name)), device=CPU, precision=precision)
        for name in ("enhancer", "redacto")
    )

    sharp = enhanced(enhancer, soft, HOW)
    whole = filled(filler, list(images), list(hidden))

    assert equal(enhanced(enhancer, soft[::-1], HOW), sharp[::-1])
    assert equal(filled(filler, list(images.flip(0)), list(hidden.flip(0))), whole[::-1])
    single = [enhanced(enhancer, [image], HOW)[0] for image in soft]
    assert close(single, sharp)
    single = [filled(filler, [a], [b])[0] for a, b in zip(images, hidden, strict=True)]
    assert close(single, whole)


def assert_pieces_equal_the_whole(
    monkeypatch: pytest.MonkeyPatch,
    enhancer: Restorer,
    images: list[Tensor],
    how: Pixelate | Blur,
) -> None:
    """Restore images of 300x520 at once, and in 3 x 5 tiles."""
    sizes: list[tuple[int, ...]] = []
    enhancer.network.register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape))

    whole = enhanced(enhancer, images, how)
    monkeypatch.setattr("redaction_core.inference._TILE", 104)
    pieces = enhanced(enhancer, images, how)

    assert sizes[0] == (1, 1, 300, 520)
    assert len(sizes) == 1 + 3 * 5
    assert close(pieces, whole)


@pytest.mark.parametrize("block", [4, 13])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_image_in_pieces_equals_the_whole(
    monkeypatch: pytest.MonkeyPatch, channels: int, block: int
) -> None:
    how = Pixelate(block=block)
    images = [redact(how, blurry(1, channels, 300, 520), [""]).images_u8[0]]
    # Sees as far as the shipped weights, and lets what is far away count.
    network = Enhancer(width=8, blocks=8)
    wild(network)
    model = Model(name="enhancer", network=network, sha256="", config={})
    enhancer = Restorer(model, device=CPU, precision=torch.float32)

    assert_pieces_equal_the_whole(monkeypatch, enhancer, images, how)


@pytest.mark.parametrize("sigma", [0.5, 2, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_blurred_image_in_pieces_equals_the_whole(
    monkeypatch: pytest.MonkeyPatch, channels: int, sigma: float
) -> None:
    how = Blur(sigma=sigma)
    images = list(redact(how, blurry(1, channels, 300, 520), [""]).images_u8)
    enhancer = untrained()

    assert_pieces_equal_the_whole(monkeypatch, enhancer, images, how)


@pytest.mark.parametrize("size", [(9, 11), (40, 40)])
def test_neighbours_of_a_blurred_image_make_no_difference(size: tuple[int, int]) -> None:
    how = Blur(sigma=1.5)
    images = list(redact(how, blurry(5, 3, *size), [""] * 5).images_u8)
    enhancer = untrained()

    sharp = enhanced(enhancer, images, how)

    assert equal(enhanced(enhancer, images[::-1], how), sharp[::-1])
    assert close([enhanced(enhancer, [image], how)[0] for image in images], sharp)


def test_precision_follows_the_processor() -> None:
    able = torch.cpu.get_capabilities()
    gains = able.get("avx512_bf16") or able.get("amx_bf16")

    assert best_precision(CPU) == (torch.bfloat16 if gains else torch.float32)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["enhancer", "redacto"])
def test_a_batch_that_does_not_fit_is_halved(
    starved: dict[str, dict[str, Any]], name: str, precision: str
) -> None:
    found = starved["batches"][f"{name} {precision}"]

    assert found["same"]
    # The whole batch may fail before it reaches the network.
    assert found["sizes"][0] in (16, 8)
    assert found["sizes"][-1] < 16


@pytest.mark.parametrize("name", ["enhancer", "redacto", "redacto-baseline"])
def test_an_image_that_does_not_fit_alone_fails_alone(
    starved: dict[str, dict[str, Any]], name: str
) -> None:
    assert starved["giants"][name] == "out_of_memory: one image does not fit on cpu"


def test_other_errors_are_not_taken_for_missing_memory() -> None:
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        enhanced(restorer("enhancer"), [noise(1, 4, 4), noise(1, 5, 5)], HOW)
