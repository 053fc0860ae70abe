"""Searches of a stand-in for Openverse that several unit tests share."""

import asyncio
from pathlib import Path
from typing import Any

from redaction_core.discovery.openverse import Credentials, Manners, open_api
from redaction_core.discovery.search import Done, Search, collect
from redaction_core.discovery.url_list import UrlList
from redaction_core.storage import open_store
from tests.openverse_server import OpenverseServer

FAST = Manners(requests_per_minute=1e6, backoff_s=0)


def search_for(server: OpenverseServer, *queries: str, **changes: object) -> Search:
    values: dict[str, Any] = {"api": server.address, "queries": queries, "page_size": 20}
    return Search(**{**values, **changes})


def run(
    search: Search,
    folder: Path,
    manners: Manners = FAST,
    credentials: Credentials | None = None,
    said: list[str] | None = None,
) -> tuple[UrlList, Done]:
    async def whole() -> tuple[UrlList, Done]:
        say = (said if said is not None else []).append
        async with open_api(search.api, manners, credentials=credentials, say=say) as api:
            return await collect(search, open_store(str(folder)), api)

    return asyncio.run(whole())
