"""What a grant says belongs to it: its key, its source and what was paid."""

from typing import Any

import orjson
import pytest

from shared import ledger
from shared.errors import GrantConflict, InvalidAmount, KeyReused
from tests.ledger.teller import HOUR, NOON, Teller

TERMS: dict[str, Any] = {
    "amount": 10,
    "kind": "paid",
    "source_ref": "order",
    "priority": 5,
    "effective_at": NOON,
    "expires_at": NOON + 24 * HOUR,
    "paid_amount": 999,
    "paid_currency": "EUR",
}
# Another value of each, with what it takes to be a grant at all.
OTHERS: dict[str, dict[str, Any]] = {
    "amount": {"amount": 11},
    "kind": {"kind": "plan", "paid_amount": None, "paid_currency": None},
    "source_ref": {"source_ref": "another order"},
    "priority": {"priority": 6},
    "effective_at": {"effective_at": NOON + HOUR},
    "expires_at": {"expires_at": NOON + 25 * HOUR},
    "paid_amount": {"paid_amount": 998},
    "paid_currency": {"paid_currency": "USD"},
}


async def grant(teller: Teller, key: str, **terms: Any) -> ledger.Grant:
    return await ledger.grant(
        teller.conn, user_id=teller.user_id, key=key, actor="till", now=teller.now, **{**TERMS, **terms}
    )


@pytest.mark.parametrize("term", OTHERS)
async def test_the_key_stands_for_every_term(teller: Teller, term: str) -> None:
    assert not (await grant(teller, "k")).replayed
    assert (await grant(teller, "k")).replayed
    with pytest.raises(KeyReused):
        await grant(teller, "k", **OTHERS[term])


async def test_a_kind_under_the_key_of_another(teller: Teller) -> None:
    """Nothing but the kind differs."""
    free: dict[str, Any] = {"paid_amount": None, "paid_currency": None}
    await grant(teller, "k", **free)
    with pytest.raises(KeyReused):
        await grant(teller, "k", kind="plan", **free)


@pytest.mark.parametrize("term", [term for term in OTHERS if term not in {"kind", "source_ref"}])
async def test_the_source_stands_for_its_terms_whatever_the_key(teller: Teller, term: str) -> None:
    given = await grant(teller, "first")
    again = await grant(teller, "second")
    assert (again.bucket_id, again.replayed) == (given.bucket_id, True)
    with pytest.raises(GrantConflict):
        await grant(teller, "third", **OTHERS[term])
    assert (await teller.balance()).available == 10


async def test_what_was_paid_is_kept_with_the_credits_and_in_the_chain(teller: Teller) -> None:
    given = await grant(teller, "k")
    bucket = await teller.conn.fetchrow(
        "SELECT paid_amount, paid_currency FROM credit_buckets WHERE bucket_id = $1", given.bucket_id
    )
    assert bucket is not None
    assert tuple(bucket) == (999, "EUR")
    said = await teller.conn.fetchval("SELECT detail::text FROM credit_entries WHERE user_id = $1", teller.user_id)
    assert orjson.loads(said) == {
        "kind": "paid",
        "source_ref": "order",
        "priority": 5,
        "effective_at": "2026-03-01T12:00:00.000000Z",
        "expires_at": "2026-03-02T12:00:00.000000Z",
        "paid_amount": 999,
        "paid_currency": "EUR",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"paid_currency": None},
        {"paid_amount": None},
        {"kind": "promo"},
        {"paid_amount": -1},
        {"paid_currency": "eur"},
        {"paid_currency": "EURO"},
    ],
    ids=str,
)
async def test_money_that_is_none_is_refused(teller: Teller, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidAmount):
        await grant(teller, "k", **wrong)
    assert (await grant(teller, "k", paid_amount=0)).balance.available == 10
