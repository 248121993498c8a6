"""Allow, warn, block; the overdraft; debt. A quote and a submit are judged by the same function."""

from uuid import uuid4

import pytest

from shared import ledger
from shared.errors import InvalidAmount
from tests.ledger.teller import NOON, Teller

CASES = [
    # policy, limit, threshold, credits, amount -> verdict, reasons, shortfall, remaining
    ("soft", 0, 10, 100, 5, "allow", (), 0, 95),
    ("soft", 0, 10, 15, 5, "allow", (), 0, 10),
    ("soft", 0, 10, 15, 6, "warn", ("low-balance",), 0, 9),
    ("soft", 0, 0, 5, 5, "allow", (), 0, 0),
    ("soft", 0, 10, 5, 6, "block", ("insufficient-credits",), 1, -1),
    ("soft", 0, 10, 0, 0, "allow", (), 0, 0),
    ("soft", 10, 0, 5, 15, "warn", ("overdraft", "low-balance"), 0, -10),
    ("soft", 10, 0, 5, 16, "block", ("overdraft-limit",), 1, -11),
    ("hard", 10, 0, 5, 5, "allow", (), 0, 0),
    ("hard", 10, 0, 5, 6, "block", ("insufficient-credits",), 1, -1),
    ("off", 0, 0, 5, 1000, "warn", ("overdraft", "low-balance"), 0, -995),
]


@pytest.mark.parametrize(
    ("policy", "limit", "threshold", "has", "amount", "verdict", "reasons", "shortfall", "remaining"), CASES
)
async def test_the_verdict(
    teller: Teller,
    policy: ledger.Policy,
    limit: int,
    threshold: int,
    has: int,
    amount: int,
    verdict: str,
    reasons: tuple[str, ...],
    shortfall: int,
    remaining: int,
) -> None:
    await teller.open(policy=policy, overdraft_limit=limit, low_balance_threshold=threshold)
    if has:
        await teller.grant(has)
    quote = await teller.decide(amount)
    assert (quote.verdict, quote.reasons) == (verdict, reasons)
    assert (quote.shortfall, quote.remaining) == (shortfall, remaining)
    submit = await teller.reserve(amount)
    assert submit.decision == quote
    assert submit.outcome == ("denied" if verdict == "block" else "held")
    if verdict == "block":
        await teller.grant(shortfall)
        assert (await teller.decide(amount)).verdict != "block"


async def test_a_stranger_is_judged_as_a_fresh_account_is(teller: Teller) -> None:
    unknown = [await teller.decide(amount) for amount in (0, 1)], await teller.balance()
    assert await teller.conn.fetchval("SELECT count(*) FROM user_billing WHERE user_id = $1", teller.user_id) == 0
    await teller.open()
    assert ([await teller.decide(amount) for amount in (0, 1)], await teller.balance()) == unknown


async def test_an_open_account_keeps_its_terms(teller: Teller) -> None:
    assert await ledger.open_account(teller.conn, user_id=teller.user_id, policy="hard")
    assert not await ledger.open_account(teller.conn, user_id=teller.user_id, policy="off", overdraft_limit=9)
    assert (await teller.decide(1)).verdict == "block"


async def test_the_overdraft_is_taken_last_and_given_back_first(teller: Teller) -> None:
    await teller.open(overdraft_limit=10)
    bucket = (await teller.grant(5)).bucket_id
    seq = await teller.seq()
    hold = await teller.hold(12)
    held = await teller.balance()
    assert (held.available, held.held, held.posted, held.overdraft_used) == (0, 12, 5, 0)
    await teller.capture(hold, 8)
    assert (await teller.balance()).overdraft_used == 3
    assert await teller.entries(since=seq) == [
        ("reserve", "available", "held", 5, bucket),
        ("reserve", "overdraft", "overdraft_held", 7, None),
        ("capture", "held", "revenue", 5, bucket),
        ("capture", "overdraft_held", "revenue", 3, None),
        ("release", "overdraft_held", "overdraft", 4, None),
    ]


async def test_promised_and_used_overdraft_both_count_against_the_limit(teller: Teller) -> None:
    await teller.open(overdraft_limit=10)
    await teller.capture(await teller.hold(4), 4)
    await teller.hold(4)
    denied = await teller.reserve(3)
    assert (denied.outcome, denied.decision.shortfall) == ("denied", 1)
    assert (await teller.reserve(2)).outcome == "held"


