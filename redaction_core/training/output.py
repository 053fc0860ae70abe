"""The output of a training: whose it is, what it holds, and how it is removed."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Self

from redaction_core.errors import ObjectMissingError, StorageError, UsageError
from redaction_core.training.history import HISTORY
from redaction_core.training.state import CHECKPOINT, CHECKPOINTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redaction_core.storage import Store
    from redaction_core.training.recipe import Recipe
    from redaction_core.training.samples import Samples

RUN: Final = "run.json"
CURVES: Final = "curves.png"
SAMPLES: Final = "samples/"
EVENTS: Final = "tensorboard/"
MODEL: Final = "model/"
SUCCESS: Final = "_SUCCESS"
_PACKAGES: Final = ("ray", "torch", "numpy", "pillow", "pyarrow", "safetensors")
_FIRST: Final = (SUCCESS, HISTORY, CURVES)
_FOLDERS: Final = (
    (SAMPLES, r"epoch-\d{4,}\.png"),
    (EVENTS, r"events\.out\.tfevents\..+"),
    (MODEL, r"model\.safetensors|config\.json|README\.md"),
    (CHECKPOINTS, CHECKPOINT),
)
_TOLD: Final = 3  # differences
_OTHERS: Final = ("plan.json", "dataset.json", SUCCESS)


@dataclass(frozen=True, kw_only=True)
class Data:
    """One data set that a training learns from."""

    location: str
    """Without credentials."""
    fingerprint: str
    train: int
    """Images to train on."""
    val: int
    """Images set aside for validation."""
    side: int
    """Pixels a side of every image."""
    channels: int
    transform: Mapping[str, Any] = field(default_factory=dict)
    """What made images of sources."""

    @classmethod
    def of(cls, samples: Samples) -> Self:
        """Describe samples that were read."""
        return cls(
            location=samples.store.location,
            fingerprint=samples.fingerprint,
            train=len(samples.train),
            val=len(samples.val),
            side=samples.side,
            channels=samples.channels,
            transform=samples.transform,
        )


def digest(recipe: Recipe, data: Sequence[Data]) -> str:
    """Hash all that the weights depend on."""
    found = [recipe.digest(), [each.fingerprint for each in data]]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Give the versions of the packages that results may depend on."""
    return {name: version(name) for name in _PACKAGES}


def describe(recipe: Recipe, data: Sequence[Data]) -> dict[str, Any]:
    """Give the content of run.json."""
    return {
        "verb": "train",
        "run": digest(recipe, data),
        "recipe": recipe.as_json(),
        "data": [asdict(each) for each in data],
        "versions": versions(),
    }


def read_run(store: Store) -> Mapping[str, Any] | None:
    """Read what an earlier training said of itself; None where there is none.

    Raises UsageError for an output that something else wrote.
    """
    damaged = f"{RUN} in {store.location} is damaged: choose another output"
    try:
        found: Mapping[str, Any] = json.loads(store.read(RUN).data)
        ours = found.get("verb") == "train"
        parts = [type(found.get(name)) for name in ("run", "recipe", "data")]
    except ObjectMissingError:
        if (taken := _in_the_way(store)) is None:
            return None
        raise UsageError(
            f"{store.location} holds {taken}, and no training: choose another output"
        ) from None
    except (ValueError, AttributeError) as error:
        raise UsageError(damaged) from error
    if not ours:
        raise UsageError(f"{store.location} holds the run of another job: choose another output")
    if parts != [str, dict, list]:
        raise UsageError(damaged)
    return found


def _in_the_way(store: Store) -> str | None:
    """Give a key that a training would write over, or that says whose the output is."""
    for key in (*_OTHERS, *_FIRST):
        if store.exists(key):
            return key
    for folder, names in _FOLDERS:
        for entry in store.list(folder, missing_ok=True):
            if re.fullmatch(names, entry.key.removeprefix(folder)):
                return entry.key
    return None


def begin(store: Store, run: Mapping[str, Any]) -> None:
    """Write run.json; raises StorageError when another training did meanwhile."""
    data = (json.dumps(run, indent=2) + "\n").encode()
    if not store.put_if_absent(RUN, data) and store.read(RUN).data != data:
        raise StorageError(f"another training has begun in {store.location}: choose another output")


def refuse_other(store: Store, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise UsageError, with the first differences, unless both are the same run."""
    if old["run"] == new["run"]:
        return
    if old["recipe"].get("version") != new["recipe"]["version"]:
        raise UsageError(
            f"the training in {store.location} was begun by another version of this software: "
            "start anew with --overwrite, or in another output"
        )
    differences = _differences(old["recipe"], new["recipe"]) or [
        f"the data set {one['location']} has changed"
        for one, two in zip(old["data"], new["data"], strict=False)
        if one["fingerprint"] != two["fingerprint"]
    ]
    told = "; ".join(differences[:_TOLD])
    raise UsageError(
        f"--resume goes on with the same training alone, and the one in {store.location} differs: "
        f"{told}"
    )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    names = {"sources": "data", "redactions": "redact", "scales": "scale"}
    return [
        f"--{names.get(name, name).replace('_', '-')} was {_short(old.get(name))}, "
        f"and is {_short(new.get(name))}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _short(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, list):
        return " ".join(
            f"{each['location']} (x{each['repeats']})" if isinstance(each, dict) else str(each)
            for each in value
        )
    if isinstance(value, dict):
        return " ".join(f"{name} {each}" for name, each in value.items()) or "the default"
    return "not given" if value is None else str(value)


def remove_training(store: Store) -> None:
    """Remove what a training wrote, and nothing else.

    run.json goes last: a removal that was killed can be repeated.
    """
    store.delete(_FIRST)
    for folder, names in _FOLDERS:
        pattern = re.compile(names)
        found = list(store.list(folder, missing_ok=True))
        store.delete(
            entry.key for entry in found if pattern.fullmatch(entry.key.removeprefix(folder))
        )
    store.sweep()
    store.delete([RUN])
