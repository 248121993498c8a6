"""Lives led by dice: RunPod silent on either side of its acceptance, results that it drops or that are of no use,
webhooks lost, late and doubled, jobs recalled for others, workers that die at any await, people who cancel and try
again. Charged once at most, ended, sent no more often than is allowed.

A life that goes wrong says its seed; TWIN_LIVES and TWIN_LIVES_SEED lead others (README, Working on it).
"""

import asyncio
import os
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.flow.world import Person, World, pictures
from tests.turns import cut_before
from worker import finish, poll, submit, sweep
from worker.settings import MOST_RECALLS

LIVES = int(os.environ.get("TWIN_LIVES", "20"))
SEED = int(os.environ.get("TWIN_LIVES_SEED", "20261125"))
STEPS = 14
PRICE = 5
LONGEST_CUT = 40
"""Turns of the event loop; more than any step takes to its first write."""
TROUBLES = (
    ("dropped_before_accepting", "run"),
    ("dropped_after_accepting", "run"),
    ("server_error", "run"),
    ("rate_limited", "run"),
    ("server_error", "status"),
    ("dropped_after_accepting", "cancel"),
    ("webhook_lost", None),
    ("webhook_doubled", None),
    ("webhook_delayed", None),
)
MAYBE_SENT = "outcome IN ('calling', 'accepted', 'unknown', 'recalled')"


