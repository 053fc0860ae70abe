"""The two clients of one bucket, and whose credentials they use."""

import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store as Objects

from redaction_core.storage.listing import AT_ONCE
from redaction_core.storage.s3_faults import is_transient

if TYPE_CHECKING:
    from obstore.store import ClientConfig

_CONNECT_S: Final = 5.0
_SLOWEST: Final = 2**17  # bytes a second: a request that gets less is given up
READ_AT_ONCE: Final = 2**23
"""Bytes that are read by one request, at most."""
_KEPT: Final = timedelta(minutes=5, seconds=30)
"""What obstore may take for the life of credentials; it asks again 5 minutes before that ends.

boto3 hands out nothing that ends within 10 minutes. With the 30 that obstore's provider assumes,
the credentials of a role would be used long after their end.
"""

# A renewal that fails is tried again, and told where it ends a request: not here, with its trace.
logging.getLogger("botocore.credentials").setLevel(logging.ERROR)


class Clients:
    """boto3 lists and checks, obstore moves objects; both ask one boto3 session for credentials.

    A request is given up after so many seconds without a byte, or when it gets no further than 128
    KiB a second.
    """

    def __init__(self, bucket: str, timeout_s: float) -> None:
        """Find endpoint, region and credentials anew, wherever boto3 looks for them.

        Talks to the bucket only to learn its region on AWS. Raises what the libraries raise.
        """
        self._bucket = bucket
        self._timeout_s = timeout_s
        # boto3 reads AWS_DEFAULT_REGION alone; other SDKs, and Kubernetes on AWS, set AWS_REGION.
        region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")
        session = boto3.Session(botocore_session=_core_session(), region_name=region)
        config = Config(
            connect_timeout=_CONNECT_S,
            read_timeout=timeout_s,
            max_pool_connections=AT_ONCE,
            retries={"total_max_attempts": 1},  # one policy for all requests: that of the store
            s3={"addressing_style": "path"},  # one's own server has no host name for each bucket
        )
        self.boto = session.client("s3", config=config)
        endpoint: str = self.boto.meta.endpoint_url
        host = urlsplit(endpoint)
        self.host = f"{host.hostname}" + (f":{host.port}" if host.port else "")
        """Host and port of the endpoint."""
        self._allow_http = host.scheme == "http"
        self._credentials = Boto3CredentialProvider(session, ttl=_KEPT)
        self._address = _place(self.boto, bucket, endpoint)
        self.objects = self._open(READ_AT_ONCE, reads=True)
        """For all but writes."""
        self._writers: dict[int, Objects] = {}

    def limit_s(self, size: int) -> float:
        """Give the longest time for so many bytes."""
        return self._timeout_s + size / _SLOWEST

    def writer(self, data: bytes) -> Objects:
        """Give what writes data of this size, with enough time for it."""
        size = max(2**16, 1 << len(data).bit_length())  # few clients, each with its connections
        if size not in self._writers:
            self._writers[size] = self._open(size, reads=False)
        return self._writers[size]

    def _open(self, size: int, *, reads: bool) -> Objects:
        options: ClientConfig = {
            "allow_http": self._allow_http,
            "connect_timeout": timedelta(seconds=_CONNECT_S),
            "timeout": timedelta(seconds=self.limit_s(size)),
        }
        if reads:  # obstore would take an upload for a time without a byte
            options["read_timeout"] = timedelta(seconds=self._timeout_s)
        return Objects(
            self._bucket,
            credential_provider=self._credentials,
            client_options=options,
            retry_config={"max_retries": 0},  # as in boto3's
            **self._address,
        )


def _core_session() -> botocore.session.Session:
    """Leave times in answers as texts: to read them takes two thirds of a listing's time."""
    session = botocore.session.get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    return session


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
        if is_transient(error):
            raise
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return {"region": headers.get("x-amz-bucket-region", region)}
    return {"region": found.get("BucketRegion", region)}


def _on_aws(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
