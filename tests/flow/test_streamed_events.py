"""What a person hears of a text while it is made: every event once, in one order, from wherever they left."""

import httpx
import orjson

from tests.flow.texts import drain, text_of, writing
from tests.flow.world import World


async def test_the_person_hears_every_event_in_one_order(world: World) -> None:
    """Ids are one durable order over transitions and chunks: cut anywhere, nothing is lost or heard twice."""
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    await drain(world)
    await world.poll_now()
    world.runpod.stream(job.id, "two ")
    await drain(world)
    world.runpod.complete(job.id, ["one ", "2 ", "three"])
    await world.settle_all()
    reply = await person.http.get(f"/v1/generations/{generation_id}/events")
    events = [block for block in reply.text.split("\n\n") if block.startswith("id: ")]
    named = [dict(line.split(": ", 1) for line in block.splitlines()) for block in events]
    assert [(each["id"], each["event"]) for each in named] == [
        ("1", "transition"),
        ("2", "transition"),
        ("3", "transition"),
        ("3.1", "chunk"),
        ("4", "transition"),
        ("4.2", "chunk"),
        ("5", "transition"),
        ("5.3", "text"),
        ("6", "transition"),
    ]
    for place, each in enumerate(named):
        headers = {"Last-Event-ID": each["id"]}
        rest = await person.http.get(f"/v1/generations/{generation_id}/events", headers=headers)
        heard = [line.removeprefix("id: ") for line in rest.text.split("\n") if line.startswith("id: ")]
        assert heard == [later["id"] for later in named[place + 1 :]]
    assert rest.status_code == httpx.codes.NO_CONTENT


async def test_a_reply_says_where_its_events_go_on(world: World) -> None:
    """Its text and what is heard after its id are the whole text, each word once."""
    person = await world.person()
    generation_id, job = await writing(world, person)
    path = f"/v1/generations/{generation_id}"
    replies = [(await person.http.get(path)).json()]
    for word in ("one ", "two ", "three"):
        world.runpod.stream(job.id, word)
        await drain(world)
        replies.append((await person.http.get(path)).json())
        await world.poll_now()
    world.runpod.complete(job.id)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "one two three"
    assert [reply["last_event_id"] for reply in replies] == ["3", "3.1", "4.2", "4.3"]
    for reply in replies:
        rest = await person.http.get(f"{path}/events?starting_after={reply['last_event_id']}")
        heard = [orjson.loads(line.removeprefix("data: ")) for line in rest.text.split("\n") if "data: " in line]
        said = "".join(event["text"] for event in heard if "text" in event)
        assert (reply["text_so_far"] or "") + said == "one two three"
    after = (await person.http.get(path)).json()["last_event_id"]
    assert (await person.http.get(f"{path}/events?starting_after={after}")).status_code == httpx.codes.NO_CONTENT
