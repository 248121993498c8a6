"""The breaker's guards: what came too late, from somebody else, or too early moves nothing."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from shared.database import Connection, Pool
from shared.generations import Type
from worker import breaker
from worker.outcomes import NotSent, Refused, Sign, Submission, Unknown
from worker.remote import RemoteJob, RemoteState
from worker.transitions import Endpoint

START = datetime(2026, 11, 25, tzinfo=UTC)
LEASE = timedelta(seconds=30)
PAUSED = NotSent("endpoint-paused", timedelta(seconds=30), Sign.SHUT)
LIMITED = NotSent("rate-limited", timedelta(seconds=1), Sign.LIMITED)
OURS = NotSent("storage-unavailable", timedelta(seconds=5))
ACCEPTED = RemoteJob(
    id="job", state=RemoteState.IN_QUEUE, body=b"{}", output=None, error=None, delay_ms=None, execution_ms=None
)
TOKEN = uuid4()


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection to a database in which the breaker of `ep` is closed."""
    async with pool.acquire() as connection:
        await connection.execute("DELETE FROM endpoint_states")
        await breaker.register(connection, [Endpoint(type=Type.IMAGE, name="pictures", endpoint_id="ep")])
        yield connection


async def state(connection: Connection) -> str:
    return str(await connection.fetchval("SELECT breaker FROM endpoint_states WHERE endpoint_id = 'ep'"))


async def probing(connection: Connection) -> datetime:
    """The breaker opened, and TOKEN has the probe; returns when."""
    await breaker.heed(connection, "ep", PAUSED, token=uuid4(), now=START)
    now = START + PAUSED.wait
    assert await breaker.take_probe(connection, "ep", token=TOKEN, lease=LEASE, now=now)
    return now


async def test_no_probe_before_its_time(connection: Connection) -> None:
    await breaker.heed(connection, "ep", PAUSED, token=uuid4(), now=START)
    early = START + PAUSED.wait - timedelta(milliseconds=1)
    assert not await breaker.take_probe(connection, "ep", token=TOKEN, lease=LEASE, now=early)


async def test_no_probe_of_one_that_is_closed(connection: Connection) -> None:
    assert not await breaker.take_probe(connection, "ep", token=TOKEN, lease=LEASE, now=START)


async def test_one_probe_until_its_worker_is_dead(connection: Connection) -> None:
    now = await probing(connection)
    assert not await breaker.take_probe(connection, "ep", token=uuid4(), lease=LEASE, now=now + LEASE / 2)
    assert await breaker.take_probe(connection, "ep", token=uuid4(), lease=LEASE, now=now + LEASE)
    await breaker.heed(connection, "ep", ACCEPTED, token=TOKEN, now=now + LEASE)
    assert await state(connection) == "half_open", "the dead one's word does not count"


@pytest.mark.parametrize("outcome", [ACCEPTED, LIMITED, Refused("400")])
async def test_whatever_answers_the_probe_closes_it(connection: Connection, outcome: Submission) -> None:
    now = await probing(connection)
    await breaker.heed(connection, "ep", outcome, token=TOKEN, now=now)
    assert await state(connection) == "closed"


@pytest.mark.parametrize("outcome", [PAUSED, Unknown("HTTP 500")])
async def test_a_probe_that_does_not_come_through_opens_it_again(connection: Connection, outcome: Submission) -> None:
    now = await probing(connection)
    await breaker.heed(connection, "ep", outcome, token=TOKEN, now=now)
    assert await state(connection) == "open"


async def test_a_probe_that_was_not_sent_is_there_for_the_next(connection: Connection) -> None:
    now = await probing(connection)
    await breaker.heed(connection, "ep", OURS, token=TOKEN, now=now)
    assert await breaker.take_probe(connection, "ep", token=uuid4(), lease=LEASE, now=now)


@pytest.mark.parametrize("outcome", [ACCEPTED, PAUSED, Unknown("HTTP 500"), OURS])
async def test_answers_to_calls_from_before_move_no_half_open_breaker(
    connection: Connection, outcome: Submission
) -> None:
    now = await probing(connection)
    assert await breaker.heed(connection, "ep", outcome, token=uuid4(), now=now) is None
    assert await state(connection) == "half_open"


@pytest.mark.parametrize("outcome", [ACCEPTED, PAUSED, Unknown("HTTP 500")])
async def test_answers_to_calls_from_before_move_no_open_breaker(connection: Connection, outcome: Submission) -> None:
    await breaker.heed(connection, "ep", PAUSED, token=uuid4(), now=START)
    retry_at = "SELECT retry_at FROM endpoint_states WHERE endpoint_id = 'ep'"
    before = await connection.fetchval(retry_at)
    assert await breaker.heed(connection, "ep", outcome, token=uuid4(), now=START + timedelta(seconds=5)) is None
    assert (await state(connection), await connection.fetchval(retry_at)) == ("open", before)


async def test_it_waits_longer_each_time_but_not_for_ever_and_forgets_when_it_closes(connection: Connection) -> None:
    now, waits = START, []
    await breaker.heed(connection, "ep", PAUSED, token=uuid4(), now=now)
    for _ in range(5):
        wait = await connection.fetchval("SELECT retry_at - opened_at FROM endpoint_states")
        waits.append(wait.total_seconds())
        now += wait
        assert await breaker.take_probe(connection, "ep", token=TOKEN, lease=LEASE, now=now)
        await breaker.heed(connection, "ep", PAUSED, token=TOKEN, now=now)
    assert waits == [30, 60, 120, 120, 120]
    now += breaker.LONGEST_PATIENCE
    assert await breaker.take_probe(connection, "ep", token=TOKEN, lease=LEASE, now=now)
    await breaker.heed(connection, "ep", ACCEPTED, token=TOKEN, now=now)
    await breaker.heed(connection, "ep", PAUSED, token=uuid4(), now=now)
    assert await connection.fetchval("SELECT retry_at - opened_at FROM endpoint_states") == PAUSED.wait
