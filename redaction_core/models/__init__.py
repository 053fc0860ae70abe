"""The networks by name: two published baselines, and two of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redaction_core.models.baselines import EnhancerBaseline, RedactoBaseline
from redaction_core.models.enhancer import Enhancer
from redaction_core.models.estimate import Estimate
from redaction_core.models.redacto import Redacto

if TYPE_CHECKING:
    from collections.abc import Callable

Network = Enhancer | EnhancerBaseline | Redacto | RedactoBaseline

BUILDERS: dict[str, Callable[..., Network]] = {
    "enhancer": Enhancer,
    "enhancer-baseline": EnhancerBaseline,
    "redacto": Redacto,
    "redacto-baseline": RedactoBaseline,
}
"""Network name to its class; keyword arguments are the `architecture` of a model's config."""

FILLS_HOLES = frozenset({"redacto", "redacto-baseline"})
"""Names of the networks that fill hidden pixels; the others undo pixelation and blur."""

BRANCHES = frozenset({"enhancer"})
"""Names of the networks of which one batch uses a part alone: mosaics one, blur the other."""

__all__ = ["BRANCHES", "BUILDERS", "FILLS_HOLES", "Estimate", "Network"]
