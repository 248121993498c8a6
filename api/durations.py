"""How long generations take: quantiles of those that finished, and what they tell of one that is on its way."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import TypedDict

SHARES = [step / 20 for step in range(21)]
_MIXED_OF = 400


class Seconds(TypedDict):
    """How many seconds from now half and nine tenths of such generations are ready."""

    p50: int
    p90: int


def seconds(p50: float, p90: float) -> Seconds:
    """As it is told: whole seconds, never none, and no less for nine tenths than for half."""
    half, most = (max(math.ceil(round(told, 6)), 1) for told in (p50, max(p50, p90)))
    return {"p50": half, "p90": most}


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds from sent to finished, of recent generations: quantiles at SHARES, from the quickest to the slowest."""

    quantiles: Sequence[float]

    def at(self, share: float) -> float:
        """What this share of them took at most."""
        place = share * (len(self.quantiles) - 1)
        below = min(int(place), len(self.quantiles) - 2)
        low, high = self.quantiles[below : below + 2]
        return low + (high - low) * (place - below)

    def remaining(self, age_seconds: float) -> Seconds | None:
        """What is left after `age_seconds`, as those tell that took longer; None when hardly any did."""
        if age_seconds >= self.at(0.9):
            return None
        longer = 1 - self._share(age_seconds)
        return seconds(*(self.at(1 - longer * (1 - part)) - age_seconds for part in (0.5, 0.9)))

    def _share(self, age_seconds: float) -> float:
        """How many took no longer; `age_seconds` is less than the slowest took."""
        above = bisect_right(self.quantiles, age_seconds)
        if above == 0:
            return 0.0
        low, high = self.quantiles[above - 1 : above + 1]
        return (above - 1 + (age_seconds - low) / (high - low)) / (len(self.quantiles) - 1)


def mixed(weighed: Sequence[tuple[Durations, float]]) -> Durations | None:
    """What one takes that is as likely to be like each of these as it weighs; None: none weighs anything."""
    whole = sum(weight for _, weight in weighed)
    if whole <= 0:
        return None
    taken = [(durations, round(_MIXED_OF * weight / whole)) for durations, weight in weighed if weight > 0]
    if len(taken) == 1:
        return taken[0][0]
    points = sorted(durations.at((step + 0.5) / count) for durations, count in taken for step in range(count))
    among = Durations(points)
    return Durations([among.at(share) for share in SHARES])
