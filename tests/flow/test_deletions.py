"""A person deletes what they made: hidden at once, restored if they think again, then erased with its media.

A worker that dies while it erases is a step that was not taken, as in `test_gaps.py`.
"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.flow.world import ADMIN, PUBLIC_URL, Person, World, open_world, picture, pictures
from tests.local import bucket
from worker import audit, finish, purge, stream, submit

WORDS = "a secret lighthouse"


async def made(world: World, person: Person, **body: Any) -> UUID:
    """A finished picture."""
    generation_id = await world.finishing(person, pictures(1), **{"prompt": WORDS, **body})
    await finish.finish_once(world.context)
    return generation_id


async def deleted(world: World, person: Person, **body: Any) -> UUID:
    """A finished picture that its person has deleted."""
    generation_id = await made(world, person, **body)
    reply = await person.http.delete(f"/v1/generations/{generation_id}")
    assert reply.status_code == 200, reply.text
    return generation_id


async def time_is_over(world: World) -> None:
    """Nobody can think again any more; and every lease of a purge is over."""
    await world.execute("UPDATE generations SET purge_due_at = now() WHERE purge_due_at IS NOT NULL")


def files(world: World) -> list[str]:
    return [path.name for path in (world.folder / "media").rglob("*") if path.is_file()]


async def assert_erased(world: World, generation_id: UUID) -> None:
    """Nothing of what was asked and made is anywhere; what the ledger stands on is."""
    assert files(world) == []
    async with world.context.pool.acquire() as connection:
        row = await connection.fetchrow("SELECT * FROM generations WHERE id = $1", generation_id)
        assert row is not None
        assert row["purged_at"] is not None
        assert (row["prompt"], row["parameters"], row["outputs"]) == ("", {}, [])
        assert (row["type"], row["quoted"], row["charged"], row["state"]) == ("image", 5, 5, "completed")
        assert row["finished_at"] is not None
        tables = await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class AS c WHERE relnamespace = 'public'::regnamespace "
            "AND relkind = 'r'"
        )
        for table in tables:
            found = await connection.fetchval(
                f"SELECT count(*) FROM {table['name']} AS t WHERE t::text LIKE '%secret lighthouse%'"  # noqa: S608
            )
            assert found == 0, table["name"]


async def test_it_is_hidden_at_once_and_its_addresses_stop(world: World) -> None:
    person = await world.person()
    kept, generation_id = await made(world, person), await made(world, person)
    address = f"/v1/generations/{generation_id}"
    (output,) = (await person.http.get(address)).json()["outputs"]
    reply = await person.http.delete(address)
    assert reply.json()["urls"]["restore"].endswith(f"{address}/restore")
    again = await person.http.delete(address)
    assert again.json() == reply.json(), "asking again changes nothing, the time to think again included"
    listed = (await person.http.get("/v1/generations")).json()["data"]
    assert [one["id"] for one in listed] == [str(kept)]
    for hidden in (address, f"{address}/events", output["url"], output["thumbnail"]["url"]):
        assert (await person.http.get(hidden)).status_code == 404, hidden
    assert (await person.http.post(f"{address}/cancel")).status_code == 404
    order = {"type": "modify", "prompt": "bluer", "source": {"generation_id": str(generation_id)}}
    assert (await person.http.post("/v1/generations", json=order)).status_code == 422
    page = (await person.http.get(f"/?type=modify&source={generation_id}:0")).text
    assert (f"g-{kept}" in page, f"g-{generation_id}" in page, f"{generation_id}:0" in page) == (True, False, False), (
        "nor is it a picture to modify"
    )
    assert await world.credits_of(person) == (90, 0), "what was charged stays charged"
    assert len(files(world)) == 4, "nothing is gone yet"


async def test_thinking_again_brings_all_of_it_back(world: World) -> None:
    person = await world.person()
    generation_id = await made(world, person)
    address = f"/v1/generations/{generation_id}"
    before = (await person.http.get(address)).json()
    await person.http.delete(address)
    for _ in range(2):
        reply = await person.http.post(f"{address}/restore")
        assert reply.status_code == 200
        assert reply.json() == before
    assert (await person.http.get(before["outputs"][0]["url"])).status_code == 200
    await time_is_over(world)
    assert await purge.purge_once(world.context) == 0


async def test_what_is_on_its_way_is_cancelled_first(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    reply = await person.http.delete(f"/v1/generations/{generation_id}")
    assert (reply.status_code, reply.json()["code"]) == (409, "conflict")
    assert "cancel it first" in reply.json()["detail"]
    assert reply.json()["urls"]["cancel"].endswith(f"/v1/generations/{generation_id}/cancel")
    assert (await person.http.get(f"/v1/generations/{generation_id}")).status_code == 200
    assert (await person.http.post(f"/v1/generations/{generation_id}/restore")).status_code == 200, "it never left"


async def test_somebody_elses_is_not_there(world: World) -> None:
    person, stranger = await world.person(), await world.person()
    generation_id = await made(world, person)
    assert (await stranger.http.delete(f"/v1/generations/{generation_id}")).status_code == 404
    await person.http.delete(f"/v1/generations/{generation_id}")
    assert (await stranger.http.post(f"/v1/generations/{generation_id}/restore")).status_code == 404
    assert (await person.http.post(f"/v1/generations/{generation_id}/restore")).status_code == 200


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


async def test_a_repeat_shows_no_word_of_what_was_deleted(world: World) -> None:
    """The reply that is kept for the key, while there is time to think again; restored, it is as it was given."""
    person = await world.person()
    body = {"type": "image", "prompt": WORDS, "parameters": {"seed": 7}}
    key = {"idempotency-key": "one-order"}
    given = await person.http.post("/v1/generations", json=body, headers=key)
    generation_id = given.json()["id"]
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await finish.finish_once(world.context)
    await person.http.delete(f"/v1/generations/{generation_id}")
    again = await person.http.post("/v1/generations", json=body, headers=key)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert again.json() == {**given.json(), "prompt": "", "parameters": {}}
    other = await person.http.post("/v1/generations", json={**body, "prompt": "x"}, headers=key)
    assert other.status_code == 422, "the key is still taken"
    await person.http.post(f"/v1/generations/{generation_id}/restore")
    again = await person.http.post("/v1/generations", json=body, headers=key)
    assert again.content == given.content


async def test_what_runpod_said_of_a_failure_goes_too(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, {"error": f"no {WORDS} for you"}, prompt=WORDS)
    await finish.finish_once(world.context)
    await world.execute("UPDATE generation_attempts SET detail = 'refused: ' || $1", WORDS)
    await person.http.delete(f"/v1/generations/{generation_id}")
    await time_is_over(world)
    assert await purge.purge_once(world.context) == 1
    assert await world.value("SELECT count(*) FROM generation_results") == 0
    assert await world.value("SELECT count(*) FROM generation_attempts WHERE detail IS NOT NULL") == 0


async def test_what_was_deleted_is_not_tried_again_by_anybody(world: World) -> None:
    person = await world.person()
    token, _ = world.issuer.token(ADMIN, authorized_party=PUBLIC_URL, role="admin")
    staff = {"authorization": f"Bearer {token}"}
    generation_id = await world.finishing(person, {"error": f"no {WORDS} for you"}, prompt=WORDS)
    await finish.finish_once(world.context)
    assert str(generation_id) in (await person.http.get("/ops/dead-letters", headers=staff)).text
    await person.http.delete(f"/v1/generations/{generation_id}")
    assert (await person.http.post(f"/v1/generations/{generation_id}/retry")).status_code == 404
    assert str(generation_id) not in (await person.http.get("/ops/dead-letters", headers=staff)).text
    assert (await person.http.post(f"/v1/generations/{generation_id}/restore")).status_code == 200
    assert (await person.http.post(f"/v1/generations/{generation_id}/retry")).status_code == 202
    await world.submitted(person)
    world.work_off("image", {"error": f"still no {WORDS}"})
    await world.poll_now()
    await finish.finish_once(world.context)
    await person.http.delete(f"/v1/generations/{generation_id}")
    await time_is_over(world)
    assert await purge.purge_once(world.context) == 1
    assert await world.value("SELECT count(*) FROM generation_retries WHERE answer IS NULL") == 1


# -------------------------------------------------------------------------------------------- a worker dies in a gap


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


# ------------------------------------------------------------------------------------------------------- what stands


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


@pytest.fixture(scope="module")
def s3() -> Iterator[bucket.Bucket]:
    with bucket.running() as running:
        yield running


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
