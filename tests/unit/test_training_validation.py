"""Validation measures as reconstruct does, and leaves the network that trains alone."""

import copy
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from redaction_core.comparison import AGAINST_ORIGINAL
from redaction_core.redaction import Redaction, parse, redact
from redaction_core.training.batches import Batch
from redaction_core.training.objectives import losses_of
from redaction_core.training.validation import MEASURES, Sums, validate
from tests.unit.networks import small
from tests.unit.shards import Pixels, as_tensor, picture, put, run, task

CPU = torch.device("cpu")


def batch(images_u8: Tensor, how: Redaction, keys: Sequence[str] | None = None) -> Batch:
    count = len(images_u8)
    names = list(keys) if keys is not None else [f"{number}" for number in range(count)]
    hidden = redact(how, images_u8, names, 0).hidden
    return Batch(step=0, images_u8=images_u8, keys=names, how=how, hidden=hidden, total=count)


def validated(network: nn.Module, batches: Iterable[Batch], *texts: str) -> Sums:
    return validate(
        network,
        batches,
        redactions=texts,
        loss="mae",
        device=CPU,
        precision="float32",
    )


def pictures(count: int, *shape: int) -> list[Pixels]:
    return [picture(*shape, seed=number) for number in range(count)]


def stacked(images: Sequence[Pixels]) -> Tensor:
    return torch.cat([as_tensor(image) for image in images])


@pytest.mark.parametrize(
    ("network", "text", "shape"),
    [
        ("enhancer", "pixelate:4", (20, 24)),
        ("enhancer", "pixelate:3:nearest", (20, 24)),
        ("enhancer", "blur:1.5", (20, 24)),
        ("redacto", "box:0.1@random", (24, 24)),
        ("redacto-baseline", "box:0.1@random", (24, 24, 3)),
    ],
)
def test_figures_are_those_of_reconstruct(
    tmp_path: Path, network: str, text: str, shape: tuple[int, ...]
) -> None:
    images = pictures(3, *shape)
    keys = [f"{number}.png" for number in range(3)]
    for key, image in zip(keys, images, strict=True):
        put(tmp_path / "in", key, image)
    how = parse(text)
    rows = run(task(tmp_path, redaction=how, network=network), network).rows

    found = validated(small(network), [batch(stacked(images), how, keys)], text).result()

    figures = found["redactions"][text]
    assert figures["images"] == found["images"] == 3
    for name in MEASURES:
        if name == "baseline_mse":  # there is no such column, but its PSNR
            continue
        values = [row[name] for row in rows if row[name] is not None]
        mean = sum(values) / len(values) if values else None
        assert figures[name] == (None if mean is None else pytest.approx(mean, rel=1e-12)), name
    assert (figures["bicubic_mae"] is None) is not text.startswith("pixelate")


def test_the_error_of_what_is_there_without_a_network_is_squared_for_holes(tmp_path: Path) -> None:
    image = picture(24, 24)
    put(tmp_path / "in", "a.png", image)
    how = parse("box:6x6@center")
    (row,) = run(task(tmp_path, redaction=how, network="redacto"), "redacto").rows
    sums = validated(small("redacto"), [batch(as_tensor(image), how, ["a.png"])], str(how))
    found = sums.result()["redactions"][str(how)]["baseline_mse"]
    assert 10 * math.log10(1 / found) == pytest.approx(row["baseline_psnr"])


def test_shares_of_workers_add_up_to_the_whole() -> None:
    images = stacked(pictures(5, 16, 16))
    hows = [parse("pixelate:2"), parse("pixelate:4")]
    texts = [str(how) for how in hows]
    keys = [str(number) for number in range(5)]
    network = small("enhancer")
    whole = validated(network, [batch(images, how, keys) for how in hows], *texts)
    shares = [
        # The last has nothing at all of one batch.
        validated(network, [batch(images[a:b], how, keys[a:b]) for how in hows], *texts)
        for a, b in ((0, 2), (2, 5), (5, 5))
    ]
    seen_nothing = validated(network, [], *texts)
    total = Sums(texts)
    for share in (*shares, seen_nothing):
        assert share.values.shape == whole.values.shape
        assert share.values.dtype == torch.float64
        total.values += share.values
    assert torch.allclose(total.values, whole.values, rtol=1e-6)
    assert total.result()["images"] == 10
    assert total.result()["loss"] == pytest.approx(whole.result()["loss"])


