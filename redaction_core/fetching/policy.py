"""How URLs are fetched: every limit, and the name under which we ask."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from redaction_core.errors import UsageError
from redaction_core.fetching.addresses import canonical_host

PRODUCT: Final = "redaction-audit"
"""Our name in robots.txt and X-Robots-Tag."""


@dataclass(frozen=True, kw_only=True)
class FetchPolicy:
    """Limits of one process; the limits of a host are `HostBudget`'s.

    Raises:
        UsageError: a limit that makes no sense, a contact with control characters, a host that is
            no host.
    """

    timeout_s: float = 30.0
    """A URL in all: attempts, pauses, redirects, reading. Waiting for turns is not counted."""
    attempts: int = 3
    max_redirects: int = 5
    max_bytes: int = 20_000_000
    """Of a body, as sent and as unpacked."""
    in_flight: int = 256
    """Requests under way at once in this process."""
    idle_timeout_s: float = 10.0
    """An attempt in which nothing arrives for so long is given up."""
    allow_private_hosts: tuple[str, ...] = ()
    """Names or addresses, as they stand in URLs, that may be private and carry no rate limit."""
    robots: bool = True
    """Honour robots.txt and X-Robots-Tag."""
    contact: str | None = None
    """A mail address or a page, for those whose hosts we ask."""
    backoff_s: float = 0.5
    """The longest pause before the second attempt; it doubles for each further one."""
    max_backoff_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name in ("timeout_s", "attempts", "max_bytes", "in_flight", "idle_timeout_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be more than 0")
        for name in ("max_redirects", "backoff_s", "max_backoff_s"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must not be less than 0")
        if self.contact is not None and not (self.contact.isascii() and self.contact.isprintable()):
            raise UsageError("the contact must be printable ASCII text: a mail address or a URL")
        _ = self.free_hosts

    @property
    def free_hosts(self) -> frozenset[str]:
        """The hosts of `allow_private_hosts` in the one spelling that is compared."""
        hosts = set()
        for text in self.allow_private_hosts:
            try:
                hosts.add(canonical_host(text.removeprefix("[").removesuffix("]").lower()))
            except ValueError as error:
                raise UsageError(
                    f"{text!r} cannot be allowed ({error}): write a host's name or address, "
                    "without scheme and port"
                ) from None
        return frozenset(hosts)

    @property
    def user_agent(self) -> str:
        """Who asks, what for, and where to complain."""
        try:
            release = version(PRODUCT)
        except PackageNotFoundError:  # run from a copy that was not installed
            release = "0"
        contact = self.contact or "none given by the operator"
        return f"{PRODUCT}/{release} (image data set builder; contact: {contact})"