async def test_a_grant_pays_the_debt_first(teller: Teller) -> None:
    await teller.open(overdraft_limit=10)
    await teller.capture(await teller.hold(8), 8)
    part = await teller.grant(5)
    assert (part.balance.available, part.balance.overdraft_used) == (0, 3)
    seq = await teller.seq()
    rest = await teller.grant(5)
    assert (rest.balance.available, rest.balance.overdraft_used) == (2, 0)
    assert await teller.entries(since=seq) == [
        ("grant", "issued", "available", 5, rest.bucket_id),
        ("repay", "available", "overdraft", 3, rest.bucket_id),
    ]


async def test_a_debt_is_paid_from_what_a_release_returns(teller: Teller) -> None:
    await teller.open(overdraft_limit=10)
    await teller.grant(6)
    from_credits = await teller.hold(6)
    from_overdraft = await teller.hold(4)
    await teller.capture(from_overdraft, 4)
    assert (await teller.balance()).overdraft_used == 4
    await teller.release(from_credits)
    returned = await teller.balance()
    assert (returned.available, returned.overdraft_used) == (2, 0)


async def test_a_debt_made_while_credits_are_there_is_paid_at_once(teller: Teller) -> None:
    await teller.open(overdraft_limit=10)
    hold = await teller.hold(5)
    await teller.grant(20)
    await teller.capture(hold, 5)
    settled = await teller.balance()
    assert (settled.available, settled.overdraft_used) == (15, 0)


async def test_a_hard_account_in_debt_is_told_the_whole_shortfall(teller: Teller) -> None:
    await teller.open(overdraft_limit=10)
    await teller.capture(await teller.hold(8), 8)
    await teller.set_terms(policy="hard")
    blocked = await teller.decide(5)
    assert (blocked.verdict, blocked.shortfall) == ("block", 13)
    await teller.grant(13)
    assert (await teller.decide(5)).verdict != "block"


async def test_a_quote_sees_what_a_submit_would_do_about_time_and_debt(teller: Teller) -> None:
    await teller.open(overdraft_limit=10)
    await teller.capture(await teller.hold(8), 8)
    await teller.grant(10, starts=1)
    await teller.grant(4, "promo", starts=1, lasts=2)
    assert (await teller.balance()).available == 0
    for hours in (1, 1):
        teller.after(hours)
        looked = await teller.balance()
        quote = await teller.decide(3)
        assert quote.balance == looked
        submit = await teller.reserve(3)
        assert submit.decision == quote
        assert submit.hold_id is not None
        await teller.release(submit.hold_id)


async def test_admission_is_final(teller: Teller) -> None:
    """A job that was admitted is paid for whatever happens to the limit or the balance meanwhile."""
    await teller.open(overdraft_limit=10)
    hold = await teller.hold(8)
    await teller.set_terms(overdraft_limit=8, policy="hard")
    assert (await teller.capture(hold, 8)).captured == 8
    assert (await teller.reserve(1)).outcome == "denied"


async def test_balances_can_be_read_where_nothing_may_be_written(teller: Teller) -> None:
    await teller.grant(5, lasts=1)
    teller.after(2)
    async with teller.conn.transaction(readonly=True):
        assert (await teller.balance()).available == 0
        assert (await teller.decide(1)).verdict == "block"
        assert (await ledger.balance(teller.conn, user_id=f"user_{uuid4().hex}", now=NOON)).posted == 0


@pytest.mark.parametrize("hours", [1, 2])
async def test_a_debt_is_not_paid_with_credits_that_have_run_out(teller: Teller, hours: int) -> None:
    await teller.open(overdraft_limit=10)
    bucket = (await teller.grant(6, lasts=1)).bucket_id
    from_credits = await teller.hold(6, lasts=5)
    await teller.capture(await teller.hold(4), 4)
    seq = await teller.seq()
    await teller.after(hours).release(from_credits)
    returned = await teller.balance()
    assert (returned.posted, returned.overdraft_used) == (0, 4)
    assert (await teller.entries(since=seq))[1:] == [("expire", "available", "expired", 6, bucket)]


@pytest.mark.parametrize("amount", [-1, 10**12 + 1])
async def test_nobody_is_told_of_prices_that_cannot_be(teller: Teller, amount: int) -> None:
    with pytest.raises(InvalidAmount):
        await teller.decide(amount)
    assert (await teller.decide(10**12)).verdict == "block"
