"""Which endpoint of its type the next generation goes to: by priority, then by weight."""

import random
from collections.abc import Sequence

from shared.generations import Type
from worker.endpoints import Endpoints, Profile
from worker.transitions import Endpoint


class Router:
    """Deals out places at endpoints to what is claimed next."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Deal among these."""
        self._endpoints = endpoints

    def places(self, limit: int) -> list[Endpoint]:
        """Up to `limit` places for each type, in the order in which generations of the type take them."""
        return [place for generation_type in Type for place in self._deal(generation_type, limit)]

    def _deal(self, generation_type: Type, limit: int) -> list[Endpoint]:
        best = _best(self._endpoints.of_type(generation_type))
        weights = [profile.weight for profile in best]
        return [profile.endpoint for profile in random.choices(best, weights, k=limit)]  # noqa: S311 - spreads load


def _best(profiles: Sequence[Profile]) -> list[Profile]:
    """Those of the lowest priority number."""
    first = min(profile.priority for profile in profiles)
    return [profile for profile in profiles if profile.priority == first]
