"""Which addresses strangers may send us to, and the one spelling of each host."""

import ipaddress
import re
import socket
from functools import lru_cache
from typing import Final

_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

# The IANA registries of special-purpose addresses, written out: `ipaddress` knows other ones in
# each version of Python. Anycast services and relays are refused too, since no image lies there.
_REFUSED_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata at 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host: metadata, DNS
        "169.254.0.0/16",  # link-local; metadata at 169.254.169.254
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# Nothing outside is global: loopback, unique local (Amazon's metadata at fd00:ec2::254),
# link-local, site-local, multicast, IPv4-compatible, IPv4-translated, local NAT64 (64:ff9b:1::/48).
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: embeds an address, and is no longer used
        "3ffe::/16",  # 6bone, given back
        "3fff::/20",  # documentation
    )
)
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Say whether an IP address is one of the public internet; no address at all is not.

    An IPv4-mapped or NAT64 address is what the IPv4 address in it is: networks that speak IPv6
    alone reach every IPv4 server by NAT64. Other forms that embed one (6to4, Teredo,
    IPv4-compatible, local NAT64) are refused whatever they embed, and so are scoped addresses.
    """
    if "%" in address:
        return False
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed not in _MAPPED and parsed not in _NAT64:
            return parsed in _GLOBAL_V6 and not any(parsed in net for net in _REFUSED_V6)
        parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)
    return not any(parsed in net for net in _REFUSED_V4)


@lru_cache(maxsize=8192)
def canonical_host(host: str) -> str:
    """Give the one spelling of a host in lower-case ASCII, without brackets.

    IPv4 addresses become four decimal numbers, whatever C libraries make them of (`127.1`,
    `0x7f.1`, `2130706433`), IPv6 addresses the shortest form; names lose their last dot.

    Raises:
        ValueError: it is none; the text says why and does not repeat it.
    """
    if ":" in host:
        if "%" in host:
            raise ValueError("its host is a scoped address")
        try:
            return ipaddress.IPv6Address(host).compressed
        except ValueError:
            raise ValueError("its host is not a valid IPv6 address") from None
    name = host.removesuffix(".")
    if _NAME.fullmatch(name) is None:
        raise ValueError("its host is not a valid name")
    # A name that ends in a number is an IPv4 address or nothing (URL standard, "host parsing").
    if _NUMBER.fullmatch(name.rpartition(".")[2]) is None:
        return name
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        raise ValueError("its host is not a valid IPv4 address") from None


@lru_cache(maxsize=8192)
def is_address(host: str) -> bool:
    """Say whether a canonical host is an address, not a name."""
    return ":" in host or host.rpartition(".")[2].isdigit()
