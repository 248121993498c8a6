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
    # How to speak to its worker.
    kind: Kind = field(default_factory=Passthrough)
    # Among the endpoints of a type, those of the lowest priority number share the work by weight.
    priority: int = 0
    weight: int = 1
    # Its text comes out at /stream while it is made.
    streams: bool = False
    # How many jobs it may have of us at once, queued or running. The rest waits in our line, which is fair.
    # None: it does not say (Endpoints.said).
    max_concurrency: int | None = None
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

    def __init__(self, profiles: Sequence[Profile], *, max_concurrency: int | None = None) -> None:
        """Names are unique. `max_concurrency` is that of an endpoint whose profiles say none, if anybody said one."""
        self._by_name = {profile.endpoint.name: profile for profile in profiles}
        self._max_concurrency = max_concurrency

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

    def said(self) -> dict[str, int]:
        """How many jobs an endpoint may have of us at once, by its id, where that was said: the lowest of its profiles.

        A profile that says nothing lowers nothing: the default is for endpoints of which no profile speaks. Where there
        is none, either, what was learnt counts (worker/capacity.py).
        """
        said: dict[str, int] = {}
        for profile in self:
            endpoint_id, most = profile.endpoint.endpoint_id, profile.max_concurrency
            if most is not None:
                said[endpoint_id] = min(most, said.get(endpoint_id, most))
        if self._max_concurrency is not None:
            for profile in self:
                said.setdefault(profile.endpoint.endpoint_id, self._max_concurrency)
        return said

    def of_type(self, generation_type: Type) -> list[Profile]:
        """The endpoints that can be asked for this type."""
        return [profile for profile in self if profile.endpoint.type is generation_type]

    def pursued(self, generation: Generation) -> Profile:
        """On whose terms a generation that was sent is followed.

        An endpoint that has left the configuration since leaves its jobs the terms of another of their type.
        """
        return self.named(generation.endpoint) or self.of_type(generation.type)[0]
