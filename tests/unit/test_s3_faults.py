"""What errors of the S3 libraries become, and which of them are tried again."""

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ProfileNotFound
from botocore.parsers import ResponseParserError
from obstore import exceptions

from redaction_core.errors import Failure, InputError, StorageError
from redaction_core.storage.s3_faults import (
    ADVICE,
    MISSING,
    is_transient,
    may_be_stale,
    translated,
)


def obstore_errors() -> Iterator[type[Exception]]:
    for name in dir(exceptions):
        kind = getattr(exceptions, name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            yield kind


@pytest.mark.parametrize("kind", list(obstore_errors()))
def test_every_error_of_obstore_is_mapped(kind: type[Exception]) -> None:
    assert kind in ADVICE or issubclass(kind, MISSING)
    ours = translated(kind("what happened\n\nDebug source:\nmuch more"), "read", "s3://b/k")
    assert isinstance(ours, StorageError)
    assert "s3://b/k" in str(ours)
    assert "much more" not in str(ours)
    assert "\n" not in str(ours)


def refused(code: str, status: int) -> ClientError:
    error = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(error, "ListObjectsV2")


def generic(answer: str) -> exceptions.GenericError:
    return exceptions.GenericError(
        f"Generic S3 error: Error performing PUT http://h/b/k in 1ms - {answer}"
    )


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (refused("InternalError", 500), True),
        (refused("SlowDown", 503), True),
        (refused("Throttling", 400), True),
        (refused("AccessDenied", 403), False),
        (refused("NoSuchBucket", 404), False),
        (EndpointConnectionError(endpoint_url="http://h"), True),
        (ProfileNotFound(profile="p"), False),
        (generic("HTTP error: error sending request"), True),
        (generic("Server returned non-2xx status code: 503 Service Unavailable: "), True),
        (generic("Server returned non-2xx status code: 409 Conflict: "), True),
        (generic("Server returned non-2xx status code: 400 Bad Request: <Code>X</Code>"), False),
        (generic("status code: 400 Bad Request: <Code>RequestTimeout</Code>"), True),
        (generic("Server returned error response: <Code>SlowDown</Code>"), True),
        (ResponseParserError("no element found"), True),
        (generic("request failed for key k: Denied. (code: AccessDenied)"), False),
        (generic("request failed for key k: Wait. (code: SlowDown)"), True),
        (generic("Server returned non-2xx status code: 400 Bad Request: "), False),
        (exceptions.PermissionDeniedError("x"), False),
        (exceptions.UnauthenticatedError("x"), False),
        (exceptions.PreconditionError("x"), True),
        (FileNotFoundError("x"), False),
        (ValueError("x"), False),
    ],
)
def test_what_is_tried_again(error: Exception, transient: bool) -> None:  # noqa: FBT001
    assert is_transient(error) is transient


@pytest.mark.parametrize(
    ("error", "stale"),
    [
        (refused("ExpiredToken", 400), True),
        (refused("RequestExpired", 403), True),
        (refused("InvalidAccessKeyId", 403), True),
        (refused("AccessDenied", 403), False),
        (refused("NoSuchBucket", 404), False),
        (generic("status code: 400 Bad Request: <Code>ExpiredToken</Code>"), True),
        (generic("status code: 400 Bad Request: <Code>KeyTooLongError</Code>"), False),
        (generic("status code: 503 Service Unavailable: "), False),
        (generic("HTTP error: error sending request"), False),
        (exceptions.PermissionDeniedError("status code: 403: <Code>AccessDenied</Code>"), False),
        # The answer to HEAD names no code.
        (exceptions.PermissionDeniedError("status code: 403 Forbidden: "), True),
        (generic("status code: 400 Bad Request: "), True),
        (exceptions.UnauthenticatedError("no credentials"), False),
        (FileNotFoundError("status code: 404 Not Found: "), False),
        (ValueError("x"), False),
    ],
)
def test_what_newer_credentials_may_cure(error: Exception, stale: bool) -> None:  # noqa: FBT001
    assert may_be_stale(error) is stale


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (refused("AccessDenied", 403), "cannot list s3://b: AccessDenied 403; check the cred"),
        (FileNotFoundError("<Code>NoSuchBucket</Code>"), "there is no such bucket; create it"),
        (generic("HTTP error: error sending request"), "the server does not answer; check the en"),
        (generic("status code: 400 Bad Request: <Code>X</Code>"), "cannot list s3://b: X; "),
        (ResponseParserError("no\nelement"), "cannot list s3://b: the server does not answer; "),
        (generic("400 Bad Request: <Code>ExpiredToken</Code>"), "ExpiredToken; check the cred"),
        (generic("failed for key k: No. (code: AccessDenied)"), "AccessDenied; check the cred"),
        (
            exceptions.UnauthenticatedError(
                "for path External AWS credential provider: CredentialRetrievalError: log in\nmore"
            ),
            "cannot list s3://b: CredentialRetrievalError: log in; check the cred",
        ),
        (RuntimeError("still expired"), "cannot list s3://b: still expired; check the cred"),
        (FileNotFoundError(2, "No such file", "tool"), "No such file: 'tool'; check the cred"),
    ],
)
def test_errors_say_what_to_do(error: Exception, text: str) -> None:
    assert text in str(translated(error, "list", "s3://b"))


def test_an_archived_object_is_one_bad_input() -> None:
    ours = translated(generic("403: <Code>InvalidObjectState</Code>"), "read", "s3://b/k")
    assert isinstance(ours, InputError)
    assert ours.failure is Failure.UNREADABLE
