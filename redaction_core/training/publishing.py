"""What a training gives away: the model directory, with its config and its card."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from redaction_core.checkpoints import save_model
from redaction_core.training.card import CARD, model_card
from redaction_core.training.output import MODEL, versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redaction_core.models import Network
    from redaction_core.storage import Store
    from redaction_core.training.history import Epoch, History
    from redaction_core.training.output import Data
    from redaction_core.training.recipe import Recipe


class Publisher:
    """Writes the model directory of a run below its output."""

    def __init__(
        self, output: Store, recipe: Recipe, data: Sequence[Data], *, parameters: int
    ) -> None:
        """Take what the model is made from; `parameters`: weights of the network.

        Models are given away, so of a data set's location they tell the last name alone.
        """
        self._output = output
        self._recipe = replace(
            recipe,
            sources=tuple(
                replace(source, location=_last_name(source.location)) for source in recipe.sources
            ),
        )
        self._data = [replace(each, location=_last_name(each.location)) for each in data]
        self._parameters = parameters

    def model(self, network: Network, history: History) -> None:
        """Write the network that the history's best epoch gave, or else its last.

        Raises:
            StorageError: storage fails.
            CheckpointError: its weights are not finite.
        """
        location = f"{self._output.location}/{MODEL.rstrip('/')}"
        save_model(location, network, self._config(history.best or history.epochs[-1]))
        self.card(history)

    def card(self, history: History) -> None:
        """Write the card alone. Raises StorageError."""
        card = model_card(
            self._recipe,
            self._data,
            history,
            parameters=self._parameters,
            versions=versions(),
        )
        self._output.put(MODEL + CARD, card.encode())

    def _config(self, epoch: Epoch) -> dict[str, Any]:
        validation = dict(epoch.val)
        calibration = validation.pop("calibration", None)
        return {
            "network": self._recipe.network,
            "architecture": dict(self._recipe.architecture),
            "training": self._recipe.as_json(),
            "data": [asdict(each) for each in self._data],
            "epoch": epoch.epoch,
            "steps": epoch.step,
            "validation": validation,
            "calibration": calibration,
            "versions": versions(),
        }


def _last_name(location: str) -> str:
    return location.rpartition("/")[2]
