"""The accounts that acts.py finds, in the middle of their lives, and how to begin many of them at once.

Each has an open hold that is past its end and not swept, a lapsed hold that may still be captured late, a charged one,
one given back whose generation may be tried again, yesterday's daily credits that have run out unwritten, today's that
are due, some overdraft. Each is on a plan of its own and has a price of its own, so that whoever changes those changes
nobody else's life.
"""

from collections.abc import Sequence
from hashlib import md5
from uuid import UUID

from shared.database import Connection
from tests.ledger.teller import HOUR, NOON

NOW = NOON + 2 * HOUR
"""When every act happens: an hour after midnight in Noumea, the day before in UTC."""

LIFE = """
CREATE FUNCTION life_hold(p_user_id text, p_name text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT md5(p_user_id || p_name)::uuid
$$;
CREATE FUNCTION begin_life(p_user_id text, p_noon timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_label text := md5(p_user_id);
    v_soon timestamptz := p_noon + interval '30 minutes';
    v_later timestamptz := p_noon + interval '36 minutes';
BEGIN
    PERFORM ledger_set_plan(v_label, 'begin ' || p_user_id, '{"daily_credits": 2, "overdraft_limit": 5}', NULL,
        p_user_id, p_noon);
    PERFORM prices_add('begin ' || p_user_id, 'image', v_label, 2, '[]', '[]', NULL, NULL, p_user_id, p_noon);
    PERFORM ledger_open_account(p_user_id, 'soft', NULL, NULL, v_label, 'Pacific/Noumea');
    PERFORM ledger_grant(p_user_id, 'paid', 18, 'paid', 'paid', 'tester', NULL, NULL, NULL, p_noon);
    PERFORM ledger_reserve(p_user_id, name, life_hold(p_user_id, name), amount, v_soon, '{}',
        life_hold(p_user_id, name), p_noon)
    FROM (VALUES ('charged', 4), ('given back', 1), ('late', 3)) holds (name, amount);
    PERFORM ledger_capture(life_hold(p_user_id, 'charged'), 'charge', 4, p_noon);
    PERFORM ledger_release(life_hold(p_user_id, 'given back'), 'give back', 'failed', p_noon);
    PERFORM ledger_expire(p_user_id, v_later);
    PERFORM ledger_reserve(p_user_id, 'open', life_hold(p_user_id, 'open'), 6, v_later + interval '30 minutes', '{}',
        life_hold(p_user_id, 'open'), v_later);
END
$$;
"""


async def begin_lives(conn: Connection, user_ids: Sequence[str]) -> None:
    """Bring many accounts to where the acts find them."""
    await conn.execute("SELECT begin_life(u, $2) FROM unnest($1::text[]) u", list(user_ids), NOON)


async def lay_to_rest(conn: Connection, user_ids: Sequence[str]) -> None:
    """Do what is due for them, so that a sweep finds nothing to do."""
    await conn.execute("SELECT ledger_expire(u, $2) FROM unnest($1::text[]) u", list(user_ids), NOW)


def label(user_id: str) -> str:
    """The name of the plan that an account is on, and of the endpoint whose price only it asks for."""
    return md5(user_id.encode(), usedforsecurity=False).hexdigest()


def hold(user_id: str, name: str) -> UUID:
    """The hold of that name, and the generation it is for."""
    return UUID(label(f"{user_id}{name}"))
