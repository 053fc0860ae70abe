"""The card of a model, written from its training alone: what it is, how good, what not to do."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any, Final

from redaction_core.models import FILLS_HOLES
from redaction_core.training.history import judged_by

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redaction_core.training.history import Epoch, History
    from redaction_core.training.output import Data
    from redaction_core.training.recipe import Recipe

CARD: Final = "README.md"
_LINE: Final = 98
"""Letters of a line of text."""
_FEW: Final = 100
"""Fewer images than this say little."""
_COLUMNS: Final = (
    *(("MAE", "mae"), ("as redacted", "baseline_mae"), ("bicubic", "bicubic_mae")),
    *(("MSE", "mse"), ("as redacted", "baseline_mse")),
    *(("recovered", "recovered"), ("PSNR", "psnr"), ("SSIM", "ssim")),
)
_SETTINGS: Final = (
    *("redactions", "scales", "crop", "batch_size", "epochs", "loss", "optimiser"),
    *("learn", "learning_rate", "warmup", "weight_decay", "clip_norm", "ema_decay", "precision"),
    *("gray_share", "patience", "seed"),
)
_DOES: Final = {
    "enhancer": "Estimates what a mosaic or a blur hid: in gray, and in the luma of colour images.",
    "redacto": "Fills hidden pixels from their surroundings. Known pixels come back bit for bit.",
}
_PUBLISHED: Final = " Built as it was published: it is what `{}` is measured against."
_ESTIMATE: Final = (
    "**A result is a statistical estimate, not evidence of who or what was in the picture.** "
    "Detail that the redaction destroyed is invented from what the network has seen. Do not use it "
    "to identify people."
)
_PURPOSE: Final = """\
Finding out, confirming or suggesting who a person in a redacted picture is.
Evidence, or a decision about a person: pictures that differ may give the same result, and a sharp \
face in it is a likely face, not the one that was there.
Undoing a redaction that was made to protect people, but to test how well it does.
""".splitlines()


def model_card(
    recipe: Recipe,
    data: Sequence[Data],
    history: History,
    *,
    parameters: int,
    versions: Mapping[str, str],
) -> str:
    """Write the card of the weights after the history's best epoch, or else its last: Markdown.

    Args:
        recipe: of the training.
        data: the data sets of `recipe.sources`, in their order.
        history: up to now.
        parameters: weights of the network, counted.
        versions: name of a package to its version.

    Returns:
        Markdown; text from outside, such as locations, can do nothing in it but be read.

    Raises:
        ValueError: the history is empty.

    """
    if not history.epochs:
        raise ValueError("nothing was trained yet")
    kept = history.best or history.epochs[-1]
    sections = (
        _opening(recipe),
        _use(recipe, kept),
        _data(recipe, data),
        _figures(recipe, data, kept),
        _training(recipe, history, kept, parameters, versions),
        _limits(recipe, data, kept),
        "## Not for\n\n" + "\n".join(map(_item, _PURPOSE)),
    )
    return "\n\n".join(sections) + "\n"


def code(text: str) -> str:
    """Give text as a Markdown code span of one line, whatever is in it.

    Letters that cannot be seen come as escapes. Not for cells of tables, where "|" ends a cell.
    """
    seen = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", seen)), default=0))
    # Without the space, a backtick at an end would belong to the fence.
    pad = " " if not seen.strip() or "`" in (seen[0], seen[-1]) else ""
    return f"{fence}{pad}{seen}{pad}{fence}"


def _opening(recipe: Recipe) -> str:
    kind, _, published = recipe.network.partition("-")
    does = _DOES[kind] + (_PUBLISHED.format(kind) if published else "")
    trained = f"Trained for {_listed(recipe.redactions)}."
    return "\n\n".join((f"# {recipe.network}", *map(_paragraph, (does, trained, _ESTIMATE))))


def _use(recipe: Recipe, epoch: Epoch) -> str:
    named = f" --network {recipe.network}" if "-" in recipe.network else ""
    model = f"--model path/to/this/directory{named}"
    masks = " --masks masks" if recipe.network in FILLS_HOLES else ""
    text = next(iter(epoch.val["redactions"]), recipe.redactions[0].partition("=")[0])
    command = "python -m jobs.reconstruct"
    says = _paragraph(
        "The first brings back images that are redacted; the second redacts clean images, brings "
        "them back, and measures the errors: the way to know how good it is on images like yours."
    )
    return (
        "## Use\n\n```bash\n"
        f"{command} --input redacted --output restored {model}{masks}\n"
        f"{command} --input originals --output measured {model} --redact {text}\n"
        f"```\n\n{says}"
    )


def _data(recipe: Recipe, data: Sequence[Data]) -> str:
    lines = ["## Learnt from", ""]
    for source, each in zip(recipe.sources, data, strict=True):
        colour = "gray" if each.channels == 1 else "RGB"
        times = f", each {source.repeats} times an epoch" if source.repeats > 1 else ""
        # Not wrapped: the spaces of a location are its own.
        lines.append(
            f"- {code(each.location)}: {each.train:,} images to learn from{times}, {each.val:,} "
            f"for validation; {each.side}x{each.side}, {colour}. "
            f"Fingerprint {code(each.fingerprint[:16])}."
        )
    if recipe.init is not None:
        lines += ["", f"Training began from the weights of the model {code(recipe.init[:16])}."]
    return "\n".join(lines)


def _figures(recipe: Recipe, data: Sequence[Data], epoch: Epoch) -> str:
    by_redaction = epoch.val["redactions"]
    head = "## How good"
    if not epoch.val["images"]:
        why = "could be measured" if any(each.val for each in data) else "were there"
        return f"{head}\n\nNot measured: no images for validation {why}."
    holes = any(judged_by(text) == "mse" for text in by_redaction)
    columns = [
        (title, name)
        for title, name in _COLUMNS
        if any(row.get(name) is not None for row in by_redaction.values())
        and (holes or not name.endswith("mse"))
    ]
    table = [("redaction", "images", *(title for title, _ in columns))]
    table += [
        (code(text), f"{row['images']:,}", *(_written(name, row.get(name)) for _, name in columns))
        for text, row in by_redaction.items()
    ]
    images = sum(min(each.val, recipe.val_images) for each in data)
    shrunk = f", shrunk as in training ({_listed(recipe.scales)})"
    about = _paragraph(
        f"{images:,} images of the validation split, in crops of up to {recipe.crop} pixels a side"
        f"{'' if recipe.scales == ('1',) else shrunk}; means over the images, errors on a scale of "
        f"0 to 1{', over the hidden pixels alone' if holes else ''}. *As redacted* is the error of "
        f"the redacted image{', for hidden pixels of the mean of their rim' if holes else ''}; "
        "*recovered*, the share of the mean absolute error (MAE) that was undone. Measured as "
        "`jobs.reconstruct` measures."
    )
    return f"{head}\n\n{about}\n\n{_table(table)}"


def _training(
    recipe: Recipe,
    history: History,
    kept: Epoch,
    parameters: int,
    versions: Mapping[str, str],
) -> str:
    last, settings = history.epochs[-1], recipe.as_json()
    why = "" if kept.val_loss is None else f", for its validation loss of {kept.val_loss:.4g}"
    seconds = sum(each.seconds for each in history.epochs)
    epochs = "1 epoch" if last.epoch == 1 else f"{last.epoch} epochs"
    story = _paragraph(
        f"{last.step:,} steps in {epochs}, {_duration(seconds)}. Kept is the running mean of the "
        f"weights after epoch {kept.epoch} (step {kept.step:,}){why}."
    )
    rows = [
        ("setting", "value"),
        ("network", recipe.network),
        ("weights", f"{parameters:,}"),
        *((name, str(value)) for name, value in recipe.architecture.items()),
        *((name.replace("_", " "), _setting(settings[name])) for name in _SETTINGS),
    ]
    made = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return f"## Training\n\n{story}\n\n{_table(rows)}\n\n{_paragraph(f'Made with {made}.')}"


def _limits(recipe: Recipe, data: Sequence[Data], epoch: Epoch) -> str:
    fills, rows = recipe.network in FILLS_HOLES, epoch.val["redactions"]
    few = [text for text, row in rows.items() if 0 < row["images"] < _FEW]
    worse = [text for text, row in rows.items() if _is_worse(text, row)]
    common = (
        "It brings back what was common in the images it learnt from. Where those are unevenly "
        "distributed (over age, gender, origin, pose, light), so are its errors."
    )
    changed = (
        "Inputs that were compressed, resized or changed in another way after the redaction were "
        "not trained."
    )
    limits = (
        (worse, f"**No better than what needs no network**, on the mean: {_listed(worse)}."),
        (few, f"Measured on fewer than {_FEW} images, hence roughly: {_listed(few)}."),
        (
            epoch.val_loss is not None and recipe.epochs > 1,
            "The epoch was chosen by these validation images: on others it is a little less good.",
        ),
        (True, common),
        (fills, "Texture is not continued: inside a large hole it is a smooth guess from the rim."),
        (
            fills and any(each.channels == 1 for each in data),
            "Some of what it learnt from has no colour.",
        ),
        (not fills, changed),
        (
            "-" not in recipe.network,
            "Intervals are calibrated on the validation images: they hold over many like them.",
        ),
    )
    return "## Limits\n\n" + "\n".join(_item(text) for holds, text in limits if holds)


def _is_worse(text: str, row: Mapping[str, Any]) -> bool:
    """Whether the error that counts is not below the best of those without a network."""
    name = judged_by(text)
    levels = (row.get(f"baseline_{name}"), row.get("bicubic_mae"))
    known = [level for level in levels if level is not None]
    return bool(known) and row[name] is not None and row[name] >= min(known)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, _LINE, break_long_words=False, break_on_hyphens=False)


def _item(text: str) -> str:
    return "- " + textwrap.indent(_paragraph(text), "  ").lstrip()


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(map(code, texts))


def _setting(value: object) -> str:
    return _listed([str(each) for each in value]) if isinstance(value, list) else str(value)


def _written(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    match name:
        case "recovered":
            return f"{100 * value:.0f} %"
        case "psnr":
            return f"{value:.1f} dB"
        case "ssim":
            return f"{value:.3f}"
        case _:
            return f"{value:#.3g}"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
