"""For whoever runs this: is it alive, is it ready, what is waiting. Unknown is null or absent, never 0."""

import asyncio
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NotRequired

import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import REGISTRY, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import TypedDict

from api import endpoints, replies
from api.auth import Administrator
from api.errors import Forbidden, NotReady
from api.state import State, state_of
from shared import queue, sql, verifications
from shared.database import UNREACHABLE
from shared.errors import NotFound
from shared.generations import RESERVED_DEADLINE
from shared.generations import State as Status
from shared.queue import REDIS_FAILURES
from shared.schema import schema_status

_SQL = sql.load(__file__)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
_IN_FLIGHT = (Status.SUBMITTING, Status.SUBMITTED, Status.RUNNING, Status.FINISHING)

router = APIRouter(tags=["operations"])


class VerificationReply(TypedDict):
    """What the last verification of the ledger came to.

    `since`: it was of the accounts that were touched since then; null: of everybody. `ok`: it got to its end and found
    nothing. `error`: why it did not get to its end. `first_findings` name the first rows that disagree.
    """

    at: datetime
    ok: bool
    since: datetime | None
    accounts: int
    entries: int
    findings: int
    first_findings: list[dict[str, Any]]
    error: str | None


class QueueReply(TypedDict):
    """What is waiting and under way.

    `bells` are unanswered rings in Redis; `depth` counts generations that wait to be sent, `oldest_wait_seconds` is
    how long one has stood in line. `stuck`: on their way, and nobody took them for a minute after they were due.
    null: not known just now. `verification` is absent until there has been one.
    """

    depth: int | None
    bells: int | None
    oldest_wait_seconds: float | None
    states: dict[str, int] | None
    in_flight: int | None
    stuck: int | None
    open_holds: int | None
    endpoints: list[endpoints.EndpointReply] | None
    verification: NotRequired[VerificationReply | None]


@dataclass(frozen=True, slots=True)
class Work:
    """What Postgres knows about open work, and about the ledger."""

    states: dict[str, int]
    oldest_wait_seconds: float
    stuck: int
    open_holds: int
    endpoints: list[endpoints.Endpoint]
    verification: verifications.Verification | None


@router.get("/healthz", operation_id="getHealth")
async def healthz() -> dict[str, str]:
    """Whether this process answers at all."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="getReadiness")
async def readyz(request: Request) -> dict[str, str]:
    """Whether this process can serve: Postgres answers with the schema of this code, and Redis answers."""
    state = state_of(request)
    missing = [problem for problem in await asyncio.gather(_database(state), _redis(state)) if problem]
    if missing:
        raise NotReady(" ".join(missing), missing=missing)
    return {"status": "ready"}


async def _database(state: State) -> str | None:
    try:
        async with asyncio.timeout(LOOK_SECONDS), state.connection() as connection:
            status = await schema_status(connection)
    except UNREACHABLE as error:
        return f"Postgres does not answer ({type(error).__name__})."
    return None if status.ready else f"The schema does not fit: {status.detail}."


async def _redis(state: State) -> str | None:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await state.queue.ping()
    except REDIS_FAILURES as error:
        return f"Redis does not answer ({type(error).__name__})."
    return None


@router.get("/ops/queue", operation_id="getQueue", response_model=QueueReply)
async def get_queue(request: Request, _: Administrator) -> Response:
    """What is waiting and under way, for administrators."""
    state = state_of(request)
    work, bells = await asyncio.gather(open_work(state), unanswered_bells(state))
    reply: QueueReply = {
        "depth": work.states[Status.RESERVED] if work else None,
        "bells": bells,
        "oldest_wait_seconds": work.oldest_wait_seconds if work else None,
        "states": work.states if work else None,
        "in_flight": sum(work.states[status] for status in _IN_FLIGHT) if work else None,
        "stuck": work.stuck if work else None,
        "open_holds": work.open_holds if work else None,
        "endpoints": [endpoints.reply(each) for each in work.endpoints] if work else None,
    }
    if work is None:
        reply["verification"] = None
    elif work.verification is not None:
        reply["verification"] = _verification(work.verification)
    return replies.json_response(reply)


async def open_work(state: State) -> Work | None:
    """What is open in Postgres; None when it does not say."""
    try:
        async with asyncio.timeout(LOOK_SECONDS), state.connection() as connection:
            counted = {row["state"]: row["generations"] for row in await connection.fetch(_SQL["open_states"])}
            waiting = await connection.fetchrow(_SQL["waiting"], RESERVED_DEADLINE)
            open_holds = await connection.fetchval(_SQL["open_holds"])
            known = await endpoints.all_known(connection)
            verification = await verifications.latest(connection)
    except UNREACHABLE as error:
        log.warning("ops.database_unknown", error=type(error).__name__)
        return None
    if waiting is None:
        return None
    states = {status.value: counted.get(status.value, 0) for status in (Status.RESERVED, *_IN_FLIGHT)}
    return Work(states, waiting["oldest_seconds"] or 0.0, waiting["stuck"], open_holds, known, verification)


def _verification(verification: verifications.Verification) -> VerificationReply:
    return {
        "at": verification.finished_at,
        "ok": verification.ok,
        "since": verification.since,
        "accounts": verification.accounts,
        "entries": verification.entries,
        "findings": verification.findings,
        "first_findings": verification.first_findings,
        "error": verification.error,
    }


async def unanswered_bells(state: State) -> int | None:
    """How many rings the workers have not answered; None when Redis does not say."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await queue.depth(state.queue)
    except REDIS_FAILURES as error:
        log.warning("ops.redis_unknown", error=type(error).__name__)
        return None


