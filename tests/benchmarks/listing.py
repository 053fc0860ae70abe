"""List a simulated bucket at the pace of a server: `python -m tests.benchmarks.listing --help`.

A page takes so long to come, and is read from XML as boto3 reads it (always the same page; the keys
are made up). Folders hold 10,000 keys, 100 of them in a larger one. One page after the other is
measured on the first pages alone.
"""

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import tyro
from botocore.parsers import ResponseParserFactory
from botocore.session import get_session

from redaction_core.storage.listing import Page, listed
from redaction_core.storage.order import in_key_order
from redaction_core.storage.s3 import _entry
from tests.benchmarks.planning import FOLDER, memory
from tests.benchmarks.planning import listed as synthetic

PAGE = 1000
ALONE = 50_000  # keys


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Keys a second, one page after the other and folders at once."""

    keys: int = 1_000_000
    latency_s: float = 0.1
    """Seconds until a page comes."""


class Bucket:
    """Pages of the synthetic keys."""

    def __init__(self, keys: int, latency_s: float) -> None:
        self.keys, self.latency_s, self.requests = keys, latency_s, 0
        factory = ResponseParserFactory()
        factory.set_parser_defaults(timestamp_parser=str)
        self._parser = factory.create_parser("rest-xml")
        model = get_session().get_service_model("s3").operation_model("ListObjectsV2")
        self._shape = model.output_shape
        items = "".join(
            f"<Contents><Key>{each.key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{each.version}&quot;</ETag><Size>{each.size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for each in synthetic(0, PAGE)
        )
        body = f"<ListBucketResult><KeyCount>1000</KeyCount>{items}</ListBucketResult>".encode()
        self._answer = {"headers": {}, "body": body, "status_code": 200}

    def pages(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        self.requests += 1
        time.sleep(self.latency_s)
        depth = prefix.count("/")
        size = (self.keys, 100 * FOLDER, FOLDER)[depth]
        place = [int(each) for each in prefix.split("/") if each]
        first = sum(
            number * each for number, each in zip(place, (100 * FOLDER, FOLDER), strict=False)
        )
        last = min(first + size, self.keys)
        if by_folder and depth < 2:
            step = (100 * FOLDER, FOLDER)[depth]
            names = (
                f"{prefix}{number // step % (100_000, 100)[depth]:0{(5, 2)[depth]}d}/"
                for number in range(first, last, step)
            )
            return Page(entries=[], folders=list(names), token=None)
        first = int(token or first)
        end = min(first + PAGE, last)
        parsed: dict[str, Any] = self._parser.parse(self._answer, self._shape)
        entries = [
            _entry(each.key, item)
            for each, item in zip(synthetic(first, end), parsed["Contents"], strict=False)
        ]
        return Page(entries=entries, folders=[], token=str(end) if end < last else None)


def main(config: Listing) -> int:
    """Return 1 if keys are lost or out of order, or listing folders at once is no faster."""
    bucket = Bucket(config.keys, config.latency_s)
    started, cpu_s, token = time.perf_counter(), time.process_time(), None
    for _ in range(ALONE // PAGE):
        token = bucket.pages("", token, by_folder=False).token
    alone = ALONE / (time.perf_counter() - started)
    cpu_us = (time.process_time() - cpu_s) / ALONE * 1e6
    print(f"one page after the other: {alone:,.0f} keys/s, {cpu_us:.0f} us of CPU each", flush=True)
    bucket.requests, before = 0, memory("VmRSS")
    started, cpu_s = time.perf_counter(), time.process_time()
    same = all(
        ours.key == theirs.key
        for ours, theirs in zip(
            in_key_order(listed(bucket.pages, "")), synthetic(0, config.keys), strict=True
        )
    )
    together = config.keys / (time.perf_counter() - started)
    grown = (memory("VmHWM") - before) / 2**20
    cpu_us = (time.process_time() - cpu_s) / config.keys * 1e6
    print(f"folders at once: {together:,.0f} keys/s, {cpu_us:.0f} us of CPU each")
    print(f"{bucket.requests} requests, +{grown:.0f} MiB")
    fine = same and together > alone
    print("PASS" if fine else "FAIL", json.dumps({"alone": alone, "together": together}))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Listing)))
