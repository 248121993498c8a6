"""The stream behind the page: whoever comes back has missed nothing and hears nothing twice."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from api.places import TOLD_SECONDS, Told
from api.state import State
from api.web.live import BATCH, REACH, Follower, _position
from api.web.rendering import Renderer
from api.web.studio import Person
from tests.flow.world import Person as Somebody
from tests.flow.world import World, pictures
from worker import stream as drain
from worker import submit


def follower(world: World, person: Somebody, position: datetime, *, batch: int = BATCH) -> Follower:
    state: State = world.app.state.twin
    renderer: Renderer = world.app.state.renderer
    return Follower(state, renderer, Person(person.user_id, ZoneInfo("UTC")), position, batch)


async def said(stream: Follower) -> str:
    return b"".join(await stream.look()).decode()


async def test_a_change_is_said_once(world: World) -> None:
    person = await world.person()
    stream = follower(world, person, datetime.now(UTC))
    assert "100</strong>" in await said(stream), "the first look tells the balance"
    generation_id = await world.ask(person, prompt="a kite")
    first = await said(stream)
    assert f"event: created\ndata: {generation_id}" in first
    assert f'id="g-{generation_id}"' in first
    assert "Reserved" in first
    assert "event: credits" in first
    assert await said(stream) == ""
    await submit.submit_once(world.context)
    second = await said(stream)
    assert "event: created" not in second
    assert "In the model" in second
    await world.settle_all()


async def test_whoever_comes_back_hears_what_happened_meanwhile(world: World) -> None:
    person = await world.person()
    generation_id = await world.ask(person, prompt="a kite")
    stream = follower(world, person, datetime.now(UTC))
    last_id = next(line for line in (await said(stream)).splitlines() if line.startswith("id: ")).removeprefix("id: ")
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    back = await said(follower(world, person, _position(last_id, None)))
    assert f'id="g-{generation_id}"' in back
    assert "Completed" in back
    assert "Image completed; 5 credits charged." in back
    assert 'id="pictures"' in back


async def test_what_one_look_does_not_read_the_next_one_does(world: World) -> None:
    person = await world.person()
    stream = follower(world, person, datetime.now(UTC), batch=2)
    await said(stream)
    made = [await world.ask(person, type="text") for _ in range(5)]
    heard = [await said(stream) for _ in range(3)]
    assert [part.count("event: created") for part in heard] == [2, 2, 1]
    assert not stream.behind
    made.append(await world.ask(person, type="text"))
    heard = [await said(stream) for _ in range(4)]
    assert [part.count("event: created") for part in heard] == [0, 0, 1, 0]
    assert f"data: {made[-1]}" in heard[2]
    await world.settle_all()


async def test_what_runs_does_not_keep_the_rest_waiting(world: World) -> None:
    person = await world.person()
    jobs = []
    for _ in range(3):
        generation_id = await world.submitted(person, type="video")
        jobs.append(world.runpod.take("video"))
        await world.poll_now()
        assert await world.state(generation_id) == "running"
    stream = follower(world, person, datetime.now(UTC) + timedelta(minutes=1), batch=2)
    await said(stream)
    assert not stream.behind, "what runs and has not changed does not fill the page"
    assert jobs[-1] is not None
    world.runpod.progress(jobs[-1].id, "half done")
    await world.poll_now()
    assert "half done" in await said(stream)


async def test_the_place_in_line_is_told_as_it_changes(world: World) -> None:
    other, person = await world.person(), await world.person()
    await world.ask(other)
    await world.ask(person, prompt="a kite")
    stream = follower(world, person, datetime.now(UTC) + timedelta(minutes=1))
    assert "2nd in line." in await said(stream), "the page has its card from before the stream"
    assert await said(stream) == ""
    await submit.submit_once(world.context, limit=1)
    world.app.state.twin.estimates.forget()
    assert "Next in line." in await said(stream)
    await world.settle_all()


async def test_the_time_that_is_left_is_told_as_it_changes(world: World) -> None:
    person, now = await world.person(), [1000.0]
    for _ in range(5):
        await world.submitted(person)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    await world.execute(
        "UPDATE generations SET submitted_at = finished_at - interval '1 min' WHERE finished_at IS NOT NULL"
    )
    world.app.state.twin.estimates.forget()
    generation_id = await world.submitted(person, prompt="a kite")
    stream = follower(world, person, datetime.now(UTC) + timedelta(minutes=1))
    stream.clock = lambda: now[0]
    sent_ago = "UPDATE generations SET submitted_at = now() - make_interval(secs => $2) WHERE id = $1"
    await world.execute(sent_ago, generation_id, 10.5)
    assert "queue, about 50 s." in await said(stream)
    await world.execute(sent_ago, generation_id, 30.5)
    assert await said(stream) == "", "a time was told just now"
    now[0] += TOLD_SECONDS
    assert "queue, about 30 s." in await said(stream)
    now[0] += TOLD_SECONDS
    assert await said(stream) == ""
    await world.cancel_all()


async def test_a_text_that_grows_is_not_shown_anew_to_say_when_it_is_whole(world: World) -> None:
    """Its card carries all that there is of it."""
    person, now = await world.person(), [1000.0]
    generation_id = await world.submitted(person, type="text")
    job = world.runpod.take("text")
    assert job is not None
    stream = follower(world, person, datetime.now(UTC) + timedelta(minutes=1))
    stream.clock = lambda: now[0]
    await said(stream)
    history = {generation_id: Told({"position": None, "held_back": False, "eta_seconds": {"p50": 9, "p90": 9}}, 0)}
    stream._told.update(history)
    stream.arrivals._heard[generation_id] = 7
    assert await said(stream) == ""
    stream.arrivals._heard[generation_id] = 0
    assert f'id="g-{generation_id}"' in await said(stream), "as long as there is nothing to read"
    await world.cancel_all()


async def test_only_ones_own_is_said(world: World) -> None:
    person, other = await world.person(), await world.person()
    stream = follower(world, person, datetime.now(UTC))
    await world.ask(other, prompt="not for you")
    assert "not for you" not in await said(stream)
    await world.settle_all()


async def test_positions_that_make_no_sense_mean_now(world: World) -> None:
    for nonsense in ("", "x", "-1", "9" * 30):
        assert abs((_position(nonsense, None) - datetime.now(UTC)).total_seconds()) < 5


def test_positions_reach_back_an_hour_and_never_ahead() -> None:
    now = datetime.now(UTC)
    assert _position(None, 0) - (now - REACH) < timedelta(seconds=5)
    assert _position("0", None) - (now - REACH) < timedelta(seconds=5)
    assert _position(None, 2**43 - 1) - now < timedelta(seconds=5)
    assert _position("9" * 13, 0) - now < timedelta(seconds=5)


async def test_what_is_tried_again_after_days_is_followed(world: World) -> None:
    person = await world.person()
    generation_id = await world.ask(person, prompt="a kite")
    await world.execute("UPDATE generations SET deadline_at = now() WHERE id = $1", generation_id)
    await world.settle_all()
    await world.execute(
        "UPDATE generations SET created_at = created_at - interval '6 days' WHERE id = $1", generation_id
    )
    stream = follower(world, person, datetime.now(UTC))
    await said(stream)
    await person.http.post(f"/v1/generations/{generation_id}/retry")
    assert f'id="cancel-{generation_id}"' in await said(stream)


async def test_a_text_grows_on_the_page(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person, type="text")
    job = world.runpod.take("text")
    assert job is not None
    await world.poll_now()
    stream = follower(world, person, datetime.now(UTC))
    first = await said(stream)
    assert f'<p class="text-output arriving" id="text-{generation_id}" aria-busy="true"></p>' in first
    assert "being written" not in first

    async def writes(chunk: str) -> str:
        world.runpod.stream(job.id, chunk)
        await world.execute("UPDATE generation_streams SET due_at = now() WHERE due_at IS NOT NULL")
        await drain.stream_once(world.context)
        return await said(stream)

    second = await writes("The <sea> ")
    assert f'hx-target="#text-{generation_id}" hx-swap="beforeend"><span>The &lt;sea&gt; </span>' in second
    assert 'class="card' not in second, "what is there is not sent again"
    assert "The text is being written." in second
    assert "being written" not in await writes("is "), "its beginning is told once"
    assert await said(stream) == ""
    back = await said(follower(world, person, datetime.now(UTC)))
    assert "<span>The &lt;sea&gt; is </span>" in back, "whoever comes back gets what there is"

    world.runpod.complete(job.id, ["The sea was calm."])
    await world.settle_all()
    last = await said(stream)
    assert '<p class="text-output">The sea was calm.</p>' in last
    assert "aria-busy" not in last
    assert await said(stream) == ""


async def test_a_text_that_is_tried_again_between_two_looks_grows_anew(world: World) -> None:
    """Its chunks are counted from one again: what was heard of the one that broke off says nothing of them."""
    person = await world.person()
    generation_id = await world.submitted(person, type="text")
    job = world.runpod.take("text")
    assert job is not None
    stream = follower(world, person, datetime.now(UTC))
    for chunk in ("half ", "of "):
        world.runpod.stream(job.id, chunk)
        await world.execute("UPDATE generation_streams SET due_at = now() WHERE due_at IS NOT NULL")
        await drain.stream_once(world.context)
    assert "half of" in await said(stream)
    world.runpod.fail(job.id, "out of memory")
    await world.settle_all()
    await person.http.post(f"/v1/generations/{generation_id}/retry")
    await submit.submit_once(world.context)
    assert "half of" not in await said(stream)
    again = world.runpod.take("text")
    assert again is not None
    world.runpod.stream(again.id, "all of it")
    await drain.stream_once(world.context)
    assert "<span>all of it</span>" in await said(stream)
    world.runpod.complete(again.id)
    await world.settle_all()


async def test_a_text_that_is_replaced_is_replaced_on_the_page(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person, type="text")
    job = world.runpod.take("text")
    assert job is not None
    world.runpod.stream(job.id, "wrong")
    await drain.stream_once(world.context)
    stream = follower(world, person, datetime.now(UTC))
    assert "<span>wrong</span>" in await said(stream)
    await world.execute(
        "INSERT INTO generation_chunks (generation_id, version, seq, attempt, user_id, text, replaces)"
        " SELECT generation_id, version, 2, attempt, user_id, 'right', true FROM generation_chunks"
        " WHERE generation_id = $1",
        generation_id,
    )
    assert f'hx-target="#text-{generation_id}" hx-swap="innerHTML"><span>right</span>' in await said(stream)
    page = await said(follower(world, person, datetime.now(UTC)))
    assert "<span>right</span>" in page
    assert "wrong" not in page
    world.runpod.complete(job.id, ["right"])
    await world.settle_all()
