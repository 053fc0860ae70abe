"""What an answer's headers say about rates: the limits that it states, how long to wait."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_RATE: Final = re.compile(r"(\d{1,9})/([smhd])[a-z]{0,9}")
_PREFIX: Final = "x-ratelimit-limit-"
_SHORT_PERIODS_S: Final = {"s": 1.0, "m": 60.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """One limit, such as 20 requests a minute."""

    text: str
    """As it was stated: `20/min`."""
    requests: int
    period: str
    """s, m, h or d, as the first letter says it."""

    @property
    def gap_s(self) -> float:
        """Seconds between two requests at this rate; 0 for a quota of an hour or a day."""
        period_s = _SHORT_PERIODS_S.get(self.period, 0.0)
        return period_s / max(1, self.requests)


def stated_rates(headers: Mapping[str, str]) -> list[Rate]:
    """Read all limits that an answer states, such as `X-RateLimit-Limit-anon_burst: 20/min`."""
    stated = (value for name, value in headers.items() if name.lower().startswith(_PREFIX))
    found = (_RATE.fullmatch(value.strip()) for value in stated)
    return [Rate(text=each[0], requests=int(each[1]), period=each[2]) for each in found if each]


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Read a Retry-After header: seconds, or a date; None where it says neither."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
