"""Every output shape of runpod.md 4, kept in `fixtures/` by the worker it comes from, and what is read from each.

A case has an `output` for a `type` of order, and what is found: `texts`, `media` (base64), `addresses`, the `error` it
hides, that it is `empty`, or that it is `unreadable`.
"""

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.generations import Type
from worker.kinds import KINDS
from worker.kinds.kind import Kind
from worker.kinds.passthrough import Passthrough
from worker.outputs import Delivery, Item

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.json"))
CASES = [
    pytest.param(path.stem, case, id=f"{path.stem}: {case['name']}")
    for path in FIXTURES
    for case in orjson.loads(path.read_bytes())
]
FINDINGS = ("texts", "media", "addresses", "error", "empty", "unreadable")


def kind_of(worker: str) -> Kind:
    """The kind that speaks to this worker, with whatever options; the plain one for those that have none."""
    return KINDS.get(worker, Passthrough).model_construct()


def expected(case: dict[str, Any]) -> Delivery:
    items = [Item(text=text) for text in case.get("texts", ())]
    items += [Item(content=base64.b64decode(content)) for content in case.get("media", ())]
    items += [Item(url=url) for url in case.get("addresses", ())]
    return Delivery(tuple(items), error=case.get("error"), empty=case.get("empty", False))


@pytest.mark.parametrize(("worker", "case"), CASES)
def test_what_is_read(worker: str, case: dict[str, Any]) -> None:
    assert any(name in case for name in FINDINGS), "a case says what is found"
    assert kind_of(worker).read(Type(case["type"]), case["output"]) == expected(case)


@pytest.mark.parametrize(("worker", "case"), CASES)
def test_a_pass_through_reads_it_just_the_same(worker: str, case: dict[str, Any]) -> None:
    assert Passthrough().read(Type(case["type"]), case["output"]) == expected(case)


def test_every_kind_has_its_shapes() -> None:
    assert set(KINDS) - {"passthrough"} <= {path.stem for path in FIXTURES}
