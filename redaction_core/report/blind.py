"""A page that asks people which of two pictures is the original, and keeps score in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redaction_core.report.page import asset, embedded, render_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redaction_core.report.pictures import Picture


def blind_page(pairs: Sequence[tuple[str, tuple[Picture, Picture]]], note: str) -> bytes:
    """Write the page: HTML. `pairs`: name of an image, its original and its result."""
    trials = [
        {"name": name, "original": original.url, "restored": restored.url}
        for name, (original, restored) in pairs
    ]
    return render_template(
        "blind.html.j2",
        title="Can you tell?",
        subtitle=f"{len(trials)} images, chosen at random",
        note=note,
        tiles=[],
        trials=embedded({"trials": trials}),
        js=asset("blind.js"),
    )
