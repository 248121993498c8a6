"""Every fact about RunPod has a test that claims it, and the table that people read says so."""

import re

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
        pytest.fail(f"a fact, a test or the line of one changed; make the table anew: {conformance.COMMAND}")


def test_every_link_leads_to_the_test_itself() -> None:
    links = re.findall(r"\[([^]]+)\]\(([^)#]+)#L(\d+)\)", conformance.table())
    assert len(links) >= len(facts())
    for words, file, line in links:
        written = (conformance.TABLE.parent / file).read_text().splitlines()[int(line) - 1]
        assert re.match(r"(async )?def (\w+)\(", written), (words, written)
        assert f"def test_{words.replace(' ', '_')}(" in written


def test_what_is_left_out_says_why() -> None:
    assert [name for name, words in conformance.sections()[conformance.LEFT_OUT].items() if ": " not in words] == []
