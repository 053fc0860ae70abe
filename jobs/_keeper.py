"""What is known of a training outside its workers: progress, and why it must end."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jobs._command import duration
from redaction_core.errors import RedactionCoreError, UsageError, error_named

STARTED_ANEW: Final = "workers were started anew"
STARTS: Final = 5
"""After so many starts in a row without a new checkpoint, a run is given up."""
_STARTS_WITH_LOSSES: Final = 50
"""The same, where machines were lost: by chance, or because workers take them down."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Why a run must end."""

    kind: str
    """Name of the error's class."""
    text: str
    trace: str | None = None
    """Of a bug."""

    @classmethod
    def of(cls, error: Exception) -> Verdict:
        """Judge what a worker failed of."""
        from redaction_core.inference import is_out_of_memory

        if isinstance(error, RedactionCoreError):
            return cls(kind=type(error).__name__, text=str(error))
        if is_out_of_memory(error):
            text = (
                "a worker ran out of memory: go on with more workers, or start anew with a lower "
                "--batch-size or --crop"
            )
            return cls(kind=UsageError.__name__, text=text)
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return cls(kind="bug", text=text, trace=traceback.format_exc())

    def error(self) -> Exception:
        """Give what the driver is to raise."""
        if self.trace is not None:
            return RuntimeError(f"a worker failed:\n{self.trace}")
        return error_named(self.kind, self.text)


@dataclass(kw_only=True)
class News:
    """What the driver has not heard yet."""

    events: list[Mapping[str, Any]] = field(default_factory=list)
    """In the order in which they came."""
    progress: Mapping[str, Any] | None = None
    verdict: Verdict | None = None
    finished: bool = False
    up: bool = False
    """Workers have started, and have not failed since."""


class Keeper:
    """Keeps progress for the driver, and the verdict for workers that Ray would start again.

    Where its process dies it is started anew without memory: workers tell their progress again,
    and fail again.
    """

    def __init__(self) -> None:
        self._news = News()
        self._starts = 0
        self._all_starts = 0
        self._lost = 0
        self._began = False
        self._saved = -1
        self._reason = "its process died"

    def start(self, rank: int, *, lost: int = 0) -> bool:
        """Count a start of all workers; False when there is nothing to start for.

        `lost` says how many machines of the cluster have ended so far: with one more of them than
        at the last start, it is hardly the workers' fault that there is another.
        """
        if rank == 0:
            self._starts += lost <= self._lost or not self._starts
            self._all_starts += 1
            self._lost = lost
            given_up = self._starts > STARTS or self._all_starts > _STARTS_WITH_LOSSES
            if given_up and self._news.verdict is None:
                times = self._all_starts - 1
                text = (
                    f"given up: workers ended {times} times in a row before a new checkpoint; the "
                    f"last time: {self._reason}"
                )
                self._news.verdict = Verdict(kind=RedactionCoreError.__name__, text=text)
            elif self._began:
                self._news.events.append({"say": STARTED_ANEW})
            self._began = True
            self._reason = "its process died"
        self._news.up = True
        return self._news.verdict is None

    def tell(self, news: Mapping[str, Any]) -> None:
        """Take the news of `run_session`."""
        self._news.up = True
        match news:
            case {"validated": _}:
                self._news.events.append(news)
                self._news.progress = None  # it is of before
            case {"say": _}:
                self._news.events.append(news)
            case {"saved": step}:
                if step > self._saved:
                    self._saved, self._starts = step, min(self._starts, 1)
                    self._all_starts = min(self._all_starts, 1)
            case {"finished": _}:
                self._news.finished = True
            case _:
                self._news.progress = news

    def fail(self, verdict: Verdict, *, final: bool) -> None:
        """Keep why a worker failed; with `final`, the run ends."""
        self._reason = verdict.text
        self._news.up = False
        if final:
            self._news.verdict = self._news.verdict or verdict

    def hear(self) -> News:
        """Give the driver what is new."""
        told = self._news
        self._news = News(verdict=told.verdict, finished=told.finished, up=told.up)
        return told


def describe_progress(news: Mapping[str, Any]) -> str:
    """Give the line for the latest progress."""
    loss = "-" if news["loss"] is None else f"{news['loss']:.4g}"
    workers = f", {news['workers']} workers" if news["workers"] > 1 else ""
    return (
        f"train: epoch {news['epoch']} of {news['epochs']}, step {news['step']} of "
        f"{news['steps']}, loss {loss}, {news['images_per_s']:.0f} images/s{workers}, "
        f"{duration(news['seconds_left'])} left"
    )


def describe_epoch(validated: Mapping[str, Any], *, best: bool) -> str:
    """Give the line for an epoch that was validated."""
    from redaction_core.training.history import judged_by

    val = validated["val"]
    parts = []
    for text, row in val["redactions"].items():
        name = judged_by(text)
        without = "bicubic_mae" if row.get("bicubic_mae") is not None else f"baseline_{name}"
        if row[name] is not None and row[without] is not None:
            parts.append(f"{text} {name} {row[name]:.4f} (without a network {row[without]:.4f})")
    loss = "none" if val["loss"] is None else f"{val['loss']:.4g}"
    line = f"train: epoch {validated['epoch']} done, validation loss {loss}"
    if best and val["loss"] is not None:
        line += " (best)"
    return "; ".join([line, *parts])
