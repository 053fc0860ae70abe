"""Originals and masks: found by the same relative path, with any image suffix."""

from pathlib import Path

import pytest

from redaction_core.companions import Companions
from redaction_core.errors import Failure, InputError
from redaction_core.storage import open_store


def decode(data: bytes) -> str:
    if data.startswith(b"bad"):
        raise InputError(Failure.TRUNCATED, "it ends early")
    return data.decode()


def companions(folder: Path) -> Companions[str]:
    return Companions(
        store=open_store(str(folder)),
        decode=decode,
        missing=Failure.MASK_MISSING,
        unreadable=Failure.MASK_UNREADABLE,
        max_bytes=20,
    )


@pytest.mark.parametrize(
    ("key", "there"),
    [
        *(("a.png", "a.png"), ("a.png", "a.jpg"), ("a.jpg", "a.png"), ("a.JPG", "a.tiff")),
        *(("a.png", "a.PNG"), ("a.jpg", "a.JPEG")),
        *(("x/y/a.gif", "x/y/a.webp"), ("a", "a"), ("a", "a.png"), (".a", ".a.png")),
        *(
            ("a.b.png", "a.b.jpeg"),
            ("a.b", "a.bmp"),
            ("x.y/a", "x.y/a.tif"),
            ("ü #%.png", "ü #%.gif"),
        ),
    ],
)
def test_the_suffix_may_differ(tmp_path: Path, key: str, there: str) -> None:
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text(there)

    assert companions(tmp_path).read(key) == there


@pytest.mark.parametrize(
    ("key", "there"),
    [
        *(("a.png", "b.png"), ("a.png", "a.txt"), ("x/a.png", "a.png"), ("a.png", "x/a.png")),
        *(("a.png", "a.png.png"), ("a.b.png", "a.png"), (".a", ".png")),
    ],
)
def test_other_names_do_not_belong_to_it(tmp_path: Path, key: str, there: str) -> None:
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text(there)

    with pytest.raises(InputError) as caught:
        companions(tmp_path).read(key)

    assert caught.value.failure == Failure.MASK_MISSING
    assert str(tmp_path) in caught.value.detail


def test_the_same_name_goes_first(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.tif"):
        (tmp_path / name).write_text(name)

    assert companions(tmp_path).read("a.tif") == "a.tif"
    assert companions(tmp_path).read("a.bmp") == "a.png"


@pytest.mark.parametrize(
    ("content", "detail"),
    [(b"bad", "a.jpg: it ends early"), (b"x" * 21, "a.jpg: 21 bytes, the limit is 20")],
)
def test_what_cannot_be_read_says_which_and_why(
    tmp_path: Path, content: bytes, detail: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(content)

    with pytest.raises(InputError) as caught:
        companions(tmp_path).read("a.png")

    assert (caught.value.failure, caught.value.detail) == (Failure.MASK_UNREADABLE, detail)


def test_names_as_long_as_a_disk_allows(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        companions(tmp_path).read("a" * 253 + ".b")

    assert caught.value.failure == Failure.MASK_MISSING
