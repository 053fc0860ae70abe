"""No address that is not public passes, however it is written."""

import ipaddress

import pytest

from redaction_core.errors import Failure
from redaction_core.fetching import host_of, is_public
from redaction_core.fetching.addresses import canonical_host, is_address
from redaction_core.fetching.outcome import FetchError
from redaction_core.fetching.urls import parse_url

PUBLIC_V4 = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.0.1"]
PUBLIC_V4 += ["172.32.0.1", "169.253.1.1", "192.0.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.1"]
REFUSED_V4 = ["0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1"]  # noqa: S104 - refused
REFUSED_V4 += ["100.100.100.200", "127.0.0.1"]
REFUSED_V4 += ["127.255.255.255", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.9.9"]
REFUSED_V4 += ["192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1"]
REFUSED_V4 += ["198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1"]
REFUSED_V4 += ["240.0.0.1", "255.255.255.255"]


@pytest.mark.parametrize("address", [*PUBLIC_V4, "2606:4700::1111", "2a00:1450:4001::200e"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *REFUSED_V4,
        *("::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1"),
        *("2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1"),
        *("fe80::1%eth0", "2606:4700::1111%eth0", "3ffe::1"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["", "localhost", "127.1", "1.1.1", "01.1.1.1", "[::1]", "\u0661.1.1.1"]
)
def test_what_is_no_address_is_not_public(address: str) -> None:
    assert not is_public(address)


def hextets(address: str) -> str:
    packed = ipaddress.IPv4Address(address).packed.hex()
    return f"{packed[:4]}:{packed[4:]}"


@pytest.mark.parametrize("address", REFUSED_V4)
def test_forms_that_embed_a_refused_address(address: str) -> None:
    inside = hextets(address)
    negated = hextets(str(ipaddress.IPv4Address(int(ipaddress.IPv4Address(address)) ^ 0xFFFFFFFF)))
    for form in (
        *(f"::ffff:{address}", f"::ffff:{inside}", f"::FFFF:{inside}", f"::{inside}"),
        *(f"::ffff:0:{inside}", f"64:ff9b::{inside}", f"64:ff9b::{address}"),
        *(f"64:ff9b:1::{inside}", f"2002:{inside}::1", f"2001:0:{inside}::1"),
        f"2001:0:808:808::{negated}",
    ):
        assert not is_public(form), form


@pytest.mark.parametrize("address", PUBLIC_V4)
def test_forms_by_which_public_addresses_are_reached(address: str) -> None:
    assert is_public(f"::ffff:{address}")
    assert is_public(f"64:ff9b::{hextets(address)}")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.1", "0x7f.1", "0x7f.0.0.1", "0x7f000001", "2130706433"),
        *(
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "\uff11\uff12\uff17.0.0.1",
            "127\u30020\u30020\u30021",
            "127\uff0e0\uff0e0\uff0e1",
        ),
        *("0", "0.0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]"),
        *("[::127.0.0.1]", "169.254.169.254", "0xA9FEA9FE", "2852039166", "[fd00:ec2::254]"),
        *("10.0.0.1", "192.168.0.1", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "①②⑦.0.0.1"),
        *("[fe80::1%25eth0]", "[fe80::1%eth0]"),
    ],
)
def test_spellings_of_private_addresses_in_urls(host: str) -> None:
    for url in (f"http://{host}/", f"https://{host}:8080/a?b#c", f"HTTP://u:p@{host}"):
        with pytest.raises(FetchError) as refused:
            parse_url(url)
        assert refused.value.failure is Failure.PRIVATE_ADDRESS, url


@pytest.mark.parametrize(
    ("spelling", "host"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST.", "localhost"),
        ("ⓛocalhost", "localhost"),
        ("127.1", "127.0.0.1"),
        ("[::FFFF:127.0.0.1]", "::ffff:7f00:1"),
        ("[0:0::1]", "::1"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("a_b.-x.example", "a_b.-x.example"),
        ("8.8.2056", "8.8.8.8"),
    ],
)
def test_hosts_have_one_spelling(spelling: str, host: str) -> None:
    assert host_of(f"http://{spelling}:81/x") == host
    target = parse_url(f"http://{spelling}:81/x", frozenset({host}))
    assert (target.host, target.port, target.free) == (host, 81, True)
    assert target.url.raw_host == host
    assert canonical_host(host) == host


@pytest.mark.parametrize(
    "host",
    ["a..b", ".", "..", ".a", "a b", "a%00b", "%31%32%37.0.0.1", "1.2.3.4.5", "a.256.0x", "a.1"],
)
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(FetchError) as refused:
        parse_url(f"http://{host}/")
    assert refused.value.failure is Failure.BAD_URL
    assert host_of(f"http://{host}/") == ""


def test_addresses_and_names() -> None:
    assert is_address("::1")
    assert is_address("10.0.0.1")
    assert not is_address("a.example")
