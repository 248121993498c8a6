"""Real SDK workers behind a gateway in this process, whose time is turned by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.local.runpod.app import Gateway
from tests.local.runpod.clock import ManualClock
from tests.local.runpod.fleet import Crew, Fleet
from tests.local.runpod.platform import Platform
from tests.local.runpod.rules import Rules
from tests.local.serving import serve

PATIENCE_SECONDS = 60


@dataclass
class Peers:
    """The gateway, the workers behind it and what they print."""

    platform: Platform
    clock: ManualClock
    http: httpx.AsyncClient
    url: str
    said: list[str] = field(default_factory=list)

    async def until(self, look: Callable[[], Any]) -> Any:
        """Look until there is something to see."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (seen := look()):
                await asyncio.sleep(0.02)
        return seen

    async def run(self, endpoint_id: str, asked: dict[str, Any], **more: Any) -> str:
        """Submit a job; returns its id."""
        answer = await self.http.post(f"/{endpoint_id}/run", json={"input": asked} | more)
        return str(answer.json()["id"])

    async def status(self, endpoint_id: str, job_id: str) -> dict[str, Any]:
        """Ask for the job."""
        return dict((await self.http.get(f"/{endpoint_id}/status/{job_id}")).json())

    async def taken(self, job_id: str, attempt: int) -> None:
        """Wait until a worker has the job for the so-manieth time."""
        job = self.platform.job(job_id)
        await self.until(lambda: job.attempt == attempt and job.worker_id)

    async def ended(self, endpoint_id: str, job_id: str) -> dict[str, Any]:
        """Wait for the end of the job and ask for it."""
        await self.until(lambda: self.platform.job(job_id).ended)
        return await self.status(endpoint_id, job_id)

    async def made(self, endpoint_id: str, **asked: Any) -> dict[str, Any]:
        """Run one job to its end."""
        return await self.ended(endpoint_id, await self.run(endpoint_id, asked))


@asynccontextmanager
async def at_work(crews: Sequence[Crew], rules: Rules) -> AsyncIterator[Peers]:
    """Start the workers and wait until all of them ask for work."""
    clock = ManualClock()
    platform = Platform([crew.endpoint_id for crew in crews], clock=clock, rules=rules)
    async with serve(Gateway(platform)) as origin, platform.running():
        headers = {"authorization": f"Bearer {rules.api_key}"}
        async with httpx.AsyncClient(base_url=f"{origin}/v2", headers=headers, timeout=60, trust_env=False) as http:
            peers = Peers(platform, clock, http, f"{origin}/v2")
            fleet = Fleet(platform, origin, crews, say=peers.said.append)
            fleet.start()
            try:
                await peers.until(fleet.all_seen)
                yield peers
            finally:
                platform.close()
                await fleet.stop()
