"""Where the clients of a bucket look for what they need to know."""

import pytest

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.storage.s3_clients import Clients
from tests.conftest import BUCKET


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "eu-central-1"}, "eu-central-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-central-1"}, "eu-west-1"),
    ],
)
def test_the_region_has_two_names(
    s3_server: EmbeddedS3,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    region: str,
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    for name, value in {**s3_server.environment, **variables}.items():
        monkeypatch.setenv(name, value)
    assert Clients(BUCKET, 30).boto.meta.region_name == region