@dataclass
class Life:
    """One generation, its person, and the dice."""

    world: World
    person: Person
    seed: int
    generation_id: UUID = field(init=False)
    story: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    in_vain: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take the dice."""
        self.dice = random.Random(self.seed)

    async def lead(self) -> None:
        """From the first word to the last."""
        self.generation_id = await self.world.ask(self.person)
        steps = (
            *(self.trouble, self.submit, self.submit, self.poll, self.poll, self.finish, self.sweep),
            *(self.work, self.fail, self.webhooks, self.time, self.time, self.cancel, self.again, self.again),
            *(self.drop, self.work_in_vain, self.recall),
        )
        for _ in range(STEPS):
            step = self.dice.choice(steps)
            self.story.append(step.__name__)
            await step()
        self.world.runpod.weather.clear()
        await self.come_home()

    async def come_home(self) -> None:
        """The weather is fine: whatever is open ends."""
        for _ in range(8):
            if await self.world.state(self.generation_id) in ("completed", "failed", "cancelled"):
                break
            await self.world.pass_time(timedelta(seconds=61))
            self.world.work_off("image", pictures(1))
            await self.world.runpod.deliver_webhooks()
            await self.world.settle_all()
        await self.world.execute("UPDATE generation_attempts SET orphan_due_at = now() WHERE orphaned_at IS NOT NULL")
        await sweep.cancel_orphans(self.world.context)

    async def _cut(self, step: Coroutine[Any, Any, int]) -> None:
        """A step that is let live, or dies before some turn of the loop."""
        turn = self.dice.choice((None, None, self.dice.randrange(LONGEST_CUT)))
        if turn is None:
            await step
        else:
            self.story.append(f"†{turn}")
            await cut_before(turn, step)

    async def trouble(self) -> None:
        name, operation = self.dice.choice(TROUBLES)
        self.story.append(name)
        self.world.runpod.weather.order(name, operation=operation, count=1)

    async def submit(self) -> None:
        await self._cut(submit.submit_once(self.world.context))

    async def poll(self) -> None:
        await self.world.execute("UPDATE generations SET due_at = now() WHERE state IN ('submitted', 'running')")
        await self._cut(poll.poll_once(self.world.context))

    async def finish(self) -> None:
        await self._cut(finish.finish_once(self.world.context))

    async def sweep(self) -> None:
        await self._cut(sweep.sweep_once(self.world.context))

    async def work(self) -> None:
        self.world.work_off("image", pictures(1))

    async def fail(self) -> None:
        job = self.world.runpod.take("image")
        if job is not None:
            self.world.runpod.fail(job.id, "out of memory")

    async def work_in_vain(self) -> None:
        job = self.world.runpod.take("image")
        if job is not None:
            self.world.runpod.complete(job.id, self.dice.choice(("not a picture", {"error": "out of memory"}, {})))
            self.in_vain.append(job.id)

    async def drop(self) -> None:
        """RunPod drops what has ended there."""
        ended = [job.id for job in self.world.runpod.jobs("image") if job.ended]
        if ended:
            self.dropped.append(self.dice.choice(ended))
            self.world.runpod.forget(self.dropped[-1])

    async def recall(self) -> None:
        """Somebody has come who stands before it (worker/recall.sql)."""
        await self.world.execute(
            """UPDATE generations AS g SET recall_asked_at = now(), due_at = now()
               WHERE id = $1 AND state = 'submitted' AND lease_token IS NULL AND heard_attempt IS NULL
                   AND cancel_requested_at IS NULL AND $2 > (
                       SELECT count(*) FROM generation_attempts AS a
                       WHERE a.generation_id = g.id AND a.attempt > g.earlier_attempts AND a.outcome = 'recalled')""",
            self.generation_id,
            MOST_RECALLS,
        )
        await self._cut(poll.poll_once(self.world.context))

    async def webhooks(self) -> None:
        await self.world.runpod.deliver_webhooks()

    async def time(self) -> None:
        await self.world.pass_time(timedelta(seconds=31))

    async def cancel(self) -> None:
        if self.dice.random() < 0.3:
            await self.person.http.post(f"/v1/generations/{self.generation_id}/cancel")

    async def again(self) -> None:
        path = f"/v1/generations/{self.generation_id}/retry"
        replies = await asyncio.gather(*(self.person.http.post(path) for _ in range(self.dice.choice((1, 2)))))
        assert [reply.status_code for reply in replies].count(202) <= 1


async def test_any_life_ends_well(world: World) -> None:
    calls = 0
    for seed in range(SEED, SEED + LIVES):
        person = await world.person(credits_granted=100)
        life = Life(world, person, seed)
        await life.lead()
        said = f"TWIN_LIVES=1 TWIN_LIVES_SEED={seed}: {' '.join(life.story)}"
        await _ends_well(world, life, said)
        sent = [call for call in world.runpod.calls_to("run") if call.status != 429]
        assert len(sent) - calls <= await _submissions(world, life.generation_id), f"sent and not on record: {said}"
        calls = len(sent)


async def _ends_well(world: World, life: Life, said: str) -> None:
    state = await world.state(life.generation_id)
    assert state in ("completed", "failed", "cancelled"), said
    charged = await world.charged(life.generation_id)
    assert charged == (PRICE if state == "completed" else 0), said
    assert await world.credits_of(life.person) == (100 - (charged or 0), 0), said
    of_rounds = await world.value(
        "SELECT array_agg(captured + late_captured ORDER BY round) FROM credit_holds WHERE generation_id = $1",
        life.generation_id,
    )
    assert of_rounds == [0] * (len(of_rounds) - 1) + [charged], said
    most = sweep.MAXIMUM_ATTEMPTS + MOST_RECALLS
    assert await _submissions(world, life.generation_id) <= most * len(of_rounds), said
    lost = await world.value(
        """SELECT count(*) FROM generations g JOIN generation_attempts a ON a.generation_id = g.id
           JOIN webhook_receipts w ON w.generation_id = g.id AND w.attempt = a.attempt
           WHERE g.id = $1 AND g.state = 'failed' AND a.attempt > g.earlier_attempts
               AND w.remote_status = 'COMPLETED' AND w.received_at < g.finished_at AND a.remote_id <> ALL ($2)""",
        life.generation_id,
        life.dropped + life.in_vain,
    )
    assert lost == 0, f"a result that was heard of in time was not delivered: {said}"
    known = await world.value(
        "SELECT coalesce(array_agg(remote_id), '{}') FROM generation_attempts WHERE generation_id = $1",
        life.generation_id,
    )
    running = [job.id for job in world.runpod.jobs("image") if not job.ended and job.id in known]
    assert running == [], f"an orphan that RunPod named to us goes on: {said}"


async def _submissions(world: World, generation_id: UUID) -> int:
    count: int = await world.value(
        f"SELECT count(*) FROM generation_attempts WHERE generation_id = $1 AND {MAYBE_SENT}",  # noqa: S608 - ours
        generation_id,
    )
    return count
