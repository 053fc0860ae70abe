"""What errors of boto3, botocore and obstore mean, in one place."""

import re
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError
from obstore import exceptions

from redaction_core.errors import (
    Failure,
    InputError,
    ObjectMissingError,
    RedactionCoreError,
    StorageError,
)

FOREIGN: Final = (
    *(exceptions.BaseError, BotoCoreError, ClientError, ResponseParserError),
    *(OSError, ValueError, RuntimeError),
)
"""All that the libraries raise: obstore also raises FileNotFoundError and ValueError, botocore lets
pass what a credential_process comes to, and has a RuntimeError for renewed ones that have expired.
"""

MISSING: Final = (FileNotFoundError, exceptions.NotFoundError)
"""How obstore says that there is no such object (or no such bucket)."""

UNCERTAIN: Final = (
    exceptions.AlreadyExistsError,
    exceptions.PreconditionError,
    exceptions.GenericError,
)
"""Answers to a conditional write that leave open whether the object is there."""

_CREDENTIALS: Final = "check the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID, role) and the policy"
_SERVER: Final = "check the endpoint (AWS_ENDPOINT_URL) and the server, then run again"
_REPORT: Final = "this should not happen: please report it"

ADVICE: Final[dict[type[BaseException], str]] = {
    exceptions.PermissionDeniedError: _CREDENTIALS,
    exceptions.UnauthenticatedError: _CREDENTIALS,
    exceptions.GenericError: _SERVER,
    exceptions.AlreadyExistsError: "another run writes there; run again when it has ended",
    exceptions.PreconditionError: "another run writes there; run again when it has ended",
    exceptions.NotSupportedError: "the server lacks this operation; use another",
    exceptions.UnknownConfigurationKeyError: _REPORT,
    exceptions.InvalidPathError: _REPORT,
    exceptions.NotModifiedError: _REPORT,
    exceptions.JoinError: _REPORT,
    exceptions.BaseError: _REPORT,
}
"""What to do, for each class of obstore's errors (but for `MISSING`)."""

_STALE: Final = {
    *("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"),
    *("InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
}
_DENIED: Final = {"401", "403", "AccessDenied", *_STALE}
_BUSY: Final = {
    *("SlowDown", "Throttling", "ThrottlingException", "InternalError", "ServiceUnavailable"),
    *("RequestTimeout", "IncompleteBody"),  # of uploads that the network broke: both say 400
}
_UNANSWERED: Final = (HTTPClientError, BotoConnectionError, ResponseParserError)
_STATUS: Final = re.compile(r"status code: ((\d{3})[ A-Za-z]*)")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)")
"""In the body of an answer; of one key among many that are deleted, as obstore tells it."""
_PROVIDER: Final = "External AWS credential provider: "
"""Where obstore asks boto3 for credentials, and boto3 has none that are still valid."""
_LONGEST_NAME: Final = 255  # bytes
_LONGEST_KEY: Final = 1024  # bytes


def is_transient(error: Exception) -> bool:
    """Say whether the same request may succeed later."""
    if isinstance(error, ClientError):
        return _client_code(error) in _BUSY or _is_transient_status(str(_client_status(error)))
    if isinstance(error, _UNANSWERED):
        return True
    if isinstance(error, (exceptions.AlreadyExistsError, exceptions.PreconditionError)):
        return True
    if not isinstance(error, exceptions.GenericError):
        return False
    status, code = _STATUS.search(str(error)), _code(error)
    if status is None:  # no answer, one cut short, or one that speaks of single objects
        return not code or code in _BUSY
    return code in _BUSY or _is_transient_status(status[2])


def may_be_stale(error: Exception) -> bool:
    """Say whether a request was refused for its credentials, as newer ones might not be."""
    if code := _code(error):
        return code in _STALE
    # An answer to HEAD has no body that could say why.
    status = _STATUS.search(str(error)) if isinstance(error, exceptions.BaseError) else None
    return status is not None and status[2] in ("400", "401", "403")


def is_missing_bucket(error: Exception) -> bool:
    """Say whether there is no such bucket, asked of a request that names no object."""
    if isinstance(error, ClientError):
        return _client_code(error) in ("NoSuchBucket", "404")
    return "NoSuchBucket" in str(error)


def is_too_long(error: exceptions.GenericError, path: str) -> bool:
    """Say whether a server refused to look for a path because it is too long to exist."""
    name = max(len(segment.encode()) for segment in path.split("/"))
    too_long = name > _LONGEST_NAME or len(path.encode()) > _LONGEST_KEY
    return too_long and "status code: 400" in str(error)


def translated(error: Exception, verb: str, where: str) -> RedactionCoreError:
    """Turn a foreign error into ours, with one line: what failed, where, why, what to do."""
    text = str(error)
    code = _code(error)
    if code == "NoSuchBucket":
        return StorageError(f"cannot {verb} {where}: there is no such bucket; create it first")
    of_a_process = isinstance(error, OSError) and error.errno is not None
    if (isinstance(error, MISSING) and not of_a_process) or code == "KeyTooLongError":
        return ObjectMissingError(f"no such object: {where}")
    if code == "InvalidObjectState":
        return InputError(Failure.UNREADABLE, "the object is archived; restore it first")
    if isinstance(error, ClientError):
        denied = code in _DENIED or _client_status(error) in (401, 403)
        why, advice = f"{code} {_client_status(error)}", _CREDENTIALS if denied else _SERVER
    elif isinstance(error, exceptions.BaseError):
        status = _STATUS.search(text)
        why = code or (status[1].strip() if status else _reason(text))
        advice = next(ADVICE[kind] for kind in type(error).__mro__ if kind in ADVICE)
        advice = _CREDENTIALS if code in _DENIED else advice
    elif isinstance(error, _UNANSWERED):
        why, advice = "the server does not answer", _SERVER
    elif "get_credentials" in text:  # what obstore's provider raises when boto3 finds none
        why, advice = "no credentials were found", _CREDENTIALS
    elif "endpoint" in text.lower() or "Port" in text:  # the text may hold a password
        why, advice = "the endpoint is no http:// or https:// address", _SERVER
    elif of_a_process or isinstance(error, (BotoCoreError, RuntimeError)):
        why, advice = " ".join(text.split()), _CREDENTIALS
    else:
        why, advice = " ".join(text.split()), _SERVER
    return StorageError(f"cannot {verb} {where}: {why}; {advice}")


def _reason(text: str) -> str:
    """Shorten obstore's report, which goes on for many lines and repeats the address."""
    first = text.partition("\n")[0].rpartition(_PROVIDER)[2]
    return "the server does not answer" if "HTTP error" in first else first[:200]


def _client_code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _client_status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _is_transient_status(status: str) -> bool:
    return status in ("408", "409", "429") or status.startswith("5")


def _code(error: Exception) -> str:
    if isinstance(error, ClientError):
        return _client_code(error)
    found = _CODE.search(str(error))
    return found[1] or found[2] if found else ""
