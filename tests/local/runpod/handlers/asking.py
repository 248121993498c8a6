"""What a job asks of a sample handler, and the manners all four share."""

import asyncio
import hashlib
import os
import random
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

import runpod

TROUBLES: Final = re.compile(r"\[(fail|partial|slow|soft-error|broken)\]")
MOST_ITEMS: Final = 16
SLOW_STEPS: Final = 8
PACES_PER_SLOW_STEP: Final = 2
USUAL_STEPS: Final = 20
MOST_STEPS: Final = 100
MOST_SECONDS: Final = 20


@dataclass(frozen=True)
class Asking:
    """One job's input, checked."""

    prompt: str
    seed: int
    batch_size: int
    troubles: frozenset[str]
    parameters: dict[str, Any]

    @property
    def deliverable(self) -> int:
        """How many items will be made."""
        return self.batch_size - ("partial" in self.troubles)

    def shortfall(self) -> dict[str, list[str]]:
        """Say in `errors` what was not made; nothing when all was."""
        if self.deliverable == self.batch_size:
            return {}
        return {"errors": [f"item {self.batch_size} was not made: the prompt asked for a partial delivery"]}

    def dice(self, item: int) -> random.Random:
        """Chance for one item of the batch, the same for the same prompt and seed."""
        return random.Random(f"{self.prompt}|{self.seed + item}")

    def palette_dice(self) -> random.Random:
        """Chance that depends on the prompt alone, so that a batch looks like a family."""
        return random.Random(hashlib.sha256(self.prompt.lower().encode()).hexdigest())

    def pixels(self, name: str, default: int) -> int:
        """Read a length such as `width`. Raises ValueError outside 64 to 1024."""
        return _whole(self.parameters, name, default, 64, 1024)

    def steps(self) -> int:
        """Read how long to refine; the usual number when it is not said. Raises ValueError outside 1 to 100."""
        return _whole(self.parameters, "steps", USUAL_STEPS, 1, MOST_STEPS)

    def duration_ms(self, default: int) -> int:
        """Read `seconds`, the length of a clip, in milliseconds. Raises ValueError outside 1 to 20."""
        return (
            1000 * _whole(self.parameters, "seconds", 1, 1, MOST_SECONDS) if "seconds" in self.parameters else default
        )


def read(job: dict[str, Any]) -> Asking:
    """Read the job's input. Raises ValueError when it makes no sense, RuntimeError for `[fail]`."""
    given: dict[str, Any] = dict(job["input"])
    prompt = given.pop("prompt", None)
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("prompt must be a text that is not empty")
    seed = given.pop("seed", None)
    if seed is None:
        seed = secrets.randbelow(2**31)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ValueError("seed must be a whole number")
    batch_size = _whole(given, "batch_size", 1, 1, MOST_ITEMS)
    given.pop("batch_size", None)
    troubles = frozenset(TROUBLES.findall(prompt))
    if "fail" in troubles:
        raise RuntimeError("the prompt asked for a failure")
    plain = " ".join(TROUBLES.sub(" ", prompt).split()) or "nothing in particular"
    return Asking(plain, seed, batch_size, troubles, given)


async def keep_pace(job: dict[str, Any], asking: Asking) -> None:
    """Take a visible moment, or with `[slow]` a long one with progress."""
    pace = float(os.environ.get("TWIN_HANDLER_PACE_SECONDS", "0.5"))
    if "slow" not in asking.troubles:
        await asyncio.sleep(pace)
        return
    for step in range(SLOW_STEPS):
        runpod.serverless.progress_update(job, f"{100 * step // SLOW_STEPS}%")
        await asyncio.sleep(PACES_PER_SLOW_STEP * pace)


def soft_error(asking: Asking) -> list[dict[str, Any]] | None:
    """Give the output that hides an error, if asked for.

    A list, as worker-vllm has it: the SDK takes an `error` key of a plain dict for a real failure.
    """
    if "soft-error" not in asking.troubles:
        return None
    return [{"error": {"message": "the prompt asked for a hidden error", "type": "BadRequestError", "code": 400}}]


def _whole(given: dict[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = given.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}")
    return value
