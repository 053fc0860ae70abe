"""The loop of one worker: steps, reports, validation after each epoch, checkpoints by time."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch

from redaction_core.errors import CheckpointError, RedactionCoreError
from redaction_core.mixture import RedactionMixture
from redaction_core.stages import stage
from redaction_core.training.history import HISTORY, Epoch, History
from redaction_core.training.optimisation import tally
from redaction_core.training.outbox import Outbox, patiently
from redaction_core.training.output import SUCCESS
from redaction_core.training.records import Records
from redaction_core.training.state import Checkpoint
from redaction_core.training.validation import validate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from redaction_core.storage import Store
    from redaction_core.training.batches import Batch, BatchLoader
    from redaction_core.training.group import Group
    from redaction_core.training.optimisation import Tally, Trainer
    from redaction_core.training.publishing import Publisher
    from redaction_core.training.recipe import Recipe
    from redaction_core.training.state import Checkpoints
    from redaction_core.training.validation import Sums

_Result = TypeVar("_Result")

_LEAST_S: Final = 1.0
_MOST_S: Final = 4.0
"""Reports come so far apart: each waits for the device and for all workers."""
_HOPELESS_STEPS: Final = 100
_GRAY: Final = 128


@dataclass(kw_only=True)
class _SoFar:
    """The epoch under way: sums over all workers."""

    loss: float = 0.0
    samples: float = 0.0
    seconds: float = 0.0
    """Of training, as the first worker measures it."""


class Loop:
    """Trains, and keeps in mind what happened; all workers of a group call the same."""

    def __init__(  # noqa: PLR0913 - all that a run is made of
        self,
        recipe: Recipe,
        group: Group,
        trainer: Trainer,
        loader: BatchLoader,
        *,
        store: Store,
        checkpoints: Checkpoints,
        publisher: Publisher,
        checkpoint_every_s: float,
        patience_s: float,
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Take the parts of a run; see `session.run_session`."""
        self._recipe = recipe
        self._group = group
        self._trainer = trainer
        self._loader = loader
        self._store = store
        self._checkpoints = checkpoints
        self._publisher = publisher
        self._checkpoint_every_s = checkpoint_every_s
        self._patience_s = patience_s
        self._tell = tell
        self._history = History()
        self._so_far = _SoFar()
        self._every = 1
        """Steps from one report to the next: alike on all workers."""
        self._reported_step = 0
        self._reported_s = self._saved_s = time.monotonic()
        self._hopeless = 0
        self._rate = 0.0
        self._outbox: Outbox | None = None
        """Of the first worker alone, as the records."""
        self._records: Records | None = None
        self._published = 0
        """Epoch of the model that this worker has written."""

    def resume(self, *, else_raise: CheckpointError | None) -> None:
        """Go on from the newest checkpoint; where there is none, begin, or raise the error."""
        found = self._newest()
        if found is None and else_raise is not None:
            raise else_raise
        if found is not None:
            try:
                self._trainer.load(found.tensors(), found.step)
                self._history = History.of_json(found.record["history"])
                self._so_far = _SoFar(**found.record["epoch"])
            except (LookupError, TypeError, ValueError, RuntimeError) as error:
                raise CheckpointError(
                    f"the checkpoint of step {found.step} in {self._store.location} is of another "
                    "version of this software: start anew with --overwrite"
                ) from error
        self._reported_step = self._trainer.steps
        if not self._group.leads:
            return
        if found is not None:
            self._say(f"going on after step {found.step} of {self._loader.steps}")
        self._outbox = Outbox(self._say)
        self._records = Records(
            self._store,
            self._recipe,
            first_step=self._trainer.steps + 1,
            send=self._send,
            say=self._say,
        )
        self._tell({"saved": self._trainer.steps})

    def _newest(self) -> Checkpoint | None:
        """Read the newest checkpoint; the first worker's, as another is written at any time."""
        found: Checkpoint | None = None
        if self._group.leads:
            found = self._patiently(self._checkpoints.newest)
            if found is None and self._patiently(lambda: self._store.exists(HISTORY)):
                self._say("no whole checkpoint is left: starting from the beginning")
        told = {"step": found.step, "record": found.record} if found else None
        told = json.loads(self._group.share(json.dumps(told).encode()))
        weights = self._group.share(found.weights if found else b"")
        return Checkpoint(weights=weights, **told) if told else None

    def train(self, objective: nn.Module, seen: Callable[[Batch], None]) -> None:
        """Take steps, and validate after each epoch, to the end or until patience runs out."""
        trainer = self._trainer
        batches = self._loader.batches(trainer.steps)
        self._reported_s = self._saved_s = time.monotonic()
        while not self._is_over:
            ends = self._loader.steps_per_epoch * (len(self._history.epochs) + 1)
            while trainer.steps < ends:
                with stage("data"):
                    batch = next(batches)
                with stage("step"):
                    self._step(objective, batch)
                seen(batch)
                at_end = trainer.steps == ends
                if at_end or trainer.steps - self._reported_step >= self._every:
                    self._report(at_end=at_end)
            self._end_epoch()

    @property
    def _is_over(self) -> bool:
        epochs, best = self._history.epochs, self._history.best
        if len(epochs) >= self._recipe.epochs:
            return True
        patience = self._recipe.patience
        return bool(patience and best and len(epochs) - best.epoch >= patience)

    def _step(self, objective: nn.Module, batch: Batch) -> None:
        images, hidden = batch.images_u8, batch.hidden
        counted = len(images) > 0
        if not counted:
            # The others wait for this worker; an image that does not count takes it along.
            images = images.new_full((1, *images.shape[1:]), _GRAY)
            hidden = None if hidden is None else hidden.new_ones((1, *hidden.shape[1:]))
        device = self._group.device
        images = images.to(device, non_blocking=True)
        hidden = None if hidden is None else hidden.to(device, non_blocking=True)
        self._trainer.step(
            lambda: objective(images, batch.how, hidden),
            (self._trainer.steps + 1) / self._loader.steps,
            total=batch.total,
            world=self._group.world,
            counted=counted,
        )

    def _report(self, *, at_end: bool) -> None:
        """Add up over workers what was learned since the last report, and tell it."""
        # Else the device's share of the time would fall between two reports.
        with stage("step"):
            self._group.wait()
        elapsed_s = time.monotonic() - self._reported_s
        sums = self._trainer.take_sums()
        # The first worker's clock counts, and no other's.
        clock = sums.new_tensor([elapsed_s if self._group.leads else 0.0])
        sums = self._group.sum(torch.cat((sums, clock)))
        found, elapsed_s = tally(sums[:3], self._group.world), float(sums[3])
        steps = self._trainer.steps - self._reported_step
        self._reported_s, self._reported_step = time.monotonic(), self._trainer.steps
        if elapsed_s < _LEAST_S and not at_end:
            self._every *= 2
        elif elapsed_s > _MOST_S:
            self._every = max(1, self._every // 2)
        self._so_far.loss += found.loss
        self._so_far.samples += found.samples
        self._so_far.seconds += elapsed_s
        self._hopeless = self._hopeless + steps if found.skipped >= steps else 0
        if self._hopeless >= _HOPELESS_STEPS:
            raise RedactionCoreError(
                f"the training diverged: of the last {self._hopeless} steps none had a finite "
                "loss; start anew with a lower --learning-rate"
            )
        if self._group.leads:
            self._tell_progress(found, steps, elapsed_s)
            if not at_end and time.monotonic() - self._saved_s >= self._checkpoint_every_s:
                self._save()

    def _tell_progress(self, found: Tally, steps: int, elapsed_s: float) -> None:
        if found.skipped:
            self._say(f"{found.skipped:.0f} of {steps} steps were left out, as not finite")
        step, of_all = self._trainer.steps, self._loader.steps
        rate = found.samples / max(elapsed_s, 1e-6)
        # Smooth, but for the first ones, which wait for everything to warm up.
        self._rate = 0.7 * self._rate + 0.3 * rate if elapsed_s >= _LEAST_S and self._rate else rate
        loss = found.loss / found.samples if found.samples else None
        a_step_s = elapsed_s / steps * rate / max(self._rate, 1e-6)
        self._tell(
            {
                "epoch": len(self._history.epochs) + 1,
                "epochs": self._recipe.epochs,
                "step": step,
                "steps": of_all,
                "loss": loss,
                "images_per_s": self._rate,
                "seconds_left": (of_all - step) * a_step_s,
                "workers": self._group.world,
            }
        )
        if self._records is not None and loss is not None:
            learning_rate = self._trainer.optimisation.rate(step / of_all)
            self._records.step(step, loss=loss, learning_rate=learning_rate, images_per_s=rate)

    def _end_epoch(self) -> None:
        recipe, started = self._recipe, time.monotonic()
        sums = validate(
            self._trainer.average,
            self._loader.validation(),
            redactions=[str(how) for how in RedactionMixture.parse(recipe.redactions).fixed],
            loss=recipe.loss,
            learn=recipe.learn,
            device=self._group.device,
            precision=recipe.precision,
        )
        sums.values = self._group.sum(sums.values)
        sums.ratios = self._group.sum(sums.ratios)
        so_far, self._so_far = self._so_far, _SoFar()
        step = self._trainer.steps
        epoch = Epoch(
            epoch=len(self._history.epochs) + 1,
            step=step,
            train_loss=_finite(so_far.loss / max(so_far.samples, 1)),
            val=sums.result(),
            learning_rate=self._trainer.optimisation.rate(step / self._loader.steps),
            images_per_s=so_far.samples / max(so_far.seconds, 1e-6),
            seconds=so_far.seconds + time.monotonic() - started,
        )
        if not so_far.samples:
            raise RedactionCoreError(
                f"the training diverged: no step of epoch {epoch.epoch} had a finite loss; "
                "start anew with a lower --learning-rate"
            )
        self._history = self._history.followed_by(epoch)
        # Without images to validate on, the last is the best that is known.
        is_best = (self._history.best or epoch) is epoch
        if is_best:
            self._trainer.keep_as_best()
        if self._group.leads:
            self._write_epoch(sums, is_best=is_best)
        self._reported_s = time.monotonic()

    def _write_epoch(self, sums: Sums, *, is_best: bool) -> None:
        assert self._records is not None  # noqa: S101 - the first worker has them
        self._records.epoch(self._history, sums.restored)
        self._tell({"validated": self._history.to_json()[-1], "best": is_best})
        self._save()

    def _save(self) -> None:
        step, tensors = self._trainer.steps, self._trainer.tensors()
        record = {"history": self._history.to_json(), "epoch": asdict(self._so_far)}

        def write() -> None:
            self._checkpoints.write(Checkpoint.of(step, tensors, record))
            self._tell({"saved": step})

        self._send("the checkpoint", write)
        # After the checkpoint, which holds the best weights: a run that goes on has them, too.
        self._publish()
        self._saved_s = time.monotonic()

    def _publish(self) -> None:
        """Have the best model written, unless this worker has done it."""
        history, best = self._history, self._trainer.best
        if best is None:
            return
        epoch = (history.best or history.epochs[-1]).epoch
        if epoch == self._published:
            return
        self._published = epoch
        network: Any = best
        self._send("the model", lambda: self._publisher.model(network, history))

    def _send(self, name: str, write: Callable[[], None]) -> None:
        """Have something written in the background, unless the output is finished already."""
        assert self._outbox is not None  # noqa: S101 - the first worker alone writes

        def checked() -> None:
            # A run that was taken for dead, or a second one, must not put back what was.
            if self._store.exists(SUCCESS):
                raise RedactionCoreError(
                    f"another run has finished the training in {self._store.location} meanwhile"
                )
            write()

        self._outbox.send(name, checked)

    def finish(self) -> None:
        """Write what is still to be written; `_SUCCESS` goes last. Raises StorageError."""
        if self._outbox is None or self._records is None:
            return
        # Again, as a run that was killed may have stored the last checkpoint alone.
        self._records.history(self._history)
        self._records.close(finished=True)
        self._records = None
        self._publish()
        self._send("the card", lambda: self._publisher.card(self._history))
        self._outbox.close(self._patience_s)
        # Writers that were killed left half of a file.
        self._patiently(self._store.sweep)
        self._patiently(lambda: self._store.put(SUCCESS, b""))
        self._tell({"finished": True})

    def abandon(self) -> None:
        """Leave everything as it is, for another run to go on with."""
        if self._outbox is not None:
            self._outbox.abandon()
        if self._records is not None:
            self._records.close(finished=False)

    def _patiently(self, call: Callable[[], _Result]) -> _Result:
        return patiently(call, self._say, patience_s=self._patience_s)

    def _say(self, line: str) -> None:
        self._tell({"say": line})


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
