"""Weather in words: what is understood, how it is said back, and what is answered to nonsense."""

import pytest

from tests.local.runpod import orders
from tests.local.runpod.platform import Platform

ENDPOINTS = ["text", "image"]


def standing(words: str) -> list[str]:
    """Order it and hear what stands."""
    runpod = Platform(ENDPOINTS)
    for order in orders.read(words.split(), ENDPOINTS):
        runpod.weather.replace(order)
    return [orders.say(one) for one in runpod.weather.forecast()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("slow=5", ["all slow=5"]),
        ("image slow=5 webhooks=lost", ["image slow=5", "image webhooks=lost"]),
        ("image paused all forgotten text oversized", ["image paused", "all forgotten", "text oversized"]),
        ("limited", ["all limited"]),
        ("limited=7 on=run x3", ["all limited=7 on=run x3"]),
        ("error", ["all error=500"]),
        ("error=502 25% for=60", ["all error=502 25% for=60"]),
        ("timeout=before dropped=after", ["all timeout=before", "all dropped=after"]),
        ("webhooks=doubled webhooks=reordered", ["all webhooks=doubled", "all webhooks=reordered"]),
        ("webhooks=late", ["all late=30"]),
        ("late=60 no-capacity crash=2.5 cold=45", ["all late=60", "all no-capacity", "all crash=2.5", "all cold=45"]),
        ("slow=1 slow=2 image slow=3", ["all slow=2", "image slow=3"]),
        ("", []),
    ],
)
def test_orders_are_understood_and_said_back(words: str, said: list[str]) -> None:
    assert standing(words) == said
    assert standing(" ".join(said)) == said


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("frogs", "'frogs' is neither an endpoint (all, text, image) nor a trouble"),
        ("video slow=5", "'video' is neither an endpoint"),
        ("image", "what is to happen to image?"),
        ("x3", "'x3' refines nothing"),
        ("slow=soon", "'slow=soon': slow takes a number"),
        ("slow=-1", "slow takes a number"),
        ("slow=99999", "'slow=99999': input should be less than or equal to 86400"),
        ("paused=5", "'paused=5': paused takes no value"),
        ("error=404", "input should be greater than or equal to 500"),
        ("error=502.5", "should be a valid integer"),
        ("webhooks", "webhooks is one of webhooks=lost, webhooks=doubled, webhooks=reordered, webhooks=late"),
        ("timeout=never", "timeout is one of timeout=before, timeout=after"),
        ("forgotten x0", "'forgotten x0': input should be greater than or equal to 1"),
        ("forgotten 0%", "'forgotten 0%': input should be greater than 0"),
        ("forgotten 101%", "less than or equal to 1"),
        ("forgotten for=0", "greater than 0"),
        ("slow=5 on=dance", "there is no operation 'dance'"),
        (" ".join(["paused"] * 201), "more than 200 words"),
    ],
)
def test_what_is_not_understood_is_answered_with_what_would_be(words: str, answer: str) -> None:
    with pytest.raises(orders.WrongWord) as refused:
        orders.read(words.split(), ENDPOINTS)
    assert answer in str(refused.value)
