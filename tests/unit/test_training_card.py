"""The card says what was trained, how good it is, and lets no text from outside act in it."""

import re
import shlex
from dataclasses import fields
from typing import Any

import pytest

from jobs.reconstruct import Reconstruct
from redaction_core.models import BUILDERS, FILLS_HOLES
from redaction_core.training.card import code, model_card
from redaction_core.training.history import Epoch, History
from redaction_core.training.output import Data
from redaction_core.training.recipe import Recipe, Source

FOUR, HOLE = "pixelate:4", "box:4x4@center"


def figures(**changes: float | None) -> dict[str, Any]:
    given: dict[str, Any] = {
        "images": 200,
        "loss": 0.02,
        "mae": 0.0123,
        "mse": 0.000456,
        "psnr": 31.23,
        "ssim": 0.9123,
        "baseline_mae": 0.0456,
        "baseline_mse": 0.00345,
        "bicubic_mae": 0.0234,
        "recovered": 0.73,
    }
    return given | changes


def epoch(number: int, loss: float | None = 0.02, rows: dict[str, Any] | None = None) -> Epoch:
    rows = rows or {FOUR: figures()}
    images = sum(row["images"] for row in rows.values())
    return Epoch(
        epoch=number,
        step=1000 * number,
        train_loss=0.03,
        val={"loss": loss, "images": images, "redactions": rows},
        learning_rate=1e-3,
        images_per_s=100.0,
        seconds=1800.0,
    )


def data(location: str = "s3://faces/gray", **changes: int) -> Data:
    given: dict[str, Any] = {"train": 12345, "val": 300, "side": 224, "channels": 1}
    return Data(location=location, fingerprint="0123456789abcdef" * 4, **(given | changes))


def card(
    *epochs: Epoch,
    network: str = "enhancer",
    location: str = "s3://faces/gray",
    **changes: Any,  # noqa: ANN401 - of a recipe
) -> str:
    given: dict[str, Any] = {
        "network": network,
        "sources": (Source(location=location, repeats=2),),
        "redactions": (HOLE if network in FILLS_HOLES else FOUR,),
    }
    recipe = Recipe(**(given | changes))
    return model_card(
        recipe,
        [data(location)],
        History(epochs=epochs or (epoch(1),)),
        parameters=123456,
        versions={"torch": "2.13.0", "numpy": "2.4"},
    )


def words(text: str) -> str:
    return " ".join(text.split())


