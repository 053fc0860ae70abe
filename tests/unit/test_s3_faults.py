"""What errors of the S3 libraries become, and which of them are tried again."""

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ProfileNotFound
from botocore.parsers import ResponseParserError
from obstore import exceptions

from redaction_core.errors import Failure, InputError, StorageError
from redaction_core.storage.s3_faults import ADVICE, MISSING, is_transient, translated


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
        (exceptions.GenericError("request failed for key k: why (code: AccessDenied)"), False),
        (exceptions.GenericError("request failed for key k: why (code: InternalError)"), True),
        (exceptions.GenericError("Server returned error response: <Code>SlowDown</Code>"), True),
        (ResponseParserError("no element found"), True),
        (exceptions.PermissionDeniedError("x"), False),
        (exceptions.PreconditionError("x"), True),
        (FileNotFoundError("x"), False),
        (ValueError("x"), False),
    ],
)
def test_what_is_tried_again(error: Exception, transient: bool) -> None:  # noqa: FBT001
    assert is_transient(error) is transient


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (refused("AccessDenied", 403), "cannot list s3://b: AccessDenied 403; check the cred"),
        (FileNotFoundError("<Code>NoSuchBucket</Code>"), "there is no such bucket; create it"),
        (generic("HTTP error: error sending request"), "the server does not answer; check the en"),
        (generic("status code: 400 Bad Request: <Code>X</Code>"), "cannot list s3://b: X; "),
        (exceptions.GenericError("why (code: AccessDenied)"), "AccessDenied; check the cred"),
        (ResponseParserError("no\nelement"), "cannot list s3://b: the server does not answer; "),
    ],
)
def test_errors_say_what_to_do(error: Exception, text: str) -> None:
    assert text in str(translated(error, "list", "s3://b"))


def test_an_archived_object_is_one_bad_input() -> None:
    ours = translated(generic("403: <Code>InvalidObjectState</Code>"), "read", "s3://b/k")
    assert isinstance(ours, InputError)
    assert ours.failure is Failure.UNREADABLE
