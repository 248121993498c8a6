"""The time to think again is over: media first, then the row, from every gap between them.

A worker that dies while it erases is a step that was not taken, as in `test_gaps.py`.
"""

from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.flow.deletions import WORDS, assert_erased, deleted, made, time_is_over
from tests.flow.world import World, open_world, picture, pictures
from tests.local import bucket
from worker import audit, finish, purge, stream, submit


async def test_when_the_time_is_over_it_is_erased_and_the_ledger_stands(world: World) -> None:
    person = await world.person()
    body = {"type": "image", "prompt": WORDS}
    key = {"idempotency-key": "one-order"}
    generation_id = UUID((await person.http.post("/v1/generations", json=body, headers=key)).json()["id"])
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await finish.finish_once(world.context)
    await person.http.delete(f"/v1/generations/{generation_id}")
    assert await purge.purge_once(world.context) == 0, "not before the time is over"
    await time_is_over(world)
    assert await purge.purge_once(world.context) == 1
    await assert_erased(world, generation_id)
    for attempt in (person.http.delete, person.http.get):
        assert (await attempt(f"/v1/generations/{generation_id}")).status_code == 404
    assert (await person.http.post(f"/v1/generations/{generation_id}/restore")).status_code == 404
    assert await world.credits_of(person) == (95, 0)
    again = await person.http.post("/v1/generations", json=body, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, str(generation_id)), "a repeat is still no second order"
    assert again.headers["idempotent-replayed"] == "true"
    entries = (await person.http.get("/v1/credits/entries")).json()["data"]
    assert str(generation_id) in {entry["generation_id"] for entry in entries}


async def test_between_the_claim_and_the_media(world: World) -> None:
    person = await world.person()
    generation_id = await deleted(world, person)
    await time_is_over(world)
    assert await purge.claim(world.context) == [generation_id]
    assert (await person.http.post(f"/v1/generations/{generation_id}/restore")).status_code == 404, "no way back"
    assert await purge.purge_once(world.context) == 0, "the lease may still be somebody's"
    await time_is_over(world)
    assert await purge.purge_once(world.context) == 1
    await assert_erased(world, generation_id)


async def test_between_the_media_and_the_row(world: World) -> None:
    person = await world.person()
    generation_id = await deleted(world, person)
    await time_is_over(world)
    assert await purge.claim(world.context) == [generation_id]
    assert await world.context.storage.delete(generation_id) == 2
    await time_is_over(world)
    assert await purge.purge_once(world.context) == 1
    await assert_erased(world, generation_id)


async def test_after_the_row_nothing_is_done_again(world: World) -> None:
    person = await world.person()
    generation_id = await deleted(world, person)
    await time_is_over(world)
    (claimed,) = await purge.claim(world.context)
    assert await purge.purge_all(world.context, [claimed]) == 1
    assert await purge.purge_all(world.context, [claimed]) == 0, "a worker that was paused comes too late"
    assert await purge.purge_once(world.context) == 0
    await assert_erased(world, generation_id)


async def test_nothing_is_erased_that_nobody_claimed(world: World) -> None:
    person = await world.person()
    generation_id = await deleted(world, person)
    assert not await purge.erase(world.context, generation_id, objects=0)
    assert (await person.http.post(f"/v1/generations/{generation_id}/restore")).json()["prompt"] == WORDS


async def test_what_is_being_modified_is_not_taken_away_under_it(world: World) -> None:
    person = await world.person()
    source = await made(world, person)
    (output,) = (await person.http.get(f"/v1/generations/{source}")).json()["outputs"]
    order = {"type": "modify", "prompt": "bluer", "source": {"generation_id": str(source), "index": 0}}
    modified = UUID((await person.http.post("/v1/generations", json=order)).json()["id"])
    await person.http.delete(f"/v1/generations/{source}")
    await time_is_over(world)
    assert await purge.purge_once(world.context) == 0
    assert (await person.http.get(output["url"])).status_code == 200, "the model may fetch it"
    await submit.submit_once(world.context)
    assert await world.state(modified) == "submitted", "the order stands, with its picture"
    world.work_off("modify", {"images": [picture("navy")]})
    await world.poll_now()
    await finish.finish_once(world.context)
    assert await world.charged(modified) == 3
    assert (await person.http.get(output["url"])).status_code == 404
    assert await purge.purge_once(world.context) == 1
    assert (await person.http.get(f"/v1/generations/{modified}")).json()["outputs"], "what was made of it stays"


async def test_a_bucket_that_is_away_is_asked_again_later(
    s3: bucket.Bucket, monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, tmp_path: Any
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    async with open_world(database_url=database_url, redis_url=redis_url, folder=tmp_path, storage_url=s3.url) as world:
        person = await world.person()
        generation_id = await deleted(world, person)
        await time_is_over(world)
        s3.stop()
        try:
            assert await purge.purge_once(world.context) == 0
        finally:
            s3.start()
        assert await world.value("SELECT prompt FROM generations") == WORDS, "the row goes last"
        await time_is_over(world)
        assert await purge.purge_once(world.context) == 1
        assert await world.context.storage.delete(generation_id) == 0, "its media are gone"
        await assert_erased(world, generation_id)


async def test_a_deletion_that_is_stuck_is_seen(world: World) -> None:
    person = await world.person()
    await deleted(world, person)
    assert (await audit.audit_once(world.context))["nothing_deleted_is_kept"] == 0
    await world.execute("UPDATE generations SET purge_due_at = now() - interval '25 hours'")
    assert (await audit.audit_once(world.context))["nothing_deleted_is_kept"] == 1
    await purge.claim(world.context)
    assert (await audit.audit_once(world.context))["nothing_deleted_is_kept"] == 0
    await world.execute("UPDATE generations SET purging_at = now() - interval '25 hours'")
    assert (await audit.audit_once(world.context))["nothing_deleted_is_kept"] == 1
    await time_is_over(world)
    await purge.purge_once(world.context)


async def test_rows_that_cannot_be(world: World) -> None:
    person = await world.person()
    await deleted(world, person)
    await world.submitted(person)
    for impossible in (
        "UPDATE generations SET deleted_at = now(), purge_due_at = now() WHERE state = 'submitted'",
        "UPDATE generations SET purge_due_at = NULL WHERE deleted_at IS NOT NULL",
        "UPDATE generations SET prompt = '' WHERE state = 'completed'",
        "UPDATE generations SET outputs = '[]' WHERE state = 'completed'",
        "UPDATE generations SET purging_at = now() WHERE state = 'submitted'",
        "UPDATE generations SET purged_at = now(), purge_due_at = NULL WHERE state = 'completed'",
        "UPDATE generations SET purging_at = now(), purged_at = now(), purge_due_at = NULL WHERE state = 'completed'",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await world.execute(impossible)


async def test_the_pieces_of_a_text_are_erased_with_it(world: World) -> None:
    """A day before they would have been forgotten anyway."""
    person = await world.person()
    generation_id = await world.submitted(person, type="text")
    job = world.runpod.take("text")
    assert job is not None
    world.runpod.stream(job.id, "a secret lighthouse")
    await stream.stream_once(world.context)
    world.runpod.complete(job.id, ["a secret lighthouse"])
    await world.poll_now()
    await finish.finish_once(world.context)
    pieces = "SELECT count(*) FROM generation_chunks WHERE generation_id = $1"
    assert await world.value(pieces, generation_id) == 1
    assert (await person.http.delete(f"/v1/generations/{generation_id}")).status_code == 200
    await time_is_over(world)
    assert await purge.purge_once(world.context) == 1
    assert await world.value(pieces, generation_id) == 0
