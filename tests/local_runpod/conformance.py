"""Which test proves which fact about RunPod; `python -m tests.local_runpod.conformance` writes the table anew.

A fact is a line of `tests/local/runpod/facts.toml`; a test says `@conforms("run-body")`.
"""

import ast
import importlib
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

HERE: Final = Path(__file__).parent
GATEWAY: Final = HERE.parent / "local" / "runpod"
TABLE: Final = GATEWAY / "CONFORMANCE.md"
LEFT_OUT: Final = "Left out"

COMMAND: Final = ".venv/bin/python -m tests.local_runpod.conformance"

_HEAD: Final = f"""\
# What this RunPod has in common with RunPod

Made by `{COMMAND}` from `facts.toml` and the tests that claim a fact;
a test compares. Evidence for the fact itself: **D** official documentation or SDK source, **L** a published capture of
the live service, **C** third-party client code. Nothing here was ever checked against the live service by us.
"""


def conforms(*facts: str) -> pytest.MarkDecorator:
    """Mark a test as proof of these facts."""
    return pytest.mark.conforms(*facts)


def sections() -> dict[str, dict[str, str]]:
    """Every section with its facts, `name -> words`."""
    return tomllib.loads((GATEWAY / "facts.toml").read_text())


class Proof(NamedTuple):
    """A test: its file, its name, and the line where it is written."""

    file: str
    name: str
    line: int


def proofs() -> dict[str, list[Proof]]:
    """Find the tests behind each fact that any test claims."""
    found: dict[str, list[Proof]] = defaultdict(list)
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(f"tests.local_runpod.{path.stem}")
        for node in ast.parse(path.read_text()).body:
            # The line of a node is that of its `def`; what Python itself remembers is where its marks begin.
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for fact in _claims(getattr(module, node.name)):
                    found[fact].append(Proof(path.name, node.name, node.lineno))
    return found


def _claims(test: Any) -> list[str]:
    marks: list[pytest.Mark] = getattr(test, "pytestmark", [])
    return [fact for mark in marks if mark.name == "conforms" for fact in mark.args]


def table() -> str:
    """Write the whole table."""
    proven = proofs()
    lines = [_HEAD]
    for section, facts in sections().items():
        if section == LEFT_OUT:
            lines += [f"## {section}", "", *(f"- {words}" for words in facts.values())]
            continue
        lines += [f"## {section}", "", "| fact | evidence | proven by |", "|---|---|---|"]
        for name, words in facts.items():
            evidence, _, fact = words.partition(" · ")
            lines.append(f"| {fact} | {evidence} | {_links(proven.get(name, []))} |")
        lines.append("")
    return "\n".join(lines) + "\n"


def _links(tests: list[Proof]) -> str:
    return "<br>".join(f"[{_words(test.name)}](../../local_runpod/{test.file}#L{test.line})" for test in tests)


def _words(test: str) -> str:
    return test.removeprefix("test_").replace("_", " ")


if __name__ == "__main__":
    TABLE.write_text(table())
