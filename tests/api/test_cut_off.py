"""Whoever submits may vanish at any moment: all of the submit happened or nothing, and to ask again is safe."""

from collections.abc import AsyncIterator, Callable

import pytest

from api.orders import TextOrder
from api.settings import ApiSettings
from api.submit import submit
from tests.api.conftest import World, open_world
from tests.ledger.invariants import assert_ledger_clean
from tests.local.issuer import Issuer
from tests.turns import at_every_turn, cut_before

ORDER = TextOrder.model_validate({"type": "text", "prompt": "a lighthouse"})
WELCOMED = {"user_billing": 1, "generations": 0, "credit_holds": 0, "credit_entries": 1, "idempotency_keys": 0}
SUBMITTED = {"user_billing": 1, "generations": 1, "credit_holds": 1, "credit_entries": 2, "idempotency_keys": 1}


@pytest.fixture
async def world(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> AsyncIterator[World]:
    """One with a single connection, so that the next one to use it is known."""
    async with open_world(make_settings(database_pool_size=1), issuer) as opened:
        yield opened


async def backend(world: World) -> int:
    """The process behind the only connection, which is in no transaction and holds no lock."""
    async with world.state.connection() as connection:
        assert not connection.is_in_transaction()
        locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'"
        assert await connection.fetchval(locks) == 0
        return connection.get_server_pid()


@pytest.mark.parametrize("key", ["key", None])
async def test_cut_off_in_any_turn_a_submit_is_whole(world: World, key: str | None) -> None:
    """Somebody new for each turn of the loop: their row, hold, entry and kept reply come together or not at all."""
    submitted = {**SUBMITTED, "idempotency_keys": int(key is not None)}
    found: list[dict[str, int]] = []
    behind = await backend(world)

    async def cut(turn: int) -> bool:
        person = await world.person(granted=10)
        cut_off = await cut_before(turn, submit(world.state, ORDER, user_id=person.user_id, key=key))
        assert await backend(world) == behind, "its connection was thrown away"
        traces = await person.traces()
        assert await person.available() == 10 - traces["generations"]
        found.append(traces)
        if key is not None:
            again = await submit(world.state, ORDER, user_id=person.user_id, key=key)
            assert again.replayed == (traces == submitted)
            assert await person.traces() == submitted
            assert await person.available() == 9
        return cut_off

    await at_every_turn(cut)
    assert [*dict.fromkeys(map(str, found))] == [str(WELCOMED), str(submitted)]
    assert found[-2] == submitted, "cut off between its commit and its end"
    async with world.pool.acquire() as connection:
        await assert_ledger_clean(connection)