def row(text: str, name: str) -> list[str]:
    (found,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_the_figures_stand_beside_those_without_a_network() -> None:
    text = card()
    assert row(text, FOUR) == [
        *("`pixelate:4`", "200", "0.0123", "0.0456", "0.0234"),
        *("73 %", "31.2 dB", "0.912"),
    ]
    assert "| MAE | as redacted | bicubic | recovered | PSNR | SSIM |" in text
    hole = card(epoch(1, rows={HOLE: figures(bicubic_mae=None)}), network="redacto")
    assert row(hole, HOLE)[2:6] == ["0.0123", "0.0456", "0.000456", "0.00345"]
    assert "bicubic" not in hole
    assert "over the hidden pixels alone" in words(hole)


def test_the_figures_are_those_of_the_weights_that_were_kept() -> None:
    epochs = [
        epoch(number, loss, rows={FOUR: figures(mae=0.01 * number)})
        for number, loss in enumerate((0.3, 0.2, 0.4), 1)
    ]
    text = card(*epochs)
    assert row(text, FOUR)[2] == "0.0200"
    assert "after epoch 2 (step 2,000), for its validation loss of 0.2." in words(text)
    assert "3,000 steps in 3 epochs, 1.5 hours" in words(text)


def test_what_was_trained_and_with_what() -> None:
    text = card(loss="laplacian", batch_size=48, architecture={"width": 64}, init="ab" * 32)
    for line in ("| loss | laplacian |", "| batch size | 48 |", "| width | 64 |"):
        assert line in text
    for setting in fields(Recipe):
        if setting.name not in ("network", "architecture", "init", "sources", "val_images"):
            assert f"| {setting.name.replace('_', ' ')} |" in text
    assert "12,345 images to learn from, each 2 times an epoch, 300 for validation" in text
    assert "256 images of the validation split" in text
    assert "`0123456789abcdef`" in text
    assert "began from the weights of the model `abababababababab`" in text
    assert "| weights | 123,456 |" in text
    assert "Made with numpy 2.4, torch 2.13.0." in text


@pytest.mark.parametrize("network", list(BUILDERS))
def test_every_card_says_what_a_result_is_not(network: str) -> None:
    text = card(
        epoch(1, rows={HOLE if network in FILLS_HOLES else FOUR: figures()}), network=network
    )
    assert text.startswith(f"# {network}\n")
    assert "not evidence of who or what was in the picture" in words(text)
    assert "Do not use it to identify people." in words(text)
    for heading in ("Use", "Learnt from", "How good", "Training", "Limits", "Not for"):
        assert f"\n## {heading}\n" in text


@pytest.mark.parametrize("network", list(BUILDERS))
def test_its_commands_are_commands(network: str) -> None:
    text = card(
        epoch(1, rows={HOLE if network in FILLS_HOLES else FOUR: figures()}), network=network
    )
    (block,) = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    for line in block.splitlines():
        python, _, module, *flags = shlex.split(line)
        assert (python, module) == ("python", "jobs.reconstruct")
        given = dict(zip(flags[::2], flags[1::2], strict=True))
        config = Reconstruct(**{name.removeprefix("--"): value for name, value in given.items()})
        assert config.model is not None
        assert ("-" in network) is (config.network == network)
        if config.redact is None:
            assert (config.masks is not None) is (network in FILLS_HOLES)


def test_limits_follow_from_the_figures() -> None:
    assert "No better" not in card()
    assert "fewer than" not in card()
    worse = {FOUR: figures(mae=0.03), "pixelate:8": figures(), "blur:1": figures(images=20)}
    text = words(card(epoch(1, rows=worse)))
    assert "**No better than what needs no network**, on the mean: `pixelate:4`." in text
    assert "fewer than 100 images, hence roughly: `blur:1`." in text
    hole = {HOLE: figures(bicubic_mae=None, mse=0.004)}
    assert f"on the mean: `{HOLE}`." in words(card(epoch(1, rows=hole), network="redacto"))


def test_without_validation_it_says_so() -> None:
    text = card(epoch(1, None, rows={FOUR: dict.fromkeys(figures()) | {"images": 0}}))
    assert "Not measured" in text
    assert "recovered" not in text
    assert "chosen by these validation images" not in words(text)
    assert "after epoch 1 (step 1,000)." in words(text)
    with pytest.raises(ValueError, match="nothing was trained"):
        model_card(
            Recipe(network="enhancer", sources=(), redactions=(FOUR,)),
            [],
            History(),
            parameters=1,
            versions={},
        )


@pytest.mark.parametrize(
    "location",
    [
        "/data/`whoami`",
        "`",
        "``a",
        "/a b/<script>alert(1)</script>",
        "/x\n\n# Safe to identify people\n",
        "/[click](javascript:1)|*b*_c_",
        "/\u202egnp.exe",
        "/bad\udcff",
        " ",
        "/two  spaces",
    ],
)
def test_a_location_can_do_nothing_but_be_read(location: str) -> None:
    text = card(location=location)
    text.encode()
    plain = card(location="X")
    # It stays in its line, and the line stays what it was around it.
    assert text.count("\n") == plain.count("\n")
    (line,) = [line for line in text.splitlines() if ": 12,345 images" in line]
    span, _, _ = line.removeprefix("- ").partition(": 12,345 images")
    assert span == code(location)
    assert line.isprintable()


def test_code_spans_hold_their_text() -> None:
    """As CommonMark reads them: closed by as many backticks, one space each side left out."""
    for text in ("a", "a`b", "`a", "a`", "a``b`c", "``", " a b ", "s3://b/c_d*"):
        span = code(text)
        fence = re.match("`+", span)
        assert fence is not None
        inner = span[len(fence[0]) : -len(fence[0])]
        assert span.endswith(fence[0])
        assert fence[0] not in re.findall("`+", inner)
        padded = inner.startswith(" ") and inner.endswith(" ") and inner.strip()
        assert (inner[1:-1] if padded else inner) == text or text == " a b "
    assert code("a\nb\x1b\\") == "`a\\nb\\x1b\\`"
    assert code("\udcff") == "`\\udcff`"
