"""A recipe beside its data: whether they fit each other, and how many steps there will be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jobs._command import print_result, say
from redaction_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redaction_core.storage import Store
    from redaction_core.training.output import Data
    from redaction_core.training.recipe import Recipe


def check_fit(recipe: Recipe, data: Sequence[Data]) -> None:
    """Raise UsageError where recipe and data do not fit each other."""
    from redaction_core.mixture import RedactionMixture
    from redaction_core.redaction import Box

    side = min(recipe.crop, *(each.side for each in data))
    for how in RedactionMixture.parse(recipe.redactions).extremes:
        if isinstance(how, Box) and how.size(side, side) == (side, side):
            raise UsageError(
                f"--redact {how} hides all that is seen of an image, {side}x{side} pixels: "
                "ask for a smaller hole, or a larger --crop"
            )
    if recipe.patience and not any(each.val for each in data):
        raise UsageError(
            "--patience needs images to validate on, and no data set has the split val"
        )


def tell_plan(  # noqa: PLR0913 - the last by name
    recipe: Recipe,
    data: Sequence[Data],
    store: Store,
    earlier: Mapping[str, Any] | None,
    cost: Callable[[int], Mapping[str, Any]],
    *,
    overwrite: bool,
    resume: bool,
) -> None:
    """Print what a training would do, and what its samples cost; nothing is written."""
    from redaction_core.training.output import SUCCESS

    samples = [each.train * s.repeats for each, s in zip(data, recipe.sources, strict=True)]
    steps = sum(math.ceil(count / recipe.batch_size) for count in samples)
    plan: dict[str, Any] = {
        "verb": "train",
        "dry_run": True,
        "network": recipe.network,
        "train_images": sum(each.train for each in data),
        "val_images": sum(min(each.val, recipe.val_images) for each in data),
        "samples_per_epoch": sum(samples),
        "steps_per_epoch": steps,
        "steps": steps * recipe.epochs,
        "redactions": " ".join(recipe.redactions),
        "precision": recipe.precision,
        "replaces_run": earlier is not None and overwrite,
        "goes_on": earlier is not None and resume,
        "finished": earlier is not None and store.exists(SUCCESS),
        **cost(sum(samples) * recipe.epochs),
    }
    for name, value in plan.items():
        say(f"{name:>18}  {value}")
    if earlier is not None and not (resume or overwrite):
        say("a run would be refused, as the output holds a training: see --resume, --overwrite")
    print_result(plan)
