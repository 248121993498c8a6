"""What failed, as staff see it and try it again: over HTTP and from a terminal, by one filter."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from typer.testing import CliRunner

from api.cli.app import app as twin
from tests.flow.again import failed, holds, try_again
from tests.flow.test_held_back import limited
from tests.flow.world import ADMIN, PUBLIC_URL, World, pictures
from worker import finish, submit


@pytest.fixture
async def staff(world: World) -> httpx.AsyncClient:
    """Somebody who may look after it."""
    token, _ = world.issuer.token(ADMIN, authorized_party=PUBLIC_URL, role="admin")
    return await world.stack.enter_async_context(
        httpx.AsyncClient(
            transport=httpx.ASGITransport(world.app),
            base_url=PUBLIC_URL,
            headers={"authorization": f"Bearer {token}"},
        )
    )


async def letters(staff: httpx.AsyncClient, **asked: Any) -> list[dict[str, Any]]:
    reply = await staff.get("/ops/dead-letters", params=asked)
    assert reply.status_code == 200, reply.text
    data: list[dict[str, Any]] = reply.json()["data"]
    return data


async def retry(staff: httpx.AsyncClient, **asked: Any) -> dict[str, Any]:
    reply = await staff.post("/ops/dead-letters/retry", json=asked)
    assert reply.status_code == 200, reply.text
    data: dict[str, Any] = reply.json()
    return data


async def test_a_dead_letter_tells_why_and_every_attempt_and_no_secret(world: World, staff: httpx.AsyncClient) -> None:
    person = await world.person()
    generation_id = await world.submitted(person, prompt="a very private kite")
    url = await world.value("SELECT remote_id FROM generations WHERE id = $1", generation_id)
    job = world.runpod.take("image")
    assert job is not None
    world.runpod.fail(job.id, "no place for a very private kite; told https://x/webhooks/runpod/secret-token")
    await world.poll_now()
    await finish.finish_once(world.context)
    (letter,) = await letters(staff)
    assert letter["id"] == str(generation_id)
    assert (letter["user_id"], letter["type"], letter["endpoint"]) == (person.user_id, "image", "image")
    assert (letter["code"], letter["quoted"], letter["submissions"]) == ("model-failed", 5, 1)
    (attempt,) = letter["attempts"]
    assert (attempt["attempt"], attempt["outcome"], attempt["remote_id"]) == (1, "accepted", url)
    assert letter["exchange"]["remote_status"] == "FAILED"
    assert "no place for [prompt]; told https://x/webhooks/runpod/[token]" in letter["exchange"]["said"]
    assert "private" not in str(letter)
    assert (await person.http.get("/ops/dead-letters")).status_code == 403
    assert (await person.http.post("/ops/dead-letters/retry", json={})).status_code == 403
    assert (await person.http.get(f"/ops/generations/{generation_id}")).status_code == 403


async def test_an_error_that_is_python_in_a_string_is_for_staff_alone(world: World, staff: httpx.AsyncClient) -> None:
    """As worker-vllm fails a job: what its server said, with the prompt in it, in a dict as Python writes it."""
    person = await world.person()
    prompt = 'it\'s "my" kite\nand a fish: 魚'
    generation_id = await world.submitted(person, type="text", prompt=prompt)
    job = world.runpod.take("text")
    assert job is not None
    error = {"message": f"vLLM returned HTTP 400: no place for {prompt}", "type": "BadRequestError", "code": 400}
    world.runpod.fail(job.id, str(error))
    await world.poll_now()
    await finish.finish_once(world.context)
    shown = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert (shown["status"], shown["error"]["code"]) == ("failed", "model-failed")
    assert "vLLM" not in str(shown)
    assert await world.credits_of(person) == (100, 0)
    (letter,) = await letters(staff)
    assert "'message': 'vLLM returned HTTP 400: no place for [prompt]'" in letter["exchange"]["said"]
    assert "kite" not in str(letter)


async def test_one_filter_lists_and_tries_again(world: World, staff: httpx.AsyncClient) -> None:
    person = await world.person()
    first, second = await failed(world, person), await failed(world, person)
    unsent = await world.ask(person, type="text")
    await world.execute("UPDATE generations SET deadline_at = now() WHERE id = $1", unsent)
    await world.settle_all()
    assert [letter["id"] for letter in await letters(staff)] == [str(unsent), str(second), str(first)]
    for nonsense in ({"code": "not sent"}, {"endpoint": "\0"}, {"since": "yesterday"}, {"status": "failed"}):
        assert (await staff.get("/ops/dead-letters", params=nonsense)).status_code == 422
        assert (await staff.post("/ops/dead-letters/retry", json=nonsense)).status_code == 422
    (other,) = await letters(staff, code="not-sent")
    assert (other["id"], other["submissions"], other["exchange"]) == (str(unsent), 0, None)
    assert [letter["id"] for letter in await letters(staff, type="image", endpoint="image")] == [
        str(second),
        str(first),
    ]
    since = (await letters(staff, code="model-failed"))[0]["failed_at"]
    assert [letter["id"] for letter in await letters(staff, code="model-failed", since=since)] == [str(second)]
    done = await retry(staff, code="model-failed", since=since)
    assert done["data"] == [{"id": str(second), "retried": True, "code": None, "detail": None}]
    assert [letter["id"] for letter in await letters(staff, code="model-failed")] == [str(first)]
    assert await world.credits_of(person) == (95, 5)
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(second) == 5
    assert await world.credits_of(person) == (95, 0)


async def test_page_by_page_and_who_cannot_pay_is_passed_over(world: World, staff: httpx.AsyncClient) -> None:
    rich, poor = await world.person(), await world.person(credits_granted=5)
    ids = [await failed(world, rich), await failed(world, poor), await failed(world, rich)]
    await world.ask(poor)
    page = (await staff.get("/ops/dead-letters", params={"limit": 2})).json()
    assert [letter["id"] for letter in page["data"]] == [str(ids[2]), str(ids[1])]
    assert page["has_more"]
    rest = await letters(staff, limit=2, cursor=page["next_cursor"])
    assert [letter["id"] for letter in rest] == [str(ids[0])]
    assert (
        await staff.get("/ops/dead-letters", params={"code": "x", "cursor": page["next_cursor"]})
    ).status_code == 400
    done = await retry(staff, limit=2)
    assert [(each["id"], each["retried"], each["code"]) for each in done["data"]] == [
        (str(ids[2]), True, None),
        (str(ids[1]), False, "insufficient-credits"),
    ]
    assert (done["retried"], done["has_more"]) == (1, True)
    left = await retry(staff, limit=2, cursor=done["next_cursor"])
    assert [(each["id"], each["retried"]) for each in left["data"]] == [(str(ids[0]), True)]
    assert await world.state(ids[1]) == "failed"
    assert (await staff.post("/ops/dead-letters/retry", json={"limit": 101})).status_code == 422
    await world.settle_all()


async def test_all_that_was_sent_for_one_is_on_record(world: World, staff: httpx.AsyncClient) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    await retry(staff)
    await submit.submit_once(world.context)
    sent = (await staff.get(f"/ops/generations/{generation_id}")).json()
    assert (sent["status"], sent["retries"], sent["earlier_attempts"], sent["submissions"]) == ("submitted", 1, 1, 2)
    assert [attempt["attempt"] for attempt in sent["attempts"]] == [1, 2]
    (ended,) = sent["rounds"]
    assert (ended["round"], ended["status"], ended["code"], ended["retried_by"]) == (1, "failed", "model-failed", ADMIN)
    assert "out of memory" in ended["said"]
    seen = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert ADMIN not in str(seen), "who of the staff did it is for the staff"
    assert [(t["actor"], t["reason"]) for t in seen["transitions"] if t["from"] == "failed"] == [("ops", "retried")]
    assert (await staff.get(f"/ops/generations/{UUID(int=0)}")).status_code == 404
    await world.settle_all()


async def test_from_a_terminal(world: World) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    database_url = world.context.settings.database_url.get_secret_value()

    def type_in(*words: str) -> Any:
        return CliRunner().invoke(twin, list(words), env={"DATABASE_URL": database_url, "COLUMNS": "300"})

    listed = await asyncio.to_thread(type_in, "dead-letters", "--code", "model-failed")
    assert listed.exit_code == 0, listed.output
    assert str(generation_id) in listed.stdout
    assert (await asyncio.to_thread(type_in, "dead-letters", "--type", "smell")).exit_code == 2
    done = await asyncio.to_thread(type_in, "retry", str(generation_id), "--actor", "night-shift")
    assert done.exit_code == 0, done.output
    assert "5 credits are held" in done.stdout
    again = await asyncio.to_thread(type_in, "retry", str(generation_id))
    assert again.exit_code == 1
    assert "reserved" in again.stderr
    assert await world.value("SELECT retried_by FROM generation_retries") == "night-shift"
    assert await holds(world, generation_id) == [(1, "released", 0), (2, "open", 0)]
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_the_list_is_there_while_one_is_tried_again(world: World, staff: httpx.AsyncClient) -> None:
    """A round that failed again is a dead letter again, with the answer of this round."""
    person = await world.person()
    generation_id = await failed(world, person)
    await try_again(world, person, generation_id)
    assert await letters(staff) == []
    await submit.submit_once(world.context)
    job = world.runpod.take("image")
    assert job is not None
    world.runpod.fail(job.id, "out of luck")
    await world.poll_now()
    await finish.finish_once(world.context)
    (letter,) = await letters(staff)
    assert (letter["retries"], letter["submissions"]) == (1, 2)
    assert "out of luck" in letter["exchange"]["said"]


async def test_what_waits_again_waits_since_then(world: World, staff: httpx.AsyncClient) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    await world.execute(
        "UPDATE generations SET created_at = created_at - interval '2 days' WHERE id = $1", generation_id
    )
    await retry(staff)
    assert (await staff.get("/ops/queue")).json()["oldest_wait_seconds"] < 3600
    await world.settle_all()


async def test_what_is_held_back_by_its_persons_own_waits_for_no_worker(world: World, staff: httpx.AsyncClient) -> None:
    """The oldest wait says whether workers and endpoints suffice, and what is stuck whether they do their work."""
    person = await limited(world, 1)
    first, second = [await world.ask(person) for _ in range(2)]
    await world.pass_time(timedelta(hours=12))
    await world.execute("UPDATE generations SET deadline_at = now() + interval '15 minutes' WHERE id = $1", first)
    told = (await staff.get("/ops/queue")).json()
    assert 295 < told["oldest_wait_seconds"] < 400, "five minutes in line"
    assert told["stuck"] == 0, "it stands in line"
    await submit.submit_once(world.context)
    await world.execute("UPDATE generations SET due_at = now() - interval '2 minutes' WHERE id = $1", first)
    told = (await staff.get("/ops/queue")).json()
    assert (told["oldest_wait_seconds"], told["stuck"]) == (0, 1)
    await world.work_off_all("image")
    assert (await staff.get("/ops/queue")).json()["oldest_wait_seconds"] < 60, "it joined the line just now"
    assert await world.state(second) == "reserved"
    await world.cancel_all()


async def test_a_charge_of_the_second_round_can_be_given_back(world: World, staff: httpx.AsyncClient) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    await try_again(world, person, generation_id)
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.credits_of(person) == (95, 0)
    body = {"generation_id": str(generation_id), "reason": "it looked odd"}
    given_back = await staff.post("/v1/admin/reversals", json=body)
    assert given_back.status_code == 201, given_back.text
    assert await world.credits_of(person) == (100, 0)


async def test_an_attempt_whose_result_was_lost_says_when(world: World, staff: httpx.AsyncClient) -> None:
    person = await world.person()
    lost = await world.submitted(person)
    world.runpod.forget(world.runpod.jobs("image")[0].id)
    await world.pass_time(world.context.settings.lost_grace)
    await world.poll_now()
    await failed(world, person)
    told = {each["id"]: each for each in await letters(staff)}
    assert len(told) == 2
    for generation_id, letter in told.items():
        (attempt,) = letter["attempts"]
        assert (attempt["lost_at"] is not None) == (generation_id == str(lost)), letter["code"]
