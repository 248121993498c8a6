"""The worker verifies the ledger by its clock, and stops half-way when it is told to."""

import asyncio
from datetime import timedelta

from shared import verifications
from tests.flow.world import World, pictures
from worker import audit


async def test_what_the_flow_did_is_whole_and_is_verified_once(world: World) -> None:
    person = await world.person()
    await world.finishing(person, pictures(1))
    await world.settle_all()
    done = await audit.verify_ledger(world.context, asyncio.Event())
    assert done is not None
    assert (done.ok, done.since) == (True, None), done.first_findings
    assert done.entries >= 3
    assert await audit.verify_ledger(world.context, asyncio.Event()) is None, "it is not due"


async def test_a_charge_that_was_changed_is_found(world: World) -> None:
    await world.execute("UPDATE ledger_verifications SET started_at = started_at - interval '1 hour'")
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1))
    await world.settle_all()
    await world.tamper("UPDATE generations SET charged = 0 WHERE id = $1", generation_id)
    done = await audit.verify_ledger(world.context, asyncio.Event())
    assert done is not None
    assert [(f["kind"], f["key"]) for f in done.first_findings] == [("generation-differs", str(generation_id))]
    await world.execute("UPDATE generations SET charged = quoted WHERE id = $1", generation_id)


async def test_a_worker_that_stops_leaves_it_to_another(world: World) -> None:
    await world.execute("TRUNCATE ledger_verifications")
    await world.person()
    stopping = asyncio.Event()
    async with world.context.pool.acquire() as in_the_way, in_the_way.transaction():
        await in_the_way.execute("LOCK TABLE credit_entries IN ACCESS EXCLUSIVE MODE")
        verifying = asyncio.create_task(audit.verify_ledger(world.context, stopping))
        while not await in_the_way.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        stopping.set()
        assert await asyncio.wait_for(verifying, 5) is None
    assert await world.value("SELECT error FROM ledger_verifications") == "stopped"
    again = await verifications.claim(world.context.pool, every=timedelta(hours=1), whole_every=timedelta(days=1))
    assert again is not None
