"""What can go wrong, in the product's own words. Domain errors know no HTTP; `api/errors.py` maps each once."""

from collections.abc import Mapping
from typing import Any, ClassVar


class TwinError(Exception):
    """A refusal with a stable code, a sentence for people, and facts a program can use.

    Attributes:
        code: stable kebab-case name of the error; also the end of its documentation URL.
        detail: one sentence that says what to do next.
        facts: extra members for the reply, JSON-compatible.
    """

    code: ClassVar[str] = "error"

    def __init__(self, detail: str, **facts: Any) -> None:
        """Say what happened in one sentence; `facts` ride along in the reply."""
        super().__init__(detail)
        self.detail = detail
        self.facts: Mapping[str, Any] = facts


class NotFound(TwinError):
    """There is no such thing, or it belongs to somebody else; we do not say which."""

    code = "not-found"


class Invalid(TwinError):
    """The request reads well but asks for something that cannot be."""

    code = "invalid-request"


class InvalidCursor(TwinError):
    """A cursor that we did not sign, or that was signed for another person or filter."""

    code = "invalid-cursor"


class InvalidToken(TwinError):
    """A token, capability or signature that is malformed, expired or not ours."""

    code = "invalid-token"


class InsufficientCredits(TwinError):
    """The price is beyond the balance and the overdraft that the person may use."""

    code = "insufficient-credits"


class PriceChanged(TwinError):
    """The price now is above the `max_cost` that the person agreed to, or a quote no longer fits."""

    code = "price-changed"


class Conflict(TwinError):
    """The request collides with something already recorded."""

    code = "conflict"


class ConfigurationRefused(TwinError):
    """Settings we will not start with; the sentence names the variable and why."""

    code = "configuration-refused"
