"""Texts while they are made: what RunPod gives once is kept once, and what is settled is what was shown."""

from typing import Any

import pytest

from shared import chunks
from shared.chunks import MAXIMUM_TEXT_CHARACTERS
from tests.flow.texts import NOT_AT_ALL, NOW, PRICE, claimed, drain, shown, text_of, trouble, writing
from tests.flow.world import World
from worker import audit, finish, poll, stream, streams, submit, sweep
from worker.chunks import Drained


async def test_a_text_is_shown_while_it_is_made(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "The sea ")
    await drain(world)
    assert await shown(world, generation_id) == "The sea "
    open_one = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert (open_one["text_so_far"], open_one["outputs"]) == ("The sea ", [])
    assert await poll.poll_once(world.context) == 1, "that it runs is found by its stream, and its owner looks at once"
    assert await world.state(generation_id) == "running"

    world.runpod.stream(job.id, "is ")
    world.runpod.stream(job.id, "calm.")
    await drain(world)
    world.runpod.complete(job.id, ["The sea ", "is ", "calm."])
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "The sea is calm."
    assert await world.value("SELECT count(*) FROM generation_chunks") == 2, "a drain writes one chunk"
    assert await world.credits_of(person) == (100 - PRICE, 0)
    assert await trouble(world) is None


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (["plain ", "\n", "text"], "plain \ntext"),
        (
            [
                'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n',
                'data: {"choices":[{"delta":{"content":"Hel\\u2028"}}]}\n\n',
                'data: {"choices":[{"delta":{"content":" lo"}}]}\n\ndata: [DONE]\n\n',
            ],
            "Hel\u2028 lo",
        ),
        ([{"choices": [{"delta": {"content": "a"}}]}, {"choices": [{"delta": {"content": " b"}}]}], "a b"),
        ([{"choices": [{"tokens": ["a", " "]}]}, {"choices": [{"tokens": ["b"]}], "usage": {"output": 3}}], "a b"),
    ],
)
@pytest.mark.parametrize("aggregated", [True, False])
async def test_every_shape_of_chunks_settles_as_it_was_shown(
    world: World, said: list[Any], text: str, *, aggregated: bool
) -> None:
    """Also where the worker leaves /status without output: the chunks are the text."""
    person = await world.person()
    generation_id, job = await writing(world, person)
    for chunk in said:
        world.runpod.stream(job.id, chunk)
        await drain(world)
    if aggregated:
        world.runpod.complete(job.id, said)
    else:
        world.runpod.complete(job.id)
    assert await shown(world, generation_id) == text
    before = await world.value("SELECT count(*) FROM generation_chunks")
    await world.settle_all()
    assert await text_of(world, person, generation_id) == text
    assert await world.value("SELECT count(*) FROM generation_chunks") == before, "there was nothing to mend"
    assert await world.charged(generation_id) == PRICE


