"""What a training leaves for people, epoch by epoch: figures, curves, pictures, event files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redaction_core.training.curves import curves_png
from redaction_core.training.history import HISTORY
from redaction_core.training.output import CURVES, EVENTS, SAMPLES
from redaction_core.training.sheets import samples_png
from redaction_core.training.tensorboard import EventFiles
from redaction_core.training.tracking import Tracking

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redaction_core.storage import Store
    from redaction_core.training.history import History
    from redaction_core.training.recipe import Recipe
    from redaction_core.training.sheets import Restored


class Records:
    """Writes the records of a run below its output; for one worker of it.

    Pictures are drawn, and everything is put, where `send` calls what it is given. Event files and
    MLflow are a convenience: where they fail that is told once, and the training goes on.
    """

    def __init__(
        self,
        output: Store,
        recipe: Recipe,
        *,
        first_step: int,
        send: Callable[[str, Callable[[], None]], None],
        say: Callable[[str], None],
    ) -> None:
        """Get ready.

        `first_step` is the next one, counted from 1. `send` takes a name and a write, which may
        raise StorageError, be called again, and be replaced by a later one of its name. `say`
        takes one line for people.
        """
        self._output = output
        self._heading = recipe.network
        self._send = send
        self._say = say
        self._events: EventFiles | None = None
        try:
            self._events = EventFiles(first_step=first_step)
        except OSError as error:
            self._no_events(error)
        self._tracking = Tracking(output.location, recipe.as_json(), say)

    def step(self, step: int, *, loss: float, learning_rate: float, images_per_s: float) -> None:
        """Tell the figures of a step, counted from 1; as often as is worth seeing."""
        if self._events is not None:
            try:
                self._events.step(
                    step, loss=loss, learning_rate=learning_rate, images_per_s=images_per_s
                )
            except OSError as error:
                self._no_events(error)

    def epoch(self, history: History, restored: Sequence[Restored]) -> None:
        """Write all there is to see after the last epoch of the history."""
        last = history.epochs[-1]
        self.history(history)
        if restored:
            heading = f"{self._heading}: validation images after epoch {last.epoch}"
            self._draw(
                f"{SAMPLES}epoch-{last.epoch:04}.png", lambda: samples_png(heading, restored)
            )
        if self._events is not None:
            try:
                self._events.epoch(last)
                for name, data in self._events.contents().items():
                    self._put(EVENTS + name, lambda data=data: data)  # type: ignore[misc]  # mypy knows no defaults of lambdas
            except OSError as error:
                self._no_events(error)
        self._tracking.epoch(last)

    def history(self, history: History) -> None:
        """Write the figures and curves of all epochs."""
        self._put(HISTORY, history.to_bytes)
        self._draw(CURVES, lambda: curves_png(history, self._heading))

    def close(self, *, finished: bool) -> None:
        """End the event file, and MLflow's run as finished or failed."""
        if self._events is not None:
            try:
                self._events.close()
            except OSError as error:
                self._no_events(error)
        self._tracking.close(finished=finished)

    def _put(self, key: str, content: Callable[[], bytes]) -> None:
        self._send(key, lambda: self._output.put(key, content()))

    def _draw(self, key: str, picture: Callable[[], bytes]) -> None:
        """Put a picture that no training is to fail for."""

        def write() -> None:
            try:
                data = picture()
            except (ArithmeticError, LookupError, OSError, RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                self._say(f"{key} cannot be drawn, training goes on: {reason}")
            else:
                self._output.put(key, data)

        self._send(key, write)

    def _no_events(self, error: OSError) -> None:
        self._events = None
        reason = error.strerror or type(error).__name__
        self._say(f"no more event files for TensorBoard: {reason}; training goes on")
