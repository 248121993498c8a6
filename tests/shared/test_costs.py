"""The arithmetic of prices, for any price list and any order."""

from datetime import UTC, datetime
from typing import Any, get_args

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.orders import PRICED, SECONDS_LIMIT, SIDE_LIMIT_PIXELS, STEPS_LIMIT, Wish
from shared.costs import Cost, Extra, Measure, Price, Surcharge, cost, measures
from shared.generations import Type

START = datetime(2026, 1, 1, tzinfo=UTC)

counts = st.integers(min_value=1, max_value=64)
unit_prices = st.integers(min_value=0, max_value=10**9)
surcharges = st.builds(
    Surcharge,
    parameter=st.sampled_from(get_args(Measure)),
    included=st.integers(min_value=0, max_value=2000),
    step=st.integers(min_value=1, max_value=2000),
    credits=st.integers(min_value=0, max_value=10**6),
)
tiers = st.lists(
    st.fixed_dictionaries({"min_batch": counts, "multiplier_permille": st.integers(min_value=0, max_value=10**6)}),
    max_size=4,
    unique_by=lambda tier: tier["min_batch"],
)
prices = st.builds(
    Price,
    version=st.just(7),
    type=st.sampled_from(Type),
    unit_credits=unit_prices,
    batch_multipliers=tiers,
    surcharges=st.lists(surcharges, max_size=3, unique_by=lambda surcharge: surcharge.parameter),
    effective_at=st.just(START),
)
orders = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(min_value=0, max_value=2**32 - 1),
        "steps": st.integers(min_value=1, max_value=STEPS_LIMIT),
        "seconds": st.integers(min_value=1, max_value=SECONDS_LIMIT),
        "width": st.integers(min_value=64, max_value=SIDE_LIMIT_PIXELS),
        "height": st.integers(min_value=64, max_value=SIDE_LIMIT_PIXELS),
    },
)


def image(**terms: Any) -> Price:
    fields: dict[str, Any] = {"unit_credits": 5, "batch_multipliers": [], "surcharges": (), **terms}
    return Price(version=7, type=Type.IMAGE, effective_at=START, **fields)


STEPS = Surcharge(parameter="steps", included=20, step=10, credits=1)


@settings(deadline=None)
@given(prices, counts, orders)
def test_lines_add_up_to_the_total_and_are_whole(price: Price, count: int, parameters: dict[str, int]) -> None:
    agreed = cost(price, batch_size=count, parameters=parameters)
    assert sum(line["amount"] for line in agreed.lines()) == agreed.total
    assert {type(line["amount"]) for line in agreed.lines()} == {int}
    assert type(agreed.total) is int
    assert agreed.total >= 0


@settings(deadline=None)
@given(prices, counts, orders)
def test_it_is_the_plain_sum_rounded_up_once(price: Price, count: int, parameters: dict[str, int]) -> None:
    exact = price.unit_credits
    for surcharge in price.surcharges:
        left = measures(parameters).get(surcharge.parameter, 0) - surcharge.included
        while left > 0:
            exact, left = exact + surcharge.credits, left - surcharge.step
    total = cost(price, batch_size=count, parameters=parameters).total
    permille = exact * count * price.multiplier_permille(count)
    assert permille <= total * 1000 < permille + 1000


@settings(deadline=None)
@given(prices, counts, orders)
def test_a_part_never_costs_more_than_the_whole_nor_less_for_more(
    price: Price, count: int, parameters: dict[str, int]
) -> None:
    agreed = cost(price, batch_size=count, parameters=parameters)
    charged = [agreed.for_delivered(delivered) for delivered in range(count + 1)]
    assert (charged[0], charged[-1]) == (0, agreed.total)
    assert charged == sorted(charged)
    assert agreed.for_delivered(count + 1) == agreed.total