def test_the_loss_is_the_mean_over_all_samples() -> None:
    images = stacked(pictures(3, 16, 16))
    network = small("enhancer")
    hows = [parse("pixelate:2"), parse("pixelate:8")]
    batches = [batch(images, hows[0]), batch(images[:1], hows[1])]
    with torch.no_grad():
        expected = [
            losses_of(network, each.images_u8, each.how, each.hidden, loss="mae")
            for each in batches
        ]
    found = validated(network, batches, *map(str, hows)).result()
    assert found["loss"] == pytest.approx(float(torch.cat(expected).mean()), rel=1e-5)
    for how, losses in zip(hows, expected, strict=True):
        figures = found["redactions"][str(how)]
        assert figures["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)


def test_the_network_is_left_as_it_is() -> None:
    network = small("enhancer").train()
    before = copy.deepcopy(network.state_dict())
    strides = [parameter.stride() for parameter in network.parameters()]

    validated(network, [batch(stacked(pictures(1, 16, 16)), parse("pixelate:4"))], "pixelate:4")

    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [parameter.stride() for parameter in network.parameters()] == strides
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_lower_precision_gives_almost_the_same() -> None:
    images, how = stacked(pictures(2, 16, 16)), parse("pixelate:4")
    found = [
        validate(
            small("enhancer"),
            [batch(images, how)],
            redactions=[str(how)],
            loss="mae",
            device=CPU,
            precision=precision,
        ).result()["redactions"][str(how)]["mae"]
        for precision in ("float32", "bfloat16")
    ]
    assert found[0] != found[1]
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_what_reconstruct_would_refuse_is_not_measured() -> None:
    images, how = stacked(pictures(2, 16, 16)), parse("box:40x40@center")
    found = validated(small("redacto"), [batch(images, how)], str(how)).result()
    assert found["images"] == 0
    assert found["redactions"][str(how)]["mae"] is None


def test_figures_that_are_not_there_are_none() -> None:
    found = validated(small("enhancer"), [], "pixelate:4").result()
    assert (found["loss"], found["images"]) == (None, 0)
    assert found["redactions"]["pixelate:4"] == dict.fromkeys(["loss", *MEASURES]) | {"images": 0}

    broken = small("enhancer")
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter.fill_(math.nan)
    images = stacked(pictures(1, 16, 16))
    found = validated(broken, [batch(images, parse("pixelate:4"))], "pixelate:4").result()
    assert found["loss"] is None
    assert found["images"] == 1


def test_a_redaction_that_was_not_announced_is_a_mistake() -> None:
    images = stacked(pictures(1, 16, 16))
    with pytest.raises(ValueError, match="not in"):
        validated(small("enhancer"), [batch(images, parse("pixelate:4"))], "pixelate:2")
    with pytest.raises(TypeError, match="none of the networks"):
        validated(nn.Identity(), [], "pixelate:2")


def test_some_restored_images_are_kept_of_each_redaction() -> None:
    images, texts = stacked(pictures(9, 16, 16)), ("pixelate:2", "pixelate:4")
    batches = [batch(images, parse(text)) for text in texts for _ in range(2)]
    sums = validated(small("enhancer"), batches, *texts)
    assert [each.redaction for each in sums.restored] == [texts[0]] * 6 + [texts[1]] * 6
    first = sums.restored[0]
    assert (first.original == picture(16, 16, seed=0)).all()
    assert (first.redacted != first.original).any()
    assert (first.result != first.redacted).any()
    assert set(first.figures) == set(AGAINST_ORIGINAL)

    many = [f"pixelate:{block}" for block in range(2, 16)]
    sums = validated(small("enhancer"), [batch(images, parse(text)) for text in many], *many)
    assert [each.redaction for each in sums.restored] == many
