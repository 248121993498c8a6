"""A medium is what its bytes are."""

import base64
from io import BytesIO

import pytest
from PIL import Image

from tests.flow.world import picture
from worker import media


def encoded(form: str, size: tuple[int, int] = (12, 7)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, "teal").save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("form", "media_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/gif")],
)
def test_images_are_recognised_and_measured(form: str, media_type: str) -> None:
    found = media.inspect(encoded(form))
    assert (found.media_type, found.width, found.height) == (media_type, 12, 7)


def box(kind: bytes, content: bytes = b"x" * 16) -> bytes:
    return (8 + len(content)).to_bytes(4) + kind + content


def ftyp(brand: bytes) -> bytes:
    return box(b"ftyp", brand + b"\0\0\x02\0" + brand + b"iso2avc1mp41")


def element(name: bytes, content: bytes) -> bytes:
    """An EBML element whose length is written in eight bytes, as muxers do that write it afterwards."""
    return name + (1 << 56 | len(content)).to_bytes(8) + content


FTYP, MOOV, MDAT = ftyp(b"isom"), box(b"moov"), box(b"mdat")
LARGE_MDAT = (1).to_bytes(4) + b"mdat" + (32).to_bytes(8) + b"x" * 16
OPEN_MDAT = (0).to_bytes(4) + b"mdat" + b"x" * 16
FRAGMENTS = b"".join((box(b"styp"), box(b"moof"), MDAT)) * 3
CLUSTER = element(b"\x1fC\xb6u", b"x" * 16)
SEGMENT = element(b"\x18S\x80g", element(b"\x11M\x9bt", b"x") + CLUSTER)
UNENDING_SEGMENT = b"\x18S\x80g\x01" + b"\xff" * 7 + CLUSTER  # as a recorder writes it that does not seek


def ebml(doc_type: bytes, *, width: int = 8) -> bytes:
    inside = b"\x42\x86\x81\x01" + b"\x42\x82" + bytes([0x80 | len(doc_type)]) + doc_type
    length = (1 << 7 * width | len(inside)).to_bytes(width)
    return b"\x1aE\xdf\xa3" + length + inside


@pytest.mark.parametrize("brand", [b"isom", b"mp42", b"mp41", b"avc1", b"iso2", b"iso5", b"iso6", b"dash", b"M4V "])
@pytest.mark.parametrize(
    "boxes",
    [
        MOOV + MDAT, MDAT + MOOV, box(b"free", b"") + LARGE_MDAT + MOOV, MOOV + OPEN_MDAT, MOOV + FRAGMENTS,
        MOOV + MDAT + b"and what a tool left behind",
    ],
)  # fmt: skip
def test_an_mp4_is_recognised(brand: bytes, boxes: bytes) -> None:
    found = media.inspect(ftyp(brand) + boxes)
    assert (found.media_type, found.extension, found.width) == ("video/mp4", "mp4", None)


@pytest.mark.parametrize("width", [1, 2, 8])
@pytest.mark.parametrize("segment", [SEGMENT, UNENDING_SEGMENT])
def test_a_webm_is_recognised(width: int, segment: bytes) -> None:
    assert media.inspect(ebml(b"webm", width=width) + segment).media_type == "video/webm"


@pytest.mark.parametrize(
    "content",
    [
        FTYP, FTYP + bytes(64), FTYP + MOOV, FTYP + MDAT, FTYP + MOOV + box(b"mdat", b""), FTYP + MOOV + MDAT[:-1],
        FTYP + MOOV[:-1], FTYP + box(b"free", MOOV + MDAT), FTYP + b"\0\0\0\x07free" + MOOV + MDAT,
        FTYP + box(b"free", b"") * 20_000 + MOOV + MDAT, ftyp(b"avif") + box(b"meta") + MDAT, FTYP + b"\0\0\0\x01mdat",
        b"\x1aE\xdf\xa3<html><script>alert(1)</script></html>", b"\x1aE\xdf\xa3", ebml(b"matroska") + SEGMENT,
        ebml(b"webm"), ebml(b"webm") + element(b"\x18S\x80g", b"x" * 16), ebml(b"webm") + b"<html>" + SEGMENT,
        b"\x1aE\xdf\xa3\x00" + ebml(b"webm")[5:] + SEGMENT,
    ],
)  # fmt: skip
def test_a_head_without_a_clip_is_not_kept(content: bytes) -> None:
    with pytest.raises(media.UnfitMedium):
        media.inspect(content)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"hello", b"<html><script>alert(1)</script></html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7", b"MZ\x90\x00", encoded("BMP"), encoded("PNG")[:40],
        encoded("JPEG2000"), encoded("AVIF"),
    ],
)  # fmt: skip
def test_what_a_browser_might_run_or_cannot_show_is_not_kept(content: bytes) -> None:
    with pytest.raises(media.UnfitMedium):
        media.inspect(content)


def test_a_bomb_is_not_kept() -> None:
    with pytest.raises(media.UnfitMedium):
        media.inspect(encoded("PNG", (20_000, 10_000)))


def test_a_medium_may_be_as_large_as_the_limit_and_no_larger() -> None:
    """What stands behind the picture is no business of a browser's, so nothing else would refuse it."""
    largest = encoded("PNG").ljust(media.MAXIMUM_MEDIUM_BYTES, b"\0")
    assert media.inspect(largest).media_type == "image/png"
    with pytest.raises(media.UnfitMedium, match="is more than 67108864"):
        media.inspect(largest + b"\0")


def test_html_that_calls_itself_png_stays_html() -> None:
    disguised = base64.b64decode(picture().split(",")[1])[:4] + b"<html>"
    with pytest.raises(media.UnfitMedium):
        media.inspect(disguised)