@settings(deadline=None)
@given(prices, counts, orders)
def test_more_of_anything_never_costs_less(price: Price, count: int, parameters: dict[str, int]) -> None:
    """Of one more in the batch, too, when no tier says otherwise."""
    flat = image(unit_credits=price.unit_credits, surcharges=price.surcharges)
    agreed = cost(flat, batch_size=count, parameters=parameters).total
    assert cost(flat, batch_size=count + 1, parameters=parameters).total >= agreed
    for name, amount in parameters.items():
        assert cost(flat, batch_size=count, parameters={**parameters, name: amount + 1}).total >= agreed
        assert cost(flat, batch_size=count, parameters={**parameters, name: None}).total <= agreed


@settings(deadline=None)
@given(prices, counts, orders)
def test_a_hold_keeps_all_of_it(price: Price, count: int, parameters: dict[str, int]) -> None:
    agreed = cost(price, batch_size=count, parameters=parameters)
    assert Cost.from_snapshot(orjson.loads(orjson.dumps(agreed.as_snapshot()))) == agreed


@settings(deadline=None)
@given(counts, unit_prices)
@example(count=4, unit=5)
def test_holds_from_before_there_were_surcharges_are_read(count: int, unit: int) -> None:
    old = {"price_version": 2, "type": "image", "unit_credits": unit, "batch_size": count}
    agreed = Cost.from_snapshot({**old, "multiplier_permille": 1000, "total": unit * count})
    assert (agreed.surcharges, agreed.for_delivered(count)) == ((), unit * count)


@pytest.mark.parametrize(
    ("steps", "each"), [(None, 0), (1, 0), (20, 0), (21, 1), (30, 1), (31, 2), (50, 3), (51, 4), (100, 8)]
)
def test_every_started_step_counts(steps: int | None, each: int) -> None:
    assert cost(image(surcharges=(STEPS,)), batch_size=2, parameters={"steps": steps}).total == 2 * (5 + each)


@pytest.mark.parametrize(
    ("parameters", "pixels"),
    [({"width": 512, "height": 640}, 327_680), ({"width": 512}, None), ({"height": 512}, None)],
)
def test_pixels_are_both_sides(parameters: dict[str, int], pixels: int | None) -> None:
    assert measures(parameters).get("pixels") == pixels


def test_a_person_can_follow_it() -> None:
    price = image(
        surcharges=(STEPS, Surcharge(parameter="pixels", included=262_144, step=262_144, credits=2)),
        batch_multipliers=[{"min_batch": 4, "multiplier_permille": 875}],
    )
    parameters = {"steps": 50, "width": 1024, "height": 1024, "seed": 1}
    assert cost(price, batch_size=4, parameters=parameters).lines() == [
        {"label": "4 x image at 5", "amount": 20},
        {"label": "4 x steps 50 (30 above 20) at 3", "amount": 12},
        {"label": "4 x pixels 1048576 (786432 above 262144) at 6", "amount": 24},
        {"label": "batch price -12.5 %", "amount": -7},
    ]


@pytest.mark.parametrize(
    ("permille", "said"), [(0, "-100 %"), (999, "-0.1 %"), (1500, "+50 %"), (999_999, "+99899.9 %")]
)
def test_tiers_are_said_exactly(permille: int, said: str) -> None:
    tier = {"min_batch": 1, "multiplier_permille": permille}
    assert cost(image(batch_multipliers=[tier], unit_credits=1000), batch_size=1).lines()[-1]["label"].endswith(said)


def test_what_is_priced_is_what_orders_can_carry() -> None:
    for wish in Wish.__subclasses__():
        if wish.__name__.endswith("Wish"):
            [kind] = get_args(wish.model_fields["type"].annotation)
            parameters = wish.model_fields["parameters"].annotation
            assert parameters is not None
            known = set(parameters.model_fields)
            carried = {name for name in ("steps", "seconds") if name in known}
            carried |= {"pixels"} if {"width", "height"} <= known else set()
            assert carried == set(PRICED[Type(kind)])


def test_an_extra_is_its_surcharge_with_an_amount() -> None:
    [met] = image(surcharges=(STEPS,)).extras({"steps": 21})
    assert met == Extra(parameter="steps", included=20, step=10, credits=1, amount=21)
