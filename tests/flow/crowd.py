"""A crowd at one machine of which nobody said how much it runs, and somebody who comes to it."""

from dataclasses import dataclass
from uuid import UUID

import pytest

from tests.flow.machines import Machines
from tests.flow.world import Person, World
from tests.local.runpod.jobs import Job
from worker import poll, recall, submit

REMOTE_ID = "SELECT remote_id FROM generations WHERE id = $1"
ASKED_BACK = "SELECT count(*) FROM generations WHERE recall_asked_at IS NOT NULL"


@dataclass
class Crowd:
    """Somebody's many at one machine: the first is in hand, the second follows, the others are in line."""

    machine: Machines
    person: Person
    ids: list[UUID]

    @property
    def world(self) -> World:
        return self.machine.world

    async def come_round(self) -> None:
        """What the loops do, in their order, until nothing moves."""
        await self.machine.sent()
        await recall.look(self.world.context)
        await poll.poll_once(self.world.context)
        await self.machine.sent()

    async def ends(self) -> None:
        """The job in hand ends, we hear of it, and the machine takes what waits there."""
        self.machine.end()
        self.machine.take()
        await self.world.poll_now()
        await self.come_round()
        self.machine.take()

    async def asked_back(self) -> tuple[Person, UUID]:
        """Somebody has come, and the second one is to come back; nobody has told RunPod."""
        single = await self.world.person()
        theirs = await self.world.ask(single)
        assert await looked(self.world) == 1
        return single, theirs

    def job(self, number: int = 1) -> Job:
        """RunPod's of one of them."""
        return self.world.runpod.jobs("image")[number]


async def looked(world: World) -> int:
    """A claim finds the endpoint full; returns how many are asked back for whoever waits."""
    assert await submit.submit_once(world.context) == 0
    return await recall.look(world.context)


async def crowd(world: World, count: int = 5, **body: int) -> Crowd:
    machine = Machines(world)
    await machine.sampled()
    person = await world.person(credits_granted=1000)
    ids = [await world.ask(person, **body) for _ in range(count)]
    for _ in ids[:2]:
        await submit.submit_once(world.context, limit=1)
    machine.take()
    assert [await world.state(id_) for id_ in ids] == ["submitted"] * 2 + ["reserved"] * (count - 2)
    return Crowd(machine, person, ids)


async def is_next(there: Crowd, theirs: UUID) -> bool:
    """Once the job in hand has ended, whatever else was asked for before."""
    await there.ends()
    return [job.id for job in there.machine.running] == [await there.world.value(REMOTE_ID, theirs)]


async def begun_before(there: Crowd, theirs: UUID) -> int:
    """How many of others begin before that one, after the job in hand."""
    for count in range(20):
        if await is_next(there, theirs):
            return count
    pytest.fail("it never begins")
