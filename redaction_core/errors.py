"""Everything that goes wrong on purpose.

    RedactionCoreError
    ├── UsageError            bad arguments, or output that is refused           exit 2
    ├── CheckpointError       a model directory that is missing or damaged       exit 2
    ├── StorageError          storage unreachable, denied, full                  exit 1
    │   └── ObjectMissingError    the object or file asked for is not there      exit 1
    └── InputError            one bad input: a row with a `Failure`, never the end of a run

Errors of other libraries are translated where those libraries are called, never here.
"""

from enum import StrEnum, auto
from typing import ClassVar


class Failure(StrEnum):
    """Why one input has no result. The value, as written to tables, is the name in lower case."""

    BAD_NAME = auto()
    """The name cannot be addressed in every kind of storage, or its output name is too long."""
    NAME_COLLISION = auto()
    """The output name belongs to another input."""
    NOT_FOUND = auto()
    """Gone since the run was planned, or the web server has none of it (404, 410)."""
    UNREADABLE = auto()
    """No permission, or not a regular file; in an archive: a link, encrypted, damaged."""
    INPUT_CHANGED = auto()
    """Its size or version differs from the plan's."""
    EMPTY_FILE = auto()
    """It has no bytes."""
    TOO_MANY_BYTES = auto()
    """The file is larger than the limit."""
    TOO_MANY_PIXELS = auto()
    """The picture is larger than the limit (a decompression bomb)."""
    NOT_AN_IMAGE = auto()
    """Its bytes are no image format we know."""
    TRUNCATED = auto()
    """An image that ends early or is corrupt."""
    UNSUPPORTED = auto()
    """An image in a form we do not handle."""
    TOO_SMALL = auto()
    """A side of the picture is shorter than asked for."""
    BAD_URL = auto()
    """Not an http or https URL with a host."""
    DNS = auto()
    """The name of the host does not resolve."""
    PRIVATE_ADDRESS = auto()
    """The host is, resolves to, or redirects to an address that is not public."""
    CONNECTION = auto()
    """The server cannot be reached, breaks off, or does not speak HTTP or TLS as it should."""
    TIMEOUT = auto()
    """No answer, or no end of it, in the time a URL has (408 too)."""
    INCOMPLETE_BODY = auto()
    """The body ended before its announced length."""
    FORBIDDEN = auto()
    """The server refuses it to us (401, 402, 403, 407, 451)."""
    RATE_LIMITED = auto()
    """The server asks to come back later than the URL's time allows (429)."""
    CLIENT_ERROR = auto()
    """Another answer that says the request is at fault (4xx), or no answer of HTTP's at all."""
    SERVER_ERROR = auto()
    """The server fails (5xx)."""
    BAD_REDIRECT = auto()
    """A loop of redirects, too many, or one that leads to no URL."""
    ROBOTS_TXT = auto()
    """The host's robots.txt forbids it."""
    ROBOTS_TAG = auto()
    """The answer's X-Robots-Tag forbids the use of the image for data sets."""
    NOT_PIXELATED = auto()
    """No grid of blocks was found, and none was given."""
    ORIGINAL_MISSING = auto()
    """There is no original of this name."""
    ORIGINAL_UNREADABLE = auto()
    """The original cannot be read or decoded."""
    ORIGINAL_SIZE = auto()
    """The original has another width or height."""
    MASK_MISSING = auto()
    """There is no mask of this name."""
    MASK_UNREADABLE = auto()
    """The mask cannot be read or decoded."""
    MASK_SIZE = auto()
    """The mask has another width or height."""
    MASK_EMPTY = auto()
    """The mask hides nothing."""
    MASK_FULL = auto()
    """The mask hides everything."""
    OUT_OF_MEMORY = auto()
    """It does not fit in memory even alone."""
    OUTPUT_CONFLICT = auto()
    """The output exists, and is of no run or not an image of the right size."""
    WORKER_CRASH = auto()
    """It killed the process that worked on it."""


class RedactionCoreError(Exception):
    """Root of the errors raised on purpose; its text is one line for people."""

    exit_code: ClassVar[int] = 1


def error_named(kind: str, text: str) -> RedactionCoreError:
    """Make an error anew that another process told of by the name of its class."""
    kinds = {each.__name__: each for each in (UsageError, CheckpointError, StorageError)}
    return kinds.get(kind, RedactionCoreError)(text)


class UsageError(RedactionCoreError):
    """Bad arguments, or an output location that is refused."""

    exit_code: ClassVar[int] = 2


class CheckpointError(RedactionCoreError):
    """A model directory that is missing or damaged."""

    exit_code: ClassVar[int] = 2


class StorageError(RedactionCoreError):
    """Storage that cannot be reached, denies access, is full, or lacks the bucket."""


class ObjectMissingError(StorageError):
    """The object or file asked for is not there."""


class InputError(RedactionCoreError):
    """One bad input: ends as a row with this failure and never ends a run."""

    def __init__(self, failure: Failure, detail: str) -> None:
        """Keep the class of the failure and one line for people."""
        super().__init__(failure, detail)
        self.failure = failure
        self.detail = detail

    def __str__(self) -> str:
        """Failure and detail in one line."""
        return f"{self.failure}: {self.detail}"
