"""The price list in the database: what it refuses, when a version is in force, and that holds agree with it (I9)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from shared import pricing
from shared.costs import Surcharge
from shared.database import Connection
from shared.errors import InvalidPrice, KeyReused, NoSuchEndpoint
from shared.generations import Type
from tests.shared.owner import STEPS, add

HOUR = timedelta(hours=1)
STEPS_ROW = '{"parameter": "steps", "included": 20, "step": 10, "credits": 1}'


async def unit(connection: Connection, *, endpoint: str | None = None, now: datetime | None = None) -> int:
    return (await pricing.in_force(connection, Type.IMAGE, endpoint=endpoint, now=now)).unit_credits


async def test_a_version_says_all_that_was_asked_for(draft: Connection) -> None:
    tiers = [{"min_batch": 4, "multiplier_permille": 900}]
    added = await add(draft, 7, endpoint="fast", batch_multipliers=tiers, surcharges=[STEPS], note="Spring")
    assert (added.created_by, added.note, added.ends_at, len(added.hash)) == ("owner", "Spring", None, 32)
    assert (added.price.unit_credits, added.price.endpoint, added.price.batch_multipliers) == (7, "fast", tiers)
    assert added.price.surcharges == (STEPS,)
    assert await pricing.at_version(draft, added.price.version) == added.price
    assert await pricing.in_force(draft, Type.IMAGE, endpoint="fast", now=added.created_at) == added.price


async def test_a_key_adds_one_version(draft: Connection) -> None:
    terms: dict[str, Any] = {"generation_type": Type.IMAGE, "actor": "owner", "unit_credits": 6, "key": "once"}
    first, replayed_first = await pricing.add(draft, **terms)
    again, replayed_again = await pricing.add(draft, **{**terms, "actor": "somebody else"})
    assert (first, replayed_first, replayed_again) == (again, False, True)
    kept = await draft.fetchrow(
        "SELECT actor, kind, outcome FROM credit_operations WHERE scope = 'prices' AND key = 'once'"
    )
    assert kept is not None
    assert (kept["actor"], kept["kind"]) == ("owner", "price")
    assert kept["outcome"] == {"version": first.price.version, "hash": first.hash.hex()}


async def test_why_a_version_was_added_is_written_down(draft: Connection) -> None:
    await add(draft, key="once", note="Spring")
    detail = await draft.fetchval("SELECT detail FROM credit_operations WHERE scope = 'prices' AND key = 'once'")
    assert detail == {"reason": "Spring"}


@pytest.mark.parametrize(
    "other",
    [
        {"unit_credits": 7},
        {"generation_type": Type.VIDEO},
        {"endpoint": "fast"},
        {"surcharges": [STEPS]},
        {"batch_multipliers": [{"min_batch": 2, "multiplier_permille": 1}]},
        {"note": "x"},
        {"withdrawn": True},
        {"effective_at": datetime(2999, 1, 1, tzinfo=UTC)},
    ],
    ids=str,
)
async def test_a_key_is_for_one_price(draft: Connection, other: dict[str, Any]) -> None:
    await add(draft, key="once")
    with pytest.raises(KeyReused):
        await add(draft, **{"unit_credits": 6, "key": "once", **other})


async def test_a_price_is_in_force_from_its_time_until_the_next_ones(draft: Connection) -> None:
    before = await unit(draft)
    now: datetime = await draft.fetchval("SELECT now()")
    later = await add(draft, 60, effective_at=now + 2 * HOUR)
    soon = await add(draft, 50, effective_at=now + HOUR)
    elsewhere = await add(draft, 40, effective_at=now + HOUR, endpoint="fast")
    assert await unit(draft) == before
    assert [await unit(draft, now=now + hours * HOUR) for hours in (0.9, 1, 1.9, 2, 100)] == [before, 50, 50, 60, 60]
    # Of two for the same moment, the one that was added last.
    mended = await add(draft, 70, effective_at=now + 2 * HOUR)
    assert await unit(draft, now=now + 2 * HOUR) == 70
    ends = {found.price.version: found.ends_at for found in await pricing.versions(draft, limit=100)}
    assert ends[soon.price.version] == ends[later.price.version] == now + 2 * HOUR
    assert (ends[mended.price.version], ends[elsewhere.price.version]) == (None, None)


async def test_the_price_of_an_endpoint_wins_there_and_only_there(draft: Connection) -> None:
    before = await unit(draft)
    await add(draft, 50, endpoint="fast")
    now = datetime.now(UTC) + HOUR
    assert (await unit(draft, endpoint="fast", now=now), await unit(draft, now=now)) == (50, before)
    with pytest.raises(NoSuchEndpoint):
        await unit(draft, endpoint="slow", now=now)
    with pytest.raises(NoSuchEndpoint):
        await pricing.in_force(draft, Type.VIDEO, endpoint="fast", now=now)
    assert {(price.type, price.endpoint) for price in await pricing.menu(draft, now=now)} == {
        *((kind, None) for kind in Type),
        (Type.IMAGE, "fast"),
    }
    assert (await pricing.current(draft, now=now))[Type.IMAGE].unit_credits == before


async def test_an_endpoint_is_not_on_the_menu_before_its_price_is(draft: Connection) -> None:
    await add(draft, 50, endpoint="soon", effective_at=datetime.now(UTC) + HOUR)
    with pytest.raises(NoSuchEndpoint):
        await unit(draft, endpoint="soon")


async def test_nothing_begins_in_the_past(draft: Connection) -> None:
    noon = datetime(2999, 3, 1, 12, tzinfo=UTC)
    with pytest.raises(InvalidPrice) as refused:
        await add(draft, effective_at=noon - timedelta(microseconds=1), now=noon)
    assert refused.value.facts["field"] == "effective_at"


async def test_a_moment_is_not_past_when_it_is_now(draft: Connection) -> None:
    noon = datetime(2999, 3, 1, 12, tzinfo=UTC)
    assert (await add(draft, effective_at=noon, now=noon)).price.effective_at == noon


async def test_backdating_is_impossible_even_by_hand(draft: Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="not_backdated"):
        await draft.execute(
            "INSERT INTO price_versions (type, unit_credits, created_by, effective_at) "
            "VALUES ('image', 1, 'me', now() - interval '1 second')"
        )


@pytest.mark.parametrize(
    "surcharges",
    [
        "{}",
        "[1]",
        f"[[{STEPS_ROW}]]",
        f"[{STEPS_ROW}, {STEPS_ROW.replace('10', '5')}]",
        '[{"parameter": "smell", "included": 20, "step": 10, "credits": 1}]',
        '[{"parameter": "steps", "step": 10, "credits": 1}]',
        '[{"parameter": "steps", "included": -1, "step": 10, "credits": 1}]',
        '[{"parameter": "steps", "included": 20, "step": 0, "credits": 1}]',
        '[{"parameter": "steps", "included": 20, "step": 10, "credits": -1}]',
        '[{"parameter": "steps", "included": 20, "step": 10, "credits": 1.5}]',
        '[{"parameter": "steps", "included": 20, "step": 10, "credits": 1.0}]',
        '[{"parameter": "steps", "included": 20, "step": 10, "credits": "1"}]',
        '[{"parameter": "steps", "included": 20, "step": 10, "credits": null}]',
        '[{"parameter": "steps", "included": 20, "step": 10, "credits": 9223372036854775808}]',
    ],
)
async def test_a_bad_surcharge_is_impossible(draft: Connection, surcharges: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="surcharges"):
        await draft.execute(
            "INSERT INTO price_versions (type, unit_credits, created_by, surcharges) "
            "VALUES ('image', 1, 'me', $1::text::jsonb)",
            surcharges,
        )


@pytest.mark.parametrize(
    "tiers",
    [
        '[{"min_batch": 4, "multiplier_permille": 900}, {"min_batch": 4, "multiplier_permille": 800}]',
        '[{"min_batch": 4, "multiplier_permille": 900.0}]',
        '[[{"min_batch": 4, "multiplier_permille": 900}]]',
        orjson.dumps([{"min_batch": least, "multiplier_permille": 900} for least in range(1, 66)]).decode(),
    ],
    ids=["twice", "fraction", "nested", "many"],
)
async def test_a_tier_is_said_once_and_whole(draft: Connection, tiers: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="batch_multipliers"):
        await draft.execute(
            "INSERT INTO price_versions (type, unit_credits, created_by, batch_multipliers) "
            "VALUES ('image', 1, 'me', $1::text::jsonb)",
            tiers,
        )


@pytest.mark.parametrize(
    "terms",
    [
        {"unit_credits": 10**9, "batch_multipliers": [{"min_batch": 1, "multiplier_permille": 10**6}]},
        {"surcharges": [Surcharge(parameter="seconds", included=0, step=1, credits=10**9)]},
        {"surcharges": [Surcharge(parameter="pixels", included=0, step=1, credits=1000)]},
    ],
    ids=["multiplier", "seconds", "pixels"],
)
async def test_no_order_can_cost_more_than_a_hold_carries(draft: Connection, terms: dict[str, Any]) -> None:
    with pytest.raises(InvalidPrice, match=r"10\^12"):
        await add(draft, **terms)


async def test_the_dearest_price_that_fits(draft: Connection) -> None:
    added = await add(draft, 10**9, batch_multipliers=[{"min_batch": 1, "multiplier_permille": 15_000}])
    assert pricing.cost(added.price, batch_size=64).total == 960_000_000_000


@pytest.mark.parametrize("endpoint", ["", " ", "a b", "-a", "a/b", "ä", "a\nb", "x" * 101])
async def test_an_endpoint_has_a_name(draft: Connection, endpoint: str) -> None:
    with pytest.raises((InvalidPrice, asyncpg.CheckViolationError)):
        await add(draft, endpoint=endpoint)


ORDERS: list[tuple[int, dict[str, int]]] = [(1, {}), (3, {"steps": 20}), (4, {"steps": 21}), (9, {"steps": 100})]


@pytest.mark.parametrize(("count", "parameters"), ORDERS)
async def test_the_database_agrees_with_what_a_hold_keeps(
    draft: Connection, count: int, parameters: dict[str, int]
) -> None:
    tiers = [{"min_batch": 4, "multiplier_permille": 875}, {"min_batch": 8, "multiplier_permille": 501}]
    price = (await add(draft, 7, batch_multipliers=tiers, surcharges=[STEPS])).price
    kept = pricing.cost(price, batch_size=count, parameters=parameters).as_snapshot()
    fits = "SELECT price_fits($1, p) FROM price_versions p WHERE p.version = $2"
    assert await draft.fetchval(fits, kept, price.version)
    forgeries = [{**kept, name: kept[name] + 1} for name in ("unit_credits", "multiplier_permille", "total")]
    forgeries += [{**kept, "type": "text"}, {**kept, "price_version": 1}, {**kept, "batch_size": count + 20}, {}]
    forgeries += [{**kept, "surcharges": [{**extra, "credits": 0}]} for extra in kept["surcharges"]]
    forgeries += [{**kept, "surcharges": []}] if kept["surcharges"] else []
    # The same sum by a rule that the catalogue does not have.
    forgeries += [
        {**kept, "surcharges": [{**extra, "included": extra["included"] - 1, "amount": extra["amount"] - 1}]}
        for extra in kept["surcharges"]
    ]
    for forged in forgeries:
        assert await draft.fetchval(fits, forged, price.version) is False, forged


async def test_what_is_included_and_not_used_is_not_given_back(draft: Connection) -> None:
    price = (await add(draft, 7, surcharges=[STEPS])).price
    kept = pricing.cost(price, batch_size=1, parameters={"steps": 21}).as_snapshot()
    unused = [{**extra, "amount": 0} for extra in kept["surcharges"]]
    fits = "SELECT price_fits($1, p) FROM price_versions p WHERE p.version = $2"
    assert await draft.fetchval(fits, {**kept, "surcharges": unused, "total": 7}, price.version)
    assert await draft.fetchval(fits, {**kept, "surcharges": unused, "total": 5}, price.version) is False


async def test_a_hold_from_before_there_were_surcharges_fits(draft: Connection) -> None:
    old = {"price_version": 2, "type": "image", "unit_credits": 5, "batch_size": 3, "multiplier_permille": 1000}
    fits = "SELECT price_fits($1, p) FROM price_versions p WHERE p.version = 2"
    assert await draft.fetchval(fits, old)
    assert await draft.fetchval(fits, {**old, "total": 15})


async def test_no_hold_fits_what_was_withdrawn(draft: Connection) -> None:
    gone = (await add(draft, 0, endpoint="fast", withdrawn=True)).price
    kept = pricing.cost(gone, batch_size=1).as_snapshot()
    fits = "SELECT price_fits($1, p) FROM price_versions p WHERE p.version = $2"
    assert await draft.fetchval(fits, kept, gone.version) is False


@pytest.mark.parametrize(
    "terms",
    [
        {"endpoint": None},
        {"unit_credits": 1},
        {"batch_multipliers": [{"min_batch": 2, "multiplier_permille": 900}]},
        {"surcharges": [STEPS]},
    ],
    ids=str,
)
async def test_what_is_withdrawn_says_nothing_else(draft: Connection, terms: dict[str, Any]) -> None:
    with pytest.raises(InvalidPrice) as refused:
        await add(draft, **{"unit_credits": 0, "endpoint": "fast", "withdrawn": True, **terms})
    assert refused.value.facts["field"] == "withdrawn"


async def test_nobody_but_the_owner_may_call_the_functions_of_prices(draft: Connection) -> None:
    assert (
        await draft.fetch(
            """SELECT proname FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
           WHERE p.pronamespace = 'public'::regnamespace AND p.proname ~ '^prices?_' AND a.grantee <> p.proowner"""
        )
        == []
    )
