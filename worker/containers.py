"""Whether a file that begins like a video has one in it: a head without a clip is not charged.

Only the outermost parts are looked at, which say where each begins and ends; whether it plays is for the browser.
"""

from collections.abc import Iterator

MAXIMUM_BOXES = 10_000
"""Of an MP4, so that a file of nothing but heads is soon over; the longest clips have a few thousand."""
_EBML = b"\x1aE\xdf\xa3"
_DOC_TYPE = b"\x42\x82"
_SEGMENT = b"\x18S\x80g"
_CLUSTER = b"\x1fC\xb6u"


class NoClip(ValueError):
    """There is nothing to see; the message says what is missing."""


def check_mp4(content: bytes) -> None:
    """Look for the index (`moov`) and the pictures (`mdat`) that it leads to.

    Raises:
        NoClip: one of them is missing, empty or cut off.
    """
    missing = {b"moov", b"mdat"}
    for kind, start, end in _boxes(content):
        if kind in missing and end > start:
            if end > len(content):
                msg = f"an MP4 that is cut off in {kind.decode()}"
                raise NoClip(msg)
            missing.remove(kind)
        if not missing:
            return
    msg = f"an MP4 without {' and '.join(sorted(kind.decode() for kind in missing))}"
    raise NoClip(msg)


def _boxes(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where what is inside begins and ends, which may be after the end of a file that was cut off."""
    position = 0
    for _ in range(MAXIMUM_BOXES):
        if position + 8 > len(content):
            return
        size, kind, head = int.from_bytes(content[position : position + 4]), content[position + 4 : position + 8], 8
        if size == 1:  # too large for four bytes
            size, head = int.from_bytes(content[position + 8 : position + 16]), 16
        elif size == 0:  # to the end of the file
            size = len(content) - position
        if size < head:
            return
        yield kind, position + head, position + size
        position += size


def check_webm(content: bytes) -> None:
    """Look for the type in the head, which any Matroska has, and for pictures after it.

    Raises:
        NoClip: it calls itself something else, or is over after the head.
    """
    size = _length(content, len(_EBML))
    if size is None:
        msg = "a WebM without a head"
        raise NoClip(msg)
    start, end = size[1], sum(size)
    if _DOC_TYPE + b"\x84webm" not in content[start:end]:
        msg = "a Matroska that is no WebM"
        raise NoClip(msg)
    if not content.startswith(_SEGMENT, end) or content.find(_CLUSTER, end) < 0:
        msg = "a WebM without pictures"
        raise NoClip(msg)


def _length(content: bytes, position: int) -> tuple[int, int] | None:
    """A length as EBML writes it, in as many bytes as the first has leading zeros and one; and where it ends."""
    if position >= len(content) or content[position] == 0:
        return None
    width = 9 - content[position].bit_length()
    value = int.from_bytes(content[position : position + width]) & ((1 << 7 * width) - 1)
    return value, position + width
