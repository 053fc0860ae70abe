"""What is known of a training epoch by epoch; the rest of the records is drawn from it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from redaction_core.redaction import Hiding, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HISTORY: Final = "history.json"


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch, measured at its end."""

    epoch: int
    """Counted from 1."""
    step: int
    """Steps taken since the training began."""
    train_loss: float | None
    """Mean over the epoch's samples; None where it is not finite."""
    val: Mapping[str, Any]
    """What `validation.Sums.result` gives."""
    learning_rate: float
    """Of the last step."""
    images_per_s: float
    """Samples trained on, of all workers, while training."""
    seconds: float
    """With validation."""

    @property
    def val_loss(self) -> float | None:
        """Mean loss over the validation images; None where there are none, or not finite."""
        loss: float | None = self.val["loss"]
        return loss


@dataclass(frozen=True, kw_only=True)
class History:
    """The epochs of a training, in order."""

    epochs: tuple[Epoch, ...] = ()

    def followed_by(self, epoch: Epoch) -> History:
        """Give it with one more epoch."""
        return History(epochs=(*self.epochs, epoch))

    @property
    def best(self) -> Epoch | None:
        """The first epoch with the lowest validation loss."""
        losses = [(each.val_loss, each) for each in self.epochs]
        finite = [(loss, each) for loss, each in losses if loss is not None]
        return min(finite, key=lambda pair: pair[0])[1] if finite else None

    @property
    def redactions(self) -> tuple[str, ...]:
        """Text forms of all redactions that were measured."""
        return tuple(dict.fromkeys(text for e in self.epochs for text in e.val["redactions"]))

    def figures(self, redaction: str, name: str) -> list[float | None]:
        """Give one figure of one redaction, epoch by epoch; None where it has none."""
        return [each.val["redactions"].get(redaction, {}).get(name) for each in self.epochs]

    @classmethod
    def of_json(cls, content: Sequence[Mapping[str, Any]]) -> Self:
        """Read what `to_json` gave."""
        return cls(epochs=tuple(Epoch(**each) for each in content))

    def to_json(self) -> list[dict[str, Any]]:
        """Give JSON values, an object an epoch; numbers that are not finite become null."""
        found: list[dict[str, Any]] = _plain([asdict(each) for each in self.epochs])
        return found

    def to_bytes(self) -> bytes:
        """Give the content of `history.json`."""
        return (json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n").encode()


def judged_by(redaction: str) -> Literal["mae", "mse"]:
    """Name the error that a redaction, in its text form, is judged by: of holes the squared one.

    Raises UsageError for a text that is no redaction.
    """
    return "mse" if isinstance(parse(redaction), Hiding) else "mae"


def figures_of_epoch(epoch: Epoch) -> dict[str, float]:
    """Give all figures of an epoch that there are, by names such as `val/pixelate:4/mae`."""
    found = {
        "epoch/train_loss": epoch.train_loss,
        "epoch/learning_rate": epoch.learning_rate,
        "epoch/images_per_s": epoch.images_per_s,
        "val/loss": epoch.val_loss,
    }
    for text, figures in epoch.val["redactions"].items():
        found |= {f"val/{text}/{name}": value for name, value in figures.items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value, and what JSON lacks
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
