"""The endpoints we send to: one profile for each. Where they are named is in `worker/configuration.py`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

from shared.generations import Generation, Type
from worker.kinds.kind import Kind
from worker.kinds.passthrough import Passthrough
from worker.transitions import Endpoint

_TTL_MARGIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An endpoint and the policy of what is sent there."""

    endpoint: Endpoint
    queue_deadline: timedelta
    run_deadline: timedelta
    expected_run: timedelta
    # How many jobs it may have of us at once, queued or running. The rest waits in our line, which is fair.
    max_concurrency: int
    # How to speak to its worker.
    kind: Kind = field(default_factory=Passthrough)
    # Among the endpoints of a type, those of the lowest priority number share the work by weight.
    priority: int = 0
    weight: int = 1
    # Its text comes out at /stream while it is made.
    streams: bool = False
    # US dollars that one job is expected to cost us; None: nobody has said.
    expected_cost_usd: Decimal | None = None

    @property
    def ttl(self) -> timedelta:
        """How old a job may become; it covers queue and run. RunPod deletes one that is older."""
        return self.queue_deadline + self.run_deadline + _TTL_MARGIN

    def policy(self) -> dict[str, int]:
        """RunPod's policy, in milliseconds."""
        return {"executionTimeout": _milliseconds(self.run_deadline), "ttl": _milliseconds(self.ttl)}


def _milliseconds(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)


class Endpoints:
    """Every endpoint of this deployment: one or more for each type."""

    def __init__(self, profiles: Sequence[Profile]) -> None:
        """Names are unique."""
        self._by_name = {profile.endpoint.name: profile for profile in profiles}

    def __iter__(self) -> Iterator[Profile]:
        """In the order of the configuration."""
        return iter(self._by_name.values())

    def ttl(self, endpoint_id: str) -> timedelta | None:
        """After how long RunPod has surely deleted a job of this endpoint; None when it is none of these."""
        ttls = (profile.ttl for profile in self if profile.endpoint.endpoint_id == endpoint_id)
        return max(ttls, default=None)

    def named(self, name: str | None) -> Profile | None:
        """The profile of this name, if there is one."""
        return self._by_name.get(name) if name is not None else None

    def limits(self) -> dict[str, int]:
        """How many jobs an endpoint may have of us at once, by its id: the lowest that any of its profiles says."""
        lowest: dict[str, int] = {}
        for profile in self:
            endpoint_id, limit = profile.endpoint.endpoint_id, profile.max_concurrency
            lowest[endpoint_id] = min(limit, lowest.get(endpoint_id, limit))
        return lowest

    def of_type(self, generation_type: Type) -> list[Profile]:
        """The endpoints that can be asked for this type."""
        return [profile for profile in self if profile.endpoint.type is generation_type]

    def pursued(self, generation: Generation) -> Profile:
        """On whose terms a generation that was sent is followed.

        An endpoint that has left the configuration since leaves its jobs the terms of another of their type.
        """
        return self.named(generation.endpoint) or self.of_type(generation.type)[0]
