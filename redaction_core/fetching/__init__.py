"""Images from URLs of strangers: politely, within limits, and from public addresses alone.

fetcher     `Fetcher`: a URL to its bytes, or to why there are none
policy      every limit, and the name under which we ask
outcome     what becomes of a URL, and the time that it has
urls        what a URL points at; how it may be written down
addresses   which addresses are public; the one spelling of a host
resolver    names to checked addresses
client      attempts, redirects, turns, one request
answers     what status, headers and errors mean
bodies      bodies read to the limit
robots      the rules of robots.txt
hosts       the budget of turns of all workers
turns       a worker's side of that budget
"""

from redaction_core.fetching.addresses import is_public
from redaction_core.fetching.fetcher import Fetcher
from redaction_core.fetching.hosts import Exchange, HostBudget, Hosts, local_exchange
from redaction_core.fetching.outcome import Fetched
from redaction_core.fetching.policy import FetchPolicy
from redaction_core.fetching.resolver import Lookup
from redaction_core.fetching.turns import BudgetedHosts
from redaction_core.fetching.urls import LONGEST_URL, host_of, printable_url

__all__ = [
    "LONGEST_URL",
    "BudgetedHosts",
    "Exchange",
    "FetchPolicy",
    "Fetched",
    "Fetcher",
    "HostBudget",
    "Hosts",
    "Lookup",
    "host_of",
    "is_public",
    "local_exchange",
    "printable_url",
]
