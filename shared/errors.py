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


class InvalidPrice(Invalid):
    """A price that cannot be: it would begin in the past, or its dearest order would not fit in a hold."""

    code = "invalid-price"


class NoSuchEndpoint(Invalid):
    """The order names an endpoint that has no price of its own for this type."""

    code = "no-such-endpoint"


class Conflict(TwinError):
    """The request collides with something already recorded."""

    code = "conflict"


class ConfigurationRefused(TwinError):
    """Settings we will not start with; the sentence names the variable and why."""

    code = "configuration-refused"


class KeyReused(Conflict):
    """An idempotency key that was used for another request; take a new key for a new request."""

    code = "idempotency-key-reused"


class UnknownHold(NotFound):
    """There is no such hold."""

    code = "unknown-hold"


class HoldNotOpen(Conflict):
    """The hold was settled before, by another key; what it came to stands."""

    code = "hold-not-open"


class HoldExists(Conflict):
    """The generation has a hold that is open or was charged, taken under another key; or it is somebody else's."""

    code = "hold-exists"


class OverCapture(Invalid):
    """More was to be charged than had been quoted."""

    code = "over-capture"


class GrantConflict(Conflict):
    """This source_ref was granted before, on other terms."""

    code = "grant-conflict"


class InvalidAmount(Invalid):
    """An amount, key or date that the ledger cannot work with."""

    code = "invalid-amount"


class NotEnough(Conflict):
    """Less than that can be taken from the account; nothing was."""

    code = "not-enough-credits"


class UnknownPlan(Invalid):
    """There is no plan of this name."""

    code = "unknown-plan"


class UnknownTimeZone(Invalid):
    """Not a time zone of the tz database, such as Europe/Berlin."""

    code = "unknown-time-zone"


class UnknownGrant(NotFound):
    """The person has no grant of this kind and source_ref."""

    code = "unknown-grant"


class NotCharged(Conflict):
    """Nothing was charged, so nothing can be given back."""

    code = "not-charged"


class AlreadyReversed(Conflict):
    """It was reversed before, with another amount or reason; that reversal stands."""

    code = "already-reversed"


class AccountBusy(TwinError):
    """The account stayed locked for too long. Nothing happened; the same request may be sent again."""

    code = "account-busy"


class StorageUnavailable(TwinError):
    """Outputs cannot be read or written just now; nothing is lost, try again."""

    code = "storage-unavailable"
