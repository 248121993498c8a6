"""What a claim of polls may cost: what was heard of comes first, and what was not leaves its share."""

from hypothesis import given
from hypothesis import strategies as st

from worker.due import UNHEARD_PRICE, Tokens

COUNTS = st.integers(0, 100)


def test_what_was_heard_of_costs_one_and_what_was_not_its_price() -> None:
    tokens = Tokens(polls=50, heard=10, unheard_price=UNHEARD_PRICE)
    assert tokens.needed == 10 + 40 * UNHEARD_PRICE
    assert tokens.places(tokens.needed) == 50
    assert tokens.places(7) == 7, "all of them heard of"
    assert tokens.places(30) == 10 + 20 // UNHEARD_PRICE
    assert tokens.places(11) == 10, "half a poll is none"


def test_more_may_be_heard_of_than_is_asked_about() -> None:
    assert Tokens(polls=5, heard=20, unheard_price=UNHEARD_PRICE).needed == 5


@given(COUNTS, COUNTS, st.integers(1, 4), COUNTS)
def test_so_many_tokens_buy_no_more_polls_than_they_are(polls: int, heard: int, price: int, tokens: int) -> None:
    claim = Tokens(polls=polls, heard=heard, unheard_price=price)
    places = claim.places(tokens)
    assert min(polls, heard, tokens) <= places <= min(polls, tokens)
    assert claim.places(claim.needed) == polls
