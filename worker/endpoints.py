"""The endpoints we send to: one profile for each, and the input that its worker understands."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
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

    def policy(self) -> dict[str, int]:
        """RunPod's policy, in milliseconds. ttl covers queue and run: RunPod deletes a job older than it."""
        ttl = self.queue_deadline + self.run_deadline + _TTL_MARGIN
        return {"executionTimeout": _milliseconds(self.run_deadline), "ttl": _milliseconds(ttl)}


def _milliseconds(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)


def profiles(settings: WorkerSettings) -> dict[Type, Profile]:
    """The profile of each type, from the settings."""
    return {
        generation_type: Profile(
            endpoint=Endpoint(type=generation_type, name=generation_type.value, endpoint_id=endpoint_id),
            queue_deadline=settings.queue_deadline,
            run_deadline=settings.run_deadline,
            expected_run=_EXPECTED_RUN[generation_type],
        )
        for generation_type, endpoint_id in settings.endpoint_ids().items()
    }


def remote_input(generation: Generation, *, source: tuple[str, bytes] | None) -> Mapping[str, Any]:
    """The `input` of /run: never empty, which RunPod would retry and fail (runpod.md 1.2).

    `source` is the media type and content of the image to modify.
    """
    image = {}
    if source is not None:
        media_type, content = source
        image = {"image": f"data:{media_type};base64,{base64.b64encode(content).decode()}"}
    return {**generation.parameters, "prompt": generation.prompt, "batch_size": generation.batch_size, **image}
