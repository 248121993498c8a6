"""Machines at an endpoint of the scripted RunPod, each of which runs so many jobs at once."""

from dataclasses import dataclass

from tests.flow.world import World, pictures
from tests.local.runpod.jobs import Job, State
from worker import health, submit


@dataclass
class Machines:
    """They take what waits, oldest first, and end what they are told to."""

    world: World
    endpoint_id: str = "image"
    count: int = 1
    at_once: int = 1

    def __post_init__(self) -> None:
        self.hear()

    @property
    def names(self) -> list[str]:
        return [f"{self.endpoint_id}-machine-{number}" for number in range(self.count)]

    @property
    def waiting(self) -> int:
        """How many jobs wait at RunPod."""
        return sum(job.state is State.IN_QUEUE for job in self.world.runpod.jobs(self.endpoint_id))

    @property
    def running(self) -> list[Job]:
        return [job for job in self.world.runpod.jobs(self.endpoint_id) if job.state is State.IN_PROGRESS]

    def hear(self) -> None:
        """They live."""
        for name in self.names:
            self.world.runpod.hear(self.endpoint_id, name)

    def lose(self, count: int) -> None:
        """So many go, and what they had waits again."""
        for name in self.names[-count:]:
            self.world.runpod.dismiss(self.endpoint_id, name)
        self.count -= count

    def take(self) -> None:
        """Each takes as much as it runs at once."""
        for name in self.names:
            machine = self.world.runpod.hear(self.endpoint_id, name)
            while len(machine.holding) < self.at_once and self.world.runpod.take(self.endpoint_id, name):
                pass

    def end(self, count: int = 1) -> None:
        """So many end, those that began first; nobody has told us."""
        for job in self.running[:count]:
            self.world.runpod.complete(job.id, pictures(1))

    async def sampled(self) -> None:
        """Their endpoint is asked how it is, whenever it is due."""
        self.hear()
        await self.world.execute(
            "UPDATE endpoint_states SET sample_due_at = now() WHERE endpoint_id = $1", self.endpoint_id
        )
        await health.sample(self.world.context)

    async def sent(self) -> int:
        """Claim and send until nothing more may go; returns how many went."""
        count = 0
        while sent := await submit.submit_once(self.world.context):
            count += sent
        return count

    async def emptied(self) -> None:
        """What is there fails, what is in line is cancelled: the story ends, and RunPod need not be told job by job."""
        for job in self.running:
            self.world.runpod.fail(job.id, "test")
        await self.world.work_off_all(self.endpoint_id)
        await self.world.cancel_all()
