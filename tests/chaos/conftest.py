"""A database of its own for every run, as for the stories in tests/flow."""

from tests.flow.conftest import database_url

__all__ = ["database_url"]
