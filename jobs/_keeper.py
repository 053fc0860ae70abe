"""What is known of a training outside its workers: progress, and why it must end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from redaction_core.errors import RedactionCoreError

STARTS: Final = 5
"""After so many starts in a row without a new checkpoint, a run is given up."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Why a run must end."""

    kind: str
    """Name of the error's class."""
    text: str
    trace: str | None = None
    """Of a bug."""


@dataclass(kw_only=True)
class News:
    """What the driver has not heard yet."""

    events: list[Mapping[str, Any]] = field(default_factory=list)
    """In the order in which they came."""
    progress: Mapping[str, Any] | None = None
    verdict: Verdict | None = None
    finished: bool = False


class Keeper:
    """Keeps progress for the driver, and the verdict for workers that Ray would start again.

    Where its process dies it is started anew without memory: workers tell their progress again,
    and fail again.
    """

    def __init__(self) -> None:
        self._news = News()
        self._starts = 0
        self._saved = -1
        self._reason = "its process died"

    def start(self, rank: int) -> bool:
        """Count a start of all workers; False when there is nothing to start for."""
        if rank == 0:
            self._starts += 1
            if self._starts > STARTS and self._news.verdict is None:
                text = (
                    f"given up: workers ended {STARTS} times in a row before a new checkpoint; "
                    f"the last time: {self._reason}"
                )
                self._news.verdict = Verdict(kind=RedactionCoreError.__name__, text=text)
            elif self._starts > 1:
                self._news.events.append({"say": "workers were started anew"})
            self._reason = "its process died"
        return self._news.verdict is None

    def tell(self, news: Mapping[str, Any]) -> None:
        """Take the news of `run_session`."""
        match news:
            case {"validated": _}:
                self._news.events.append(news)
                self._news.progress = None  # it is of before
            case {"say": _}:
                self._news.events.append(news)
            case {"saved": step}:
                if step > self._saved:
                    self._saved, self._starts = step, min(self._starts, 1)
            case {"finished": _}:
                self._news.finished = True
            case _:
                self._news.progress = news

    def fail(self, verdict: Verdict, *, final: bool) -> None:
        """Keep why a worker failed; with `final`, the run ends."""
        self._reason = verdict.text
        if final:
            self._news.verdict = self._news.verdict or verdict

    def hear(self) -> News:
        """Give the driver what is new."""
        told = self._news
        self._news = News(verdict=told.verdict, finished=told.finished)
        return told
