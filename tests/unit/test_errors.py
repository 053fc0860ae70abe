"""The error tree: exit codes, failure values, pickling between processes."""

import pickle

import pytest

from redaction_core import errors


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.UsageError("x"), 2),
        (errors.CheckpointError("x"), 2),
        (errors.StorageError("x"), 1),
        (errors.ObjectMissingError("x"), 1),
    ],
)
def test_exit_codes(error: errors.RedactionCoreError, exit_code: int) -> None:
    assert error.exit_code == exit_code


def test_failure_values_are_their_names_in_lower_case() -> None:
    assert all(failure.value == failure.name.lower() for failure in errors.Failure)


def test_input_error_survives_pickling() -> None:
    error = errors.InputError(errors.Failure.TRUNCATED, "ends after 12 bytes")

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert (copy.failure, copy.detail) == (error.failure, error.detail)
    assert str(copy) == "truncated: ends after 12 bytes"
