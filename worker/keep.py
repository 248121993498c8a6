"""Copying what a model delivered to our storage, each with a thumbnail: RunPod forgets results, addresses expire."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import structlog

from shared.chunks import MAXIMUM_TEXT_CHARACTERS
from shared.errors import StorageUnavailable
from shared.generations import Generation, Type
from shared.storage import Storage
from worker import media, thumbnails
from worker.context import Context
from worker.fetch import NotFetched, fetch, is_plain
from worker.media import Medium
from worker.memory import COPIES_OF_MEDIUM
from worker.outputs import Item

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


LAST_TRY = timedelta(seconds=200)
"""Less than a round of copying may take (worker/finish.py)."""

Output = dict[str, Any]


async def keep(
    context: Context,
    generation: Generation,
    items: Sequence[Item],
    *,
    last: bool = False,
    within: timedelta = LAST_TRY,
) -> list[Output]:
    """Copy every item. More than was ordered is not kept.

    An item that can never be kept is left out, so that it is not charged; when none is left, the last reason counts.
    `last`: this is the last try. What cannot be copied now is kept by its own address or left out, too, by policy;
    nothing may be left then. Each item has its share of the time `within` that it ends: some that never answer must not
    take it from the others.

    Raises:
        UnfitMedium: no item can ever be kept.
        NotFetched, StorageUnavailable: one cannot be copied just now, and there is time.
    """
    share = within.total_seconds() / max(1, len(items)) if last else None
    outputs: list[Output] = []
    unfit: media.UnfitMedium | None = None
    by_reference = context.settings.unkept_outputs == "reference"
    for item in items:
        if len(outputs) == generation.batch_size:
            break
        try:
            async with asyncio.timeout(share):
                outputs.append(await _keep_one(context, generation, item, index=len(outputs)))
        except media.UnfitMedium as error:
            log.warning("output.unfit", generation_id=str(generation.id), reason=str(error))
            unfit = error
        except (NotFetched, StorageUnavailable, TimeoutError) as error:
            if not last:
                raise
            log.warning("output.lost", generation_id=str(generation.id), reason=str(error) or type(error).__name__)
            outputs += refer(generation, [item], first=len(outputs)) if by_reference else []
    if unfit is not None and not outputs:
        raise unfit
    return outputs


def refer(generation: Generation, items: Sequence[Item], *, first: int = 0) -> list[Output]:
    """What can be had of items without copying any: texts, and the addresses that media have of their own.

    An address is the model's: it is handed on to the person as it is, never fetched or shown in our name.
    """
    outputs: list[Output] = []
    for item in items:
        index = first + len(outputs)
        if index == generation.batch_size:
            break
        if item.text is not None and len(item.text) <= MAXIMUM_TEXT_CHARACTERS:
            outputs.append(text_output(item.text, index=index))
        elif item.url is not None and is_plain(item.url):
            outputs.append({"index": index, "kind": _kind(generation), "url": item.url, "kept": False})
            log.warning("output.referenced", generation_id=str(generation.id), index=index)
    return outputs


async def _keep_one(context: Context, generation: Generation, item: Item, *, index: int) -> Output:
    if item.text is not None:
        if len(item.text) > MAXIMUM_TEXT_CHARACTERS:
            msg = f"a text of {len(item.text)} characters"
            raise media.UnfitMedium(msg)
        return text_output(item.text, index=index)
    async with AsyncExitStack() as held:
        content = item.content if item.content is not None else await _fetched(context, item.url or "", held)
        medium = await asyncio.to_thread(media.inspect, content)
        _check_ordered(generation, medium)
        key = Storage.key(generation.id, content=content, extension=medium.extension)
        await context.storage.put(key, content)
        return {
            "index": index,
            "kind": _kind(generation),
            "media_type": medium.media_type,
            "key": key,
            "width": medium.width,
            "height": medium.height,
            "bytes": len(content),
            **await _thumbnail(context, generation, content, medium),
        }


def text_output(text: str, *, index: int, partial: bool = False) -> Output:
    """A text as an output. `partial`: it broke off."""
    flag = {"partial": True} if partial else {}
    return {"index": index, "kind": "text", "media_type": "text/plain", "text": text, **flag}


def _check_ordered(generation: Generation, medium: Medium) -> None:
    """A still is no clip, even a moving picture is one, and a clip is no picture.

    Workers give what their workflow saved: ComfyUI lists the still of SaveImage beside the clip of SaveVideo.

    Raises:
        UnfitMedium: it is not what was ordered.
    """
    if generation.type is Type.VIDEO and not medium.moves:
        msg = "a still, where a clip was ordered"
        raise media.UnfitMedium(msg)
    if generation.type is not Type.VIDEO and medium.is_clip:
        msg = "a clip, where a picture was ordered"
        raise media.UnfitMedium(msg)


def _kind(generation: Generation) -> str:
    return "video" if generation.type is Type.VIDEO else "image"


async def _fetched(context: Context, url: str, held: AsyncExitStack) -> bytes:
    """The bytes behind an address; the memory that they take is on `held`."""

    async def make_room(size: int) -> None:
        await held.enter_async_context(context.memory.media.hold(COPIES_OF_MEDIUM * size))

    try:
        return await fetch(context.outside, url, make_room=make_room)
    except NotFetched as error:
        if error.again:
            raise
        raise media.UnfitMedium(str(error)) from error


async def _thumbnail(
    context: Context, generation: Generation, content: bytes, medium: Medium
) -> Mapping[str, Mapping[str, Any]]:
    """The member `thumbnail` of an output; none for videos, huge pictures, and what none can be made of or kept."""
    weight = thumbnails.weight(medium)
    if weight is None or weight > context.memory.pixels.total:
        return {}
    try:
        async with context.memory.pixels.hold(weight):
            made = await asyncio.to_thread(thumbnails.make, content)
        key = Storage.key(generation.id, content=made.content, extension="thumbnail.webp")
        await context.storage.put(key, made.content)
    except (thumbnails.NoThumbnail, StorageUnavailable) as error:
        log.warning("thumbnail.missing", generation_id=str(generation.id), reason=str(error))
        return {}
    return {
        "thumbnail": {
            "key": key,
            "media_type": thumbnails.MEDIA_TYPE,
            "width": made.width,
            "height": made.height,
            "bytes": len(made.content),
        }
    }