@router.get("/metrics", operation_id="getMetrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus metrics, behind `METRICS_TOKEN` as a Bearer. Without one: open locally, not there in production."""
    state = state_of(request)
    token = state.settings.metrics_token
    if token is None and state.settings.mode == "production":
        raise NotFound("There is nothing under this address.")
    if token is not None:
        offered = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(offered.encode(), token.get_secret_value().encode()):
            raise Forbidden("METRICS_TOKEN is needed here, as a Bearer.")
    work, bells = await asyncio.gather(open_work(state), unanswered_bells(state))
    gauges = CollectorRegistry()
    gauges.register(_Gauges(state.settings.queue_name, work, bells))
    return Response(generate_latest(REGISTRY) + generate_latest(gauges), media_type=CONTENT_TYPE_LATEST)


class _Gauges(Collector):
    """One look at what is open, in Prometheus's terms."""

    def __init__(self, queue_name: str, work: Work | None, bells: int | None) -> None:
        self._queue = queue_name
        self._work = work
        self._bells = bells

    def collect(self) -> Iterator[Metric]:
        if self._bells is not None:
            bells = GaugeMetricFamily("twin_queue_bells", "Rings not yet answered", labels=["queue"])
            bells.add_metric([self._queue], self._bells)
            yield bells
        if self._work is None:
            return
        depth = GaugeMetricFamily("twin_queue_depth", "Generations waiting to be sent", labels=["queue"])
        depth.add_metric([self._queue], self._work.states[Status.RESERVED])
        yield depth
        oldest = GaugeMetricFamily("twin_queue_oldest_age_seconds", "Longest wait in line", labels=["queue"])
        oldest.add_metric([self._queue], self._work.oldest_wait_seconds)
        yield oldest
        states = GaugeMetricFamily("twin_generations", "Open generations by state", labels=["state"])
        for status, count in self._work.states.items():
            states.add_metric([status], count)
        yield states
        yield GaugeMetricFamily("twin_generations_stuck", "Due for a minute and not taken", value=self._work.stuck)
        yield GaugeMetricFamily("twin_holds_open", "Credit holds that are open", value=self._work.open_holds)
        yield from endpoints.gauges(self._work.endpoints)
        if (last := self._work.verification) is not None and last.error is None:
            yield GaugeMetricFamily("twin_ledger_findings", "Ledger rows that disagree", value=last.findings)
            verified = last.finished_at.timestamp()
            yield GaugeMetricFamily("twin_ledger_verified_timestamp_seconds", "When that was found out", value=verified)
