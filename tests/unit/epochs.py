"""Epochs with made-up figures, and a listener for what is said, that several unit tests share."""

from typing import Any

from redaction_core.training.history import Epoch
from redaction_core.training.validation import MEASURES

FOUR = "pixelate:4"


def figures(mae: float = 0.02, **changes: float | None) -> dict[str, Any]:
    given: dict[str, Any] = dict.fromkeys(MEASURES) | {
        "images": 8,
        "loss": mae,
        "mae": mae,
        "mse": mae**2,
        "baseline_mae": 0.05,
        "baseline_mse": 0.0025,
        "psnr": 30.0,
    }
    return given | changes


def epoch(number: int, *, val_loss: float | None = 0.02, **changes: Any) -> Epoch:  # noqa: ANN401 - of an epoch
    redactions = changes.pop("redactions", {FOUR: figures(bicubic_mae=0.03)})
    given: dict[str, Any] = {
        "epoch": number,
        "step": 10 * number,
        "train_loss": 0.03,
        "val": {"loss": val_loss, "images": 8, "redactions": redactions},
        "learning_rate": 1e-3,
        "images_per_s": 100.0,
        "seconds": 5.0,
    }
    return Epoch(**(given | changes))


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        assert "\n" not in line
        self.lines.append(line)
