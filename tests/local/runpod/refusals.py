"""The answers RunPod gives instead of a result, word for word where somebody captured them from the live service."""

import math
from typing import Any


class Refusal(Exception):
    """A call that RunPod refuses.

    `status` is the HTTP code, `body` the JSON answered with it. Beware: in these bodies `status` is a number,
    in a job's body it is a string.
    """

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(body.get("detail", status))
        self.status = status
        self.body = body
        self.headers: dict[str, str] = {}


def problem(status: int, title: str, detail: str) -> Refusal:
    """Build a refusal in RunPod's error envelope."""
    return Refusal(status, {"status": status, "title": title, "detail": detail})


def no_token() -> Refusal:
    """401: the Authorization header is missing or empty."""
    return problem(401, "Unauthorized", "no token provided")


def invalid_key() -> Refusal:
    """401: the key is not ours."""
    return problem(401, "Unauthorized", "invalid api key")


def endpoint_not_found() -> Refusal:
    """404: no such endpoint, or somebody else's."""
    return problem(404, "Not Found", "endpoint not found")


def job_not_found() -> Refusal:
    """404: never known, expired, purged or past its retention."""
    return problem(404, "Not Found", "job not found")


def bad_request(detail: str) -> Refusal:
    """400: a malformed call; only the wording for a body too large is known from the live service."""
    return problem(400, "Bad Request", f"bad request: {detail}")


def body_too_large(limit_bytes: int) -> Refusal:
    """400: the body is over the operation's limit."""
    return bad_request(f"body: exceeded max body size of {limit_bytes // (1024 * 1024)}MiB")


def endpoint_paused() -> Refusal:
    """409: the endpoint has no workers (`max_workers=0`)."""
    detail = "Endpoint is paused (max_workers=0). Set max_workers > 0 to accept work."
    return Refusal(409, {"code": "ENDPOINT_PAUSED", "detail": detail})


def too_many_requests(retry_after_seconds: float = 0) -> Refusal:
    """429: over the rate or the concurrency of this operation; no body was ever captured, this one is ours.

    Nothing says that RunPod sends Retry-After; it is here because clients look for it.
    """
    refusal = problem(429, "Too Many Requests", "rate limit exceeded")
    if retry_after_seconds:
        refusal.headers["retry-after"] = str(math.ceil(retry_after_seconds))
    return refusal


def server_trouble(status: int) -> Refusal:
    """Any 5xx; no body was ever captured, this one is ours."""
    return problem(status, "Server Error", "something went wrong on our side")


class Silence(Exception):
    """A call that gets no answer: held for `seconds`, then the connection goes; at once when `seconds` is 0."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer for {seconds} s")
        self.seconds = seconds
