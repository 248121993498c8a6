"""A person deletes what they made: hidden at once, restored if they think again, and nobody shows a word of it."""

from tests.flow.deletions import WORDS, files, made, time_is_over
from tests.flow.world import ADMIN, PUBLIC_URL, World, pictures
from worker import finish, purge, submit


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


# ------------------------------------------------------------------------------------------------------- what stands
