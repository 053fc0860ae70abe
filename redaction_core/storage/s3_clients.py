"""The two clients of one bucket, and whose credentials they use."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store as Objects

_CONFIG: Final = Config(
    retries={"total_max_attempts": 1},  # one policy for all requests: that of the store
    s3={"addressing_style": "path"},  # a server of one's own has no host name for each bucket
)
_KEPT: Final = timedelta(minutes=5, seconds=30)
"""What obstore may take for the life of credentials; it asks again 5 minutes before that ends.

boto3 hands out nothing that ends within 10 minutes. With the 30 that obstore's provider assumes,
the credentials of a role would be used long after their end.
"""

# A renewal that fails is tried again, and told where it ends a request: not here, with its trace.
logging.getLogger("botocore.credentials").setLevel(logging.ERROR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Clients:
    """boto3 lists and checks, obstore moves objects; both ask one boto3 session for credentials."""

    boto: Any
    objects: Objects
    host: str
    """Host and port of the endpoint."""

    @classmethod
    def open(cls, bucket: str) -> Self:
        """Find endpoint, region and credentials anew, wherever boto3 looks for them.

        Talks to the bucket only to learn its region on AWS. Raises what the libraries raise.
        """
        session = boto3.Session()
        boto = session.client("s3", config=_CONFIG)
        endpoint: str = boto.meta.endpoint_url
        host = urlsplit(endpoint)
        objects = Objects(
            bucket,
            credential_provider=Boto3CredentialProvider(session, ttl=_KEPT),
            client_options={
                "allow_http": host.scheme == "http",
                "connect_timeout": timedelta(seconds=5),
                "timeout": timedelta(seconds=120),
            },
            retry_config={"max_retries": 0},  # as in _CONFIG
            **_place(boto, bucket, endpoint),
        )
        named = f"{host.hostname}" + (f":{host.port}" if host.port else "")
        return cls(boto=boto, objects=objects, host=named)


def _place(boto: Any, bucket: str, endpoint: str) -> dict[str, Any]:  # noqa: ANN401 - boto3 has no types
    """Say where the bucket is; boto3 follows redirects between regions, obstore does not."""
    region = boto.meta.region_name
    if not _on_aws(endpoint):
        return {
            "region": region or "us-east-1",
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,
            "virtual_hosted_style_request": False,
        }
    try:
        found = boto.head_bucket(Bucket=bucket)
    except ClientError as error:  # denied to those who may list a prefix alone; 404 is told later
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return {"region": headers.get("x-amz-bucket-region", region)}
    return {"region": found.get("BucketRegion", region)}


def _on_aws(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
