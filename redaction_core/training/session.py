"""One worker's part of a training, from the data and the last checkpoint to the model.

Every worker runs the same; the first one alone writes and tells. Weights, steps and the history
are the same on all workers at any time, so each decides for itself when an epoch or the run ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from redaction_core.checkpoints import load_model
from redaction_core.errors import CheckpointError
from redaction_core.inference import settle_gpus
from redaction_core.models import BRANCHES, BUILDERS, Network
from redaction_core.storage import open_store
from redaction_core.training.batches import BatchLoader
from redaction_core.training.loop import Loop
from redaction_core.training.objectives import losses_of
from redaction_core.training.optimisation import Optimisation, Trainer, is_of_scale
from redaction_core.training.outbox import PATIENCE_S, patiently
from redaction_core.training.output import SUCCESS, Data
from redaction_core.training.publishing import Publisher
from redaction_core.training.state import Checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redaction_core.redaction import Redaction
    from redaction_core.training.batches import Batch
    from redaction_core.training.group import Group
    from redaction_core.training.recipe import Recipe
    from redaction_core.training.samples import Samples


@dataclass(frozen=True, kw_only=True)
class Session:
    """What every worker is told."""

    recipe: Recipe
    samples: tuple[Samples, ...]
    """Of the recipe's sources: read once, not by every worker."""
    run: str
    """Hash of all that the weights depend on, `output.digest`."""
    output: str
    init: str | None = None
    """Location of the model that training starts from; its hash is in the recipe."""
    checkpoint_every_s: float = 60.0
    cache_dir: str | None = None
    cache_bytes: int | None = None
    patience_s: float = PATIENCE_S
    """Storage may be away for so long."""


class _Objective(nn.Module):
    """Losses as a module, so that what averages gradients sees all of the network's work."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self._loss, self._learn = recipe.loss, recipe.learn

    def forward(self, images_u8: Tensor, how: Redaction, hidden: Tensor | None) -> Tensor:
        """Give a loss a sample, (n,)."""
        return losses_of(self.network, images_u8, how, hidden, loss=self._loss, learn=self._learn)


def run_session(
    session: Session,
    group: Group,
    *,
    tell: Callable[[Mapping[str, Any]], None],
    seen: Callable[[Batch], None] = lambda _: None,
) -> None:
    """Train from the last checkpoint to the end; returns at once when that is done already.

    `tell` gets news, JSON values, as it comes, from any thread: `say` (a line for people), `saved`
    (steps in the last checkpoint), `validated` (an epoch), `finished`, or else the progress.
    `seen` is called with each batch of this worker that has moved the weights.

    Raises:
        UsageError: the mixtures are not understood, or the cache is too small.
        StorageError: storage is away for too long, or the data changed.
        CheckpointError: the model to start from is missing, damaged or another one, and there is
            no checkpoint to go on from.
        InputError: out_of_memory, when one image does not fit while it is validated on.
        RedactionCoreError: the training diverged.
    """
    store = open_store(session.output)

    def say(line: str) -> None:
        tell({"say": line})

    def is_finished() -> bytes:
        return b"1" if group.leads and store.exists(SUCCESS) else b""

    if group.share(patiently(is_finished, say, patience_s=session.patience_s)):
        if group.leads:
            tell({"finished": True})
        return
    network, gone = _build(session, group.device, say)
    trainer = Trainer(network, Optimisation.of(session.recipe))
    with BatchLoader(
        session.recipe,
        session.samples,
        rank=group.rank,
        world=group.world,
        folder=Path(session.cache_dir) if session.cache_dir else None,
        cache_bytes=session.cache_bytes,
        patience_s=session.patience_s,
        say=say if group.leads else lambda _: None,
    ) as loader:
        loop = Loop(
            session.recipe,
            group,
            trainer,
            loader,
            store=store,
            checkpoints=Checkpoints(store, session.run, say),
            publisher=Publisher(
                store,
                session.recipe,
                [Data.of(each) for each in session.samples],
                parameters=sum(weight.numel() for weight in trainer.network.parameters()),
            ),
            checkpoint_every_s=session.checkpoint_every_s,
            patience_s=session.patience_s,
            tell=tell,
        )
        try:
            loop.resume(else_raise=gone)
            objective = _Objective(trainer.network, session.recipe)
            branches = session.recipe.network in BRANCHES
            loop.train(group.averaged(objective, branches=branches), seen)
            loop.finish()
        except BaseException:
            loop.abandon()
            raise


def _build(
    session: Session, device: torch.device, say: Callable[[str], None]
) -> tuple[Network, CheckpointError | None]:
    """Give the network as training starts, and why it does not start from the model it should."""
    recipe, gone = session.recipe, None
    settle_gpus()
    torch.manual_seed(recipe.seed)
    network = BUILDERS[recipe.network](**recipe.architecture)
    if session.init is not None:
        try:
            network.load_state_dict(_first_weights(session, session.init, say))
        except CheckpointError as error:
            gone = error
    if recipe.learn == "scale":
        for name, weight in network.named_parameters():
            weight.requires_grad_(is_of_scale(name))
    network.train().to(device)
    # Convolutions run faster where the channels of a pixel lie side by side.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
    return network, gone


def _first_weights(session: Session, init: str, say: Callable[[str], None]) -> Mapping[str, Tensor]:
    network = session.recipe.network
    model = patiently(
        lambda: load_model(init, expected=network), say, patience_s=session.patience_s
    )
    if model.sha256 != session.recipe.init:
        raise CheckpointError(f"the model in {init} was changed: name another --init")
    return model.network.state_dict()
