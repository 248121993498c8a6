"""Every kind of problem a reply can name: its status, what it means and what to do. `GET /problems/{code}` shows it."""

from dataclasses import dataclass

from fastapi import APIRouter
from typing_extensions import TypedDict

from shared.errors import NotFound

router = APIRouter(tags=["problems"])


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem. `retryable`: the same request may well succeed later, and nothing was done this time."""

    status: int
    title: str
    meaning: str
    remedy: str
    retryable: bool = False


KINDS: dict[str, Kind] = {
    "malformed-body": Kind(
        400, "Malformed body", "The body could not be read.", "Send valid JSON in UTF-8, as application/json."
    ),
    "garbled-webhook": Kind(
        400,
        "Garbled webhook",
        "The body is not a job of RunPod's: JSON with an id and a status.",
        "Send what /status would answer.",
    ),
    "invalid-cursor": Kind(
        400,
        "Invalid cursor",
        "The cursor was not issued here, or for another person or other filters.",
        "Start again without a cursor and follow next_cursor from there, filters unchanged.",
    ),
    "invalid-idempotency-key": Kind(
        400,
        "Invalid Idempotency-Key",
        "An Idempotency-Key has 1 to 255 visible ASCII characters.",
        "Send a fresh UUID for every new request, and the same one when you retry it.",
    ),
    "not-signed-in": Kind(
        401,
        "Not signed in",
        "There is no session, or it does not verify.",
        "Send a fresh session token as Authorization: Bearer.",
    ),
    "insufficient-credits": Kind(
        402,
        "Not enough credits",
        "The price is beyond the balance and the overdraft that may be used. Nothing was charged or held.",
        "Top up by the shortfall, ask for a smaller batch, or wait for running generations to give credits back.",
    ),
    "forbidden": Kind(
        403, "Not allowed", "You are signed in, but may not do this.", "Ask an administrator of this deployment."
    ),
    "invalid-token": Kind(
        403,
        "Invalid or expired address",
        "The signed address is malformed, forged or past its day.",
        "Fetch the generation again: it carries fresh addresses.",
    ),
    "not-found": Kind(
        404, "Not found", "There is nothing under this address, or it is not yours.", "Check the address or the id."
    ),
    "unknown-grant": Kind(
        404,
        "No such grant",
        "The person has no grant of this kind and source_ref.",
        "GET /v1/admin/operations with the person as scope lists the grants that were made.",
    ),
    "method-not-allowed": Kind(
        405,
        "Method not allowed",
        "This address does not answer to that method.",
        "The Allow header names the methods that it knows.",
    ),
    "conflict": Kind(
        409,
        "Conflict",
        "The request collides with something already recorded.",
        "The reply names what it collides with; read that and decide.",
    ),
    "grant-conflict": Kind(
        409,
        "Granted before on other terms",
        "This source_ref was granted to this person before, with another amount, payment, priority or dates.",
        "Use a source_ref of its own for every grant; repeat the old terms to get the old reply.",
    ),
    "price-changed": Kind(
        409,
        "The price changed",
        "The price is above max_cost, or the quote has expired or was made for something else.",
        "Ask for a new quote, show it to the person, and submit with that one.",
    ),
    "already-reversed": Kind(
        409,
        "Reversed before",
        "This was reversed before, with another amount or reason. That reversal stands; nothing was done now.",
        "Repeat the old amount and reason to get the old reply; what is still wrong is put right by an adjustment.",
    ),
    "not-charged": Kind(
        409,
        "Not charged",
        "The generation has not been charged, so there is nothing to give back.",
        "Wait until it has ended; what failed or was cancelled is not charged at all.",
    ),
    "not-enough-credits": Kind(
        409,
        "Not enough to take",
        "The person has less than that to take: credits that are held or were spent cannot be. Nothing was taken.",
        "Take what is available, or reverse the grant: that takes what is left of it.",
    ),
    "in-progress": Kind(
        409,
        "In progress",
        "A request with this Idempotency-Key is being worked on right now.",
        "Send the same request again in a moment: you will get its reply.",
        retryable=True,
    ),
    "body-too-large": Kind(413, "Body too large", "The body is larger than this address takes.", "Send less at once."),
    "range-not-satisfiable": Kind(
        416,
        "Range not satisfiable",
        "The output has no bytes in the range that was asked for.",
        "Content-Range names its size; ask for a range inside it, or without Range for the whole.",
    ),
    "request-timeout": Kind(
        408,
        "Request timeout",
        "The body did not arrive in time. Nothing was done.",
        "Send the same request again over a better line, or less at once.",
        retryable=True,
    ),
    "unsupported-media-type": Kind(
        415, "Unsupported media type", "The body must be application/json.", "Set Content-Type: application/json."
    ),
    "invalid-request": Kind(
        422,
        "Invalid request",
        "The request reads well but asks for something that cannot be.",
        "The detail says what to change.",
    ),
    "invalid-amount": Kind(
        422,
        "Invalid amount",
        "The ledger cannot work with this amount or date.",
        "Amounts are whole credits above 0, and credits end in the future.",
    ),
    "over-capture": Kind(
        422,
        "More than was charged",
        "The amount is above what the generation was charged. Nothing was given back.",
        "Leave amount out to give back all of it.",
    ),
    "unknown-plan": Kind(
        422, "No such plan", "There is no plan of this name.", "GET /v1/admin/plans lists them; PUT makes a new one."
    ),
    "unknown-time-zone": Kind(
        422,
        "No such time zone",
        "This is no place of the tz database.",
        "Send a name such as Europe/Berlin; abbreviations and offsets know no summer time.",
    ),
    "invalid-price": Kind(
        422,
        "Invalid price",
        "The price list cannot hold this price: it would begin in the past, or cost more than a hold can carry.",
        "errors[] names the field; a price begins now (leave effective_at out) or later.",
    ),
    "no-such-endpoint": Kind(
        422,
        "No such endpoint",
        "The endpoint has no price of its own for this type, so it cannot be asked for.",
        "GET /v1/pricing lists the endpoints that can be; without one, the type goes wherever it is sent.",
    ),
    "validation-failed": Kind(
        422,
        "Validation failed",
        "The request does not fit its description.",
        "errors[] says where and why; the description is at /openapi.json.",
    ),
    "idempotency-key-reused": Kind(
        422,
        "Idempotency-Key reused",
        "This Idempotency-Key was used before, within 30 days, with another body.",
        "Use a new key for a new request; repeat the old body to get the old reply.",
    ),
    "too-many-streams": Kind(
        429,
        "Too many event streams",
        "You hold more event streams open at once than the limit.",
        "Close one first; one stream for each open generation is enough.",
        retryable=True,
    ),
    "internal-error": Kind(
        500,
        "Something went wrong here",
        "Our fault. Whether anything was done is not known.",
        "Repeat with the same Idempotency-Key; report the request_id if it stays.",
        retryable=True,
    ),
    "account-busy": Kind(
        503,
        "Account busy",
        "Other requests held this account for too long. Nothing was done.",
        "Send the same request again.",
        retryable=True,
    ),
    "not-ready": Kind(
        503,
        "Not ready",
        "This process cannot serve yet, or no longer.",
        "The detail names what is missing; send people elsewhere until this answers 200.",
        retryable=True,
    ),
    "storage-unavailable": Kind(
        503,
        "Storage unavailable",
        "The store that keeps the outputs cannot be read or written just now. Nothing is lost.",
        "Try again after Retry-After seconds.",
        retryable=True,
    ),
    "unavailable": Kind(
        503,
        "Temporarily unavailable",
        "A part that this server stands on cannot be reached. Nothing was done.",
        "Try again after Retry-After seconds.",
        retryable=True,
    ),
}


class ProblemPage(TypedDict):
    """What a problem code means."""

    code: str
    status: int
    title: str
    meaning: str
    what_to_do: str
    retryable: bool


@router.get("/problems/{code}", operation_id="explainProblem")
async def explain(code: str) -> ProblemPage:
    """What a problem's `type` address leads to."""
    kind = KINDS.get(code)
    if kind is None:
        raise NotFound("There is no problem of this name.")
    return {
        "code": code,
        "status": kind.status,
        "title": kind.title,
        "meaning": kind.meaning,
        "what_to_do": kind.remedy,
        "retryable": kind.retryable,
    }
