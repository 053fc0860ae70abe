"""What the Openverse API allows, as its source and its live answers state it.

Source: WordPress/openverse, api/constants/restricted_features.py (sizes and depth),
settings/rest_framework.py (rates of applications); the rates for anonymous users are those that the
public service sends as X-RateLimit-Limit-anon_burst and -anon_sustained. The service may change
them at any time: what its answers say then counts.
"""

from typing import Final

API: Final = "https://api.openverse.org"

ANONYMOUS_PER_MINUTE: Final = 20
ANONYMOUS_PER_DAY: Final = 200
APPLICATION_PER_MINUTE: Final = 100
APPLICATION_PER_DAY: Final = 10_000

ANONYMOUS_PAGE_SIZE: Final = 20
APPLICATION_PAGE_SIZE: Final = 50
LARGEST_PAGE_SIZE: Final = 240
"""Results a page, for applications that Openverse has granted more."""

DEPTH: Final = 240
"""Results of one query that can be seen at all, with credentials or without."""
LARGEST_DEPTH: Final = 4800
"""The same, for applications that Openverse has granted more."""

LONGEST_QUERY: Final = 200
"""Characters; the API cuts what is longer without saying so."""
