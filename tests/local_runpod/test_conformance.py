"""Every fact about RunPod has a test that claims it, and the table that people read says so."""

import pytest

from tests.local_runpod import conformance


def facts() -> dict[str, str]:
    return {
        name: words
        for section, lines in conformance.sections().items()
        if section != conformance.LEFT_OUT
        for name, words in lines.items()
    }


def test_a_fact_has_one_name_and_says_how_it_is_known() -> None:
    names = [name for lines in conformance.sections().values() for name in lines]
    assert len(set(names)) == len(names)
    assert {words[:4] for words in facts().values()} == {"D · ", "L · ", "C · "}


def test_every_fact_is_proven_by_a_test() -> None:
    assert sorted(facts().keys() - conformance.proofs().keys()) == []


def test_no_test_claims_what_is_no_fact() -> None:
    assert sorted(conformance.proofs().keys() - facts().keys()) == []


def test_the_table_is_the_one_the_tests_make() -> None:
    if conformance.TABLE.read_text() != conformance.table():
        pytest.fail("the table is out of date: .venv/bin/python -m tests.local_runpod.conformance")