async def test_the_webhook_comes_first_and_waits_for_the_last_drain(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    await drain(world)
    world.runpod.stream(job.id, "two")
    world.runpod.complete(job.id)
    await world.runpod.deliver_webhooks()
    await poll.poll_once(world.context)
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "finishing", "what is not drained would be lost to the person"
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "one two"
    assert await world.charged(generation_id) == PRICE


async def test_a_webhook_takes_no_chunk_from_a_drain_under_way(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "all of it")
    mine = await claimed(world)
    read = await world.context.runpod.stream("text", job.id, hold=NOT_AT_ALL)
    world.runpod.complete(job.id)
    await world.runpod.deliver_webhooks()
    await poll.poll_once(world.context)
    assert await stream.heed(world.context, mine, read) is not None, "the webhook fenced what cannot be read again"
    await stream.follow(world.context, mine, ending=NOW)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "all of it"


async def test_a_text_that_is_tried_again_is_shown_anew(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "half of ")
    await drain(world)
    world.runpod.fail(job.id, "out of memory")
    await world.settle_all()
    path = f"/v1/generations/{generation_id}"
    assert (await person.http.post(f"{path}/retry")).status_code == 202
    assert (await person.http.get(path)).json()["text_so_far"] is None
    await submit.submit_once(world.context)
    assert (await person.http.get(path)).json()["text_so_far"] is None, "what broke off is not its text"
    again = world.runpod.take("text")
    assert again is not None
    world.runpod.stream(again.id, "all ")
    await drain(world)
    assert (await person.http.get(path)).json()["text_so_far"] == "all "
    world.runpod.stream(again.id, "of it")
    world.runpod.complete(again.id)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "all of it"
    assert await world.credits_of(person) == (100 - PRICE, 0)
    events = (await person.http.get(f"{path}/events")).text
    assert [line for line in events.split("\n") if line in ("event: chunk", "event: text")] == [
        "event: text",
        "event: chunk",
    ], "what broke off is not told any more; who heard it is told to replace it"


async def test_a_text_longer_than_we_keep_is_not_kept_and_costs_nothing(world: World) -> None:
    person = await world.person()
    half = "x" * (MAXIMUM_TEXT_CHARACTERS // 2)
    generation_id, job = await writing(world, person, half, half)
    await drain(world)
    world.runpod.stream(job.id, "!")
    await drain(world)
    assert await trouble(world) == "oversized"
    assert len(await shown(world, generation_id)) == MAXIMUM_TEXT_CHARACTERS
    asked = len(world.runpod.calls_to("stream"))
    world.runpod.stream(job.id, "more")
    await drain(world)
    assert len(world.runpod.calls_to("stream")) == asked, "it is not drained any further"
    world.runpod.complete(job.id)
    await world.settle_all()
    assert (await world.reasons(generation_id))[-1] == "unfit-output"
    assert await world.credits_of(person) == (100, 0)


async def test_chunks_are_bounded_in_number(world: World) -> None:
    person = await world.person()
    _, job = await writing(world, person, "a")
    await world.execute("UPDATE generation_streams SET chunks = $1", chunks.MAXIMUM_CHUNKS)
    await drain(world)
    assert await trouble(world) == "oversized"
    world.runpod.complete(job.id, ["a"])
    await world.settle_all()


async def test_a_full_output_needs_no_last_drain(world: World) -> None:
    """What was not drained is in it; a drain that comes later writes nothing."""
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    await drain(world)
    world.runpod.stream(job.id, "two")
    world.runpod.complete(job.id, ["one ", "two"])
    late = await claimed(world)
    await world.poll_now()
    await finish.finish_once(world.context)
    assert await text_of(world, person, generation_id) == "one two"
    assert await world.value("SELECT count(*) FROM generation_chunks WHERE replaces") == 0, "only the rest was missing"
    await stream.follow(world.context, late, ending=NOW)
    assert await text_of(world, person, generation_id) == "one two"


async def test_another_attempt_shows_its_own_text(world: World) -> None:
    """RunPod lost the submit's answer and has two jobs; the text of the one that is pursued takes the other's place."""
    person = await world.person()
    generation_id, _ = await writing(world, person, "the first says ")
    await drain(world)
    reader = await claimed(world)
    await world.execute("UPDATE generations SET attempt = 2 WHERE id = $1", generation_id)
    late = Drained(state=None, text="on", count=1, body=b'["on"]')
    assert await stream.heed(world.context, reader, late) == NOT_AT_ALL, "it may be turned to again"
    assert await shown(world, generation_id) == "the first says on"
    await world.execute(
        "INSERT INTO generation_streams (generation_id, attempt, user_id, due_at) VALUES ($1, 2, $2, now())",
        generation_id,
        person.user_id,
    )
    second = world.runpod.submit("text", {"input": {"prompt": "again"}})
    await world.execute("UPDATE generations SET remote_id = $2 WHERE id = $1", generation_id, second.id)
    assert world.runpod.take("text") is second
    world.runpod.stream(second.id, "the second ")
    await drain(world)
    assert await shown(world, generation_id) == "the second "
    assert await stream.heed(world.context, reader.after(late), late) == NOT_AT_ALL
    assert await shown(world, generation_id) == "the second ", "two texts are not mixed"
    async with world.context.pool.acquire() as connection:
        await streams.give_back(connection, reader, wait=NOT_AT_ALL)
    await drain(world)
    assert await world.value("SELECT trouble FROM generation_streams WHERE attempt = 1") == "superseded"
    world.runpod.stream(second.id, "says")
    world.runpod.complete(second.id)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "the second says"


async def test_a_settled_text_that_is_not_what_was_shown_is_found(world: World) -> None:
    person = await world.person()
    _, job = await writing(world, person, "one")
    await drain(world)
    world.runpod.complete(job.id)
    await world.settle_all()
    assert not any((await audit.audit_once(world.context)).values())
    await world.execute("UPDATE generation_chunks SET text = 'won'")
    assert (await audit.audit_once(world.context))["text_is_its_chunks"] == 1
    await world.execute("UPDATE generation_chunks SET text = 'one'")


async def test_what_has_served_is_forgotten_a_day_after_the_end(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "one")
    await drain(world)
    world.runpod.complete(job.id)
    await world.settle_all()
    await world.submitted(person, type="text")
    await world.execute("UPDATE generation_streams SET ended_at = ended_at - interval '2 days'")
    await sweep.prune(world.context)
    assert await shown(world, generation_id) == "one", "the generation ended just now"
    await world.execute("UPDATE generations SET finished_at = finished_at - interval '2 days'")
    await sweep.prune(world.context)
    assert await shown(world, generation_id) == ""
    assert await world.value("SELECT count(*) FROM generation_streams") == 1, "the one that is open stays"
    reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert reply["outputs"][0]["text"] == "one"


async def test_a_batch_is_not_streamed(world: World) -> None:
    """Its chunks could not be told apart."""
    person = await world.person()
    generation_id, job = await writing(world, person, batch_size=2)
    await drain(world)
    assert world.runpod.calls_to("stream") == []
    world.runpod.complete(job.id, [{"choices": [{"tokens": ["a"]}, {"tokens": ["b"]}]}])
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(generation_id) == 2 * PRICE
