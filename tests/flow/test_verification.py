"""The worker verifies the ledger by its clock, and stops half-way when it is told to."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from shared import verifications
from shared.verify import verify
from tests.flow.world import World, open_world, pictures
from worker import audit
from worker.main import Loops


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


@pytest.mark.parametrize(
    "change", ["DELETE FROM generations WHERE id = $1", "UPDATE generations SET user_id = 'another' WHERE id = $1"]
)
@pytest.mark.parametrize("state", ["open", "charged"])
async def test_a_hold_whose_generation_is_gone_is_found(world: World, state: str, change: str) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1))
    if state == "charged":
        await world.settle_all()
    hold_id = await world.value("SELECT hold_id FROM generations WHERE id = $1", generation_id)
    async with world.context.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(change, generation_id)
        found = [finding async for finding in verify(connection, user_id=person.user_id)]
        await transaction.rollback()
    assert [(f.kind, f.key) for f in found] == [("hold-orphaned", str(hold_id))]


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


async def test_a_running_worker_verifies_by_the_clock_and_again(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    often = timedelta(seconds=0.2)
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, verify=often, verify_whole=often
    ) as world:
        await world.execute("TRUNCATE ledger_verifications")
        person = await world.person()
        stopping = asyncio.Event()
        loops = asyncio.create_task(Loops(world.context).run(stopping))
        clean = "SELECT count(*) >= 2 FROM ledger_verifications WHERE finished_at IS NOT NULL AND findings = 0"
        await _until(world, clean)
        await world.tamper("UPDATE user_billing SET posted = posted + 1 WHERE user_id = $1", person.user_id)
        await _until(world, "SELECT count(*) > 0 FROM ledger_verifications WHERE findings > 0")
        await world.execute("UPDATE user_billing SET posted = posted - 1 WHERE user_id = $1", person.user_id)
        stopping.set()
        await loops


async def _until(world: World, question: str) -> None:
    async with asyncio.timeout(20):
        while not await world.value(question):
            await asyncio.sleep(0.05)
