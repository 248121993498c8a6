"""The endpoints we send to: one profile for each, and the input that its worker understands."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared.generations import Generation, Type
from worker.settings import WorkerSettings
from worker.transitions import Endpoint

_EXPECTED_RUN = {
    Type.TEXT: timedelta(seconds=2),
    Type.IMAGE: timedelta(seconds=3),
    Type.MODIFY: timedelta(seconds=3),
    Type.VIDEO: timedelta(seconds=6),
}
"""A first guess, until the endpoint's own history speaks (worker/pace.py)."""
_TTL_MARGIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An endpoint and the policy of what is sent there."""

    endpoint: Endpoint
    queue_deadline: timedelta
    run_deadline: timedelta
    expected_run: timedelta
    # Among the endpoints of a type, those of the lowest priority number share the work by weight.
    priority: int = 0
    weight: int = 1
    # Its text comes out at /stream while it is made.
    streams: bool = False
    # How many jobs it may have of us at once, queued or running; None: as many as RunPod takes.
    max_concurrency: int | None = None
    # US dollars that one job is expected to cost us; None: nobody has said.
    expected_cost_usd: Decimal | None = None

    def policy(self) -> dict[str, int]:
        """RunPod's policy, in milliseconds. ttl covers queue and run: RunPod deletes a job older than it."""
        ttl = self.queue_deadline + self.run_deadline + _TTL_MARGIN
        return {"executionTimeout": _milliseconds(self.run_deadline), "ttl": _milliseconds(ttl)}


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

    def named(self, name: str | None) -> Profile | None:
        """The profile of this name, if there is one."""
        return self._by_name.get(name) if name is not None else None

    def of_type(self, generation_type: Type) -> list[Profile]:
        """The endpoints that can be asked for this type."""
        return [profile for profile in self if profile.endpoint.type is generation_type]

    def pursued(self, generation: Generation) -> Profile:
        """On whose terms a generation that was sent is followed.

        An endpoint that has left the configuration since leaves its jobs the terms of another of their type.
        """
        return self.named(generation.endpoint) or self.of_type(generation.type)[0]


def read_endpoints(settings: WorkerSettings) -> Endpoints:
    """The endpoints that the settings name."""
    return Endpoints(
        [
            Profile(
                endpoint=Endpoint(type=generation_type, name=generation_type.value, endpoint_id=endpoint_id),
                queue_deadline=settings.queue_deadline,
                run_deadline=settings.run_deadline,
                expected_run=_EXPECTED_RUN[generation_type],
            )
            for generation_type, endpoint_id in settings.endpoint_ids().items()
        ]
    )


def remote_input(generation: Generation, *, source: tuple[str, bytes] | None) -> Mapping[str, Any]:
    """The `input` of /run: never empty, which RunPod would retry and fail (runpod.md 1.2).

    `source` is the media type and content of the image to modify.
    """
    image = {}
    if source is not None:
        media_type, content = source
        image = {"image": f"data:{media_type};base64,{base64.b64encode(content).decode()}"}
    return {**generation.parameters, "prompt": generation.prompt, "batch_size": generation.batch_size, **image}
