"""What is asked for is what stands in the list, and what is written down holds no secret."""

import pytest

from redaction_core.errors import Failure
from redaction_core.fetching import host_of, printable_url
from redaction_core.fetching.outcome import FetchError
from redaction_core.fetching.urls import parse_url


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("http://a.example", "http://a.example/"),
        (" HTTPS://A.example:443/x \n", "https://a.example/x"),
        ("http://a.example:80?q#f", "http://a.example/?q"),
        ("http://a.example:8080/a?x=%2F%2b+~&y=[1]|", "http://a.example:8080/a?x=%2F%2b+~&y=[1]|"),
        ("http://a.example/a b/ü?ß", "http://a.example/a%20b/%C3%BC?%C3%9F"),
        ("http://a.example/a/../b/./c", "http://a.example/b/c"),
        ("http://u:p@a.example/@x", "http://a.example/@x"),
    ],
)
def test_urls_are_asked_for_as_they_stand(text: str, asked: str) -> None:
    assert str(parse_url(text).url) == asked


@pytest.mark.parametrize(
    "text",
    [
        *("", "a.example/x.jpg", "//a.example/", "ftp://a.example/", "file:///etc/passwd"),
        *("javascript:alert(1)", "data:image/png;base64,AA", "http:/a.example/", "http:a.example"),
        *("http://", "http:///x", "http://a.example:99999/", "http://a.example:0/", "http://[::1/"),
        *("http://a.example:8a/", "http://h\\@evil.example/", "http://u:p@/", "http://[v1.x]/"),
        *("http://a.example/\x00", "http://a.exa\nmple/", "http://a.example/a\tb", "\u2028"),
        *("http://a.example/\x9b", "http://a.example/" + "x" * 20_000, "gopher://a.example/"),
        "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 130 + "example/",
        "http://\ud800.example/",
    ],
)
def test_urls_that_are_none(text: str) -> None:
    with pytest.raises(FetchError) as refused:
        parse_url(text)
    assert refused.value.failure is Failure.BAD_URL


@pytest.mark.parametrize(
    "text",
    [
        *("http://me:s3cret@/x", "http://me:s3cret@a.example:99999/", "http://me:s3cret@[::1/"),
        *("http://me:s3cret@10.0.0.1/", "http://me:s3cret@a..b/", "ftp://me:s3cret@a.example"),
        *("http://me:s3/cret@a.example/", "http://me:s3cret@a.exa\x00mple/"),
    ],
)
def test_refusals_repeat_no_credentials(text: str) -> None:
    with pytest.raises(FetchError) as refused:
        parse_url(text)
    assert "cret" not in str(refused.value)
    assert "cret" not in printable_url(text)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://a.example/x.jpg?w=1&h=2", "http://a.example/x.jpg?w=1&h=2"),
        ("https://a.example/@user/x@2x.jpg", "https://a.example/@user/x@2x.jpg"),
        ("http://me:pw@a.example:81/x", "http://a.example:81/x"),
        ("http://me:p@w@a.example/x", "http://a.example/x"),
        ("http://me@a.example/x", "http://a.example/x"),
        ("http://me:pw@[::1]:81/x", "http://[::1]:81/x"),
        ("http://me:p/w@a.example/x@y", "***@y"),
        ("http://me:p?w@a.example/x", "***@a.example/x"),
        ("http:/me:pw@a.example/x", "***@a.example/x"),
        ("me:pw@a.example/x", "***@a.example/x"),
        ("http:\\\\me:pw@a.example/x", "***@a.example/x"),
        ("http:/\t/me:pw@a.example/x", "***@a.example/x"),
        (
            "http://a.example/x?url=http://me:pw@b.example/",
            "http://a.example/x?url=http://***@b.example/",
        ),
        (
            "http://a.example/?u=http%3A%2F%2Fme%3Apw%40b/",
            "http://a.example/?u=http%3A%2F%2F***@b/",
        ),
        ("http://a.example/x\r\nEvil: 1", "http://a.example/x\\r\\nEvil: 1"),
        (
            "http://a.example/\x1b[31m\u202e\u2028\ud800",
            "http://a.example/\\x1b[31m\\u202e\\u2028\\ud800",
        ),
        ("http://a.example/#access_token=abc&x=1", "http://a.example/#access_token=***&x=1"),
        ("http://a.example/?q=a;token=abc;r=b", "http://a.example/?q=a;token=***;r=b"),
        ("http://a.example/?token=", "http://a.example/?token="),
        ("", ""),
    ],
)
def test_what_is_written_down(url: str, shown: str) -> None:
    assert printable_url(url) == shown


@pytest.mark.parametrize(
    "name",
    [
        *("signature", "Signature", "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token"),
        *("token", "access_token", "key", "apikey", "api_key", "api-key", "sig", "password"),
        *("secret", "client_secret", "auth", "AWSAccessKeyId", "X-Goog-Signature", "jwt"),
        *("to%6Ben", "hmac", "GoogleAccessId", "Key-Pair-Id"),
    ],
)
def test_parameters_that_look_like_secrets(name: str) -> None:
    shown = printable_url(f"https://a.example/x.jpg?w=1&{name}=s3cret%2F&h=2")
    assert shown == f"https://a.example/x.jpg?w=1&{name}=***&h=2"


def test_long_urls_are_shown_in_full() -> None:
    url = "http://a.example/" + "x" * 100_000
    assert printable_url(url) == url


@pytest.mark.parametrize("url", ["", "nonsense", "http://", "http://[", "\x00", "http://a b/"])
def test_no_host(url: str) -> None:
    assert host_of(url) == ""


def test_a_long_url_is_shown_in_time_that_grows_with_it() -> None:
    # What is quadratic would take hours.
    for odd in (":" * 900_000, "//:@" * 200_000, "%2f%2f" * 150_000 + ":"):
        assert "a.example" in printable_url(f"http://a.example/x//{odd}")
    nested = "http://e.org/f?u=http%3A%2F%2Fme%3Apw%40h%2Fx&b=//u:pw@h/"
    assert "pw" not in printable_url(nested)
