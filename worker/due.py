"""Which polls may be asked now: what is due at each endpoint, within its allowance and our share of it.

What a webhook or a cancel spoke of comes first and costs a token. A poll that nobody asked for is there in case a
webhook is lost. Where webhooks come it costs `UNHEARD_PRICE`: with thousands in flight such polls leave the rest of the
allowance, and of this process, to those that somebody did ask for.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.database import Connection
from shared.generations import Generation
from worker import lease
from worker.context import Context
from worker.slots import free_slots

UNHEARD_PRICE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What the polls of a claim cost at one endpoint."""

    polls: int
    heard: int
    unheard_price: int

    @property
    def needed(self) -> int:
        """For all of them."""
        heard = min(self.heard, self.polls)
        return heard + (self.polls - heard) * self.unheard_price

    def places(self, tokens: int) -> int:
        """How many polls so many tokens buy."""
        heard = min(self.heard, self.polls, tokens)
        return min(self.polls, heard + (tokens - heard) // self.unheard_price)


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The tokens that were taken, and the places that they buy, by endpoint."""

    tokens: Mapping[str, int]
    places: Mapping[str, int]
    prices: Mapping[str, int]


async def take(context: Context, connection: Connection, limit: int) -> Granted:
    """Take tokens for up to `limit` polls that are due: an endpoint that is exhausted or silent delays no other one."""
    due = await lease.due_polls(connection, limit=limit)
    rooms = {endpoint_id: context.shares.room(endpoint_id, "status") for endpoint_id in due}
    polls = free_slots(
        limit,
        {endpoint_id: min(of_it.polls, rooms[endpoint_id]) for endpoint_id, of_it in due.items()},
        under_way=context.shares.under_way("status"),
        slots=context.settings.poll_slots,
        endpoints={profile.endpoint.endpoint_id for profile in context.endpoints},
    )
    wanted = {
        endpoint_id: Tokens(
            polls=count,
            heard=due[endpoint_id].heard,
            unheard_price=UNHEARD_PRICE if context.pace.webhooks_come(endpoint_id) else 1,
        )
        for endpoint_id, count in polls.items()
    }
    needed = {endpoint_id: tokens.needed for endpoint_id, tokens in wanted.items()}
    tokens = await context.allowances.take(connection, "status", needed)
    return Granted(
        tokens=tokens,
        places={endpoint_id: wanted[endpoint_id].places(count) for endpoint_id, count in tokens.items()},
        prices={endpoint_id: wanted[endpoint_id].unheard_price for endpoint_id in tokens},
    )


async def give_back(context: Context, connection: Connection, granted: Granted, claimed: Sequence[Generation]) -> None:
    """Return the tokens that the claim did not need."""
    spent: Counter[str | None] = Counter()
    for generation in claimed:
        price = granted.prices.get(generation.endpoint_id or "", 1)
        spent[generation.endpoint_id] += price if unheard(generation) else 1
    unused = {endpoint_id: count - spent[endpoint_id] for endpoint_id, count in granted.tokens.items()}
    await context.allowances.give_back(connection, "status", unused)


def unheard(generation: Generation) -> bool:
    """Nobody has said anything of it: it is merely due."""
    return generation.heard_attempt is None and generation.cancel_requested_at is None
