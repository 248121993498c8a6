"""How RunPod's endpoints are, for whoever runs this: whether they are sent work, and what they said of themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from typing_extensions import TypedDict

from shared import sql
from shared.database import Connection
from shared.generations import Type

_SQL = sql.load(__file__)

BREAKERS = ("closed", "half_open", "open")
STALE = timedelta(seconds=90)
"""A worker asks every 30 s (worker/health.py): what is older is not known any more, nor gone by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint. `health`: what it said lately, None when it did not."""

    name: str
    type: Type
    endpoint_id: str
    breaker: str
    reason: str | None
    retry_at: datetime | None
    sampled_at: datetime | None
    health: dict[str, dict[str, int]] | None
    in_flight: int
    learnt_limit: int | None


class EndpointReply(TypedDict):
    """An endpoint of RunPod's.

    `breaker`: closed (it is sent work), open (it is not, until `retry_at`, for this `reason`) or half_open (one
    generation is on its way to find out). `in_flight`: what it has of ours by our own count, with ends that we have not
    heard of. `learnt_limit`: how much it should have of ours by what it says that it runs; that counts unless the
    workers were told a number. `jobs` and `workers` are its own counts at `sampled_at`; null: not known just now.
    """

    name: str
    type: Type
    endpoint_id: str
    breaker: str
    reason: str | None
    retry_at: datetime | None
    in_flight: int
    learnt_limit: int | None
    jobs: dict[str, int] | None
    workers: dict[str, int] | None
    sampled_at: datetime | None


async def all_known(connection: Connection) -> list[Endpoint]:
    """Every endpoint that a worker looks after, or that still has work of ours."""
    return [Endpoint(**row) for row in await connection.fetch(_SQL["all_known"], STALE)]


def reply(endpoint: Endpoint) -> EndpointReply:
    """An endpoint as it is told."""
    health = endpoint.health or {}
    return {
        "name": endpoint.name,
        "type": endpoint.type,
        "endpoint_id": endpoint.endpoint_id,
        "breaker": endpoint.breaker,
        "reason": endpoint.reason,
        "retry_at": endpoint.retry_at,
        "in_flight": endpoint.in_flight,
        "learnt_limit": endpoint.learnt_limit,
        "jobs": health.get("jobs"),
        "workers": health.get("workers"),
        "sampled_at": endpoint.sampled_at,
    }


def gauges(endpoints: Sequence[Endpoint]) -> Iterator[Metric]:
    """The endpoints in Prometheus's terms; what is not known is absent."""
    breakers = GaugeMetricFamily("twin_endpoint_breaker", "1: the state it is in", labels=["endpoint", "state"])
    workers = GaugeMetricFamily("twin_runpod_workers", "RunPod's own count of workers", labels=["endpoint", "state"])
    for endpoint in endpoints:
        for state in BREAKERS:
            breakers.add_metric([endpoint.endpoint_id, state], float(endpoint.breaker == state))
        for state, count in (endpoint.health or {}).get("workers", {}).items():
            workers.add_metric([endpoint.endpoint_id, state], count)
    yield breakers
    yield workers
