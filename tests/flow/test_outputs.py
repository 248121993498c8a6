"""Where outputs go: into a bucket that goes away and comes back, before anything is charged."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.world import World, open_world, pictures
from tests.local import bucket
from worker import finish


@pytest.fixture(scope="module")
def s3() -> Iterator[bucket.Bucket]:
    with bucket.running() as running:
        yield running


@pytest.fixture
async def over_s3(
    s3: bucket.Bucket, monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[World]:
    """A world whose outputs are kept in a bucket."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, storage_url=s3.url
    ) as opened:
        yield opened


async def test_a_bucket_that_goes_away_costs_time_and_nothing_else(s3: bucket.Bucket, over_s3: World) -> None:
    world = over_s3
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1))
    s3.stop()
    try:
        await finish.finish_once(world.context)
        assert await world.state(generation_id) == "finishing", "nothing is charged before the output is ours"
        assert await world.credits_of(person) == (95, 5)
        assert await finish.finish_once(world.context) == 0, "not before the wait is over"
    finally:
        s3.start()
    await world.pass_time(timedelta(seconds=5))
    await finish.finish_once(world.context)
    assert await world.charged(generation_id) == 5
    (output,) = (await person.http.get(f"/v1/generations/{generation_id}")).json()["outputs"]
    shown = await person.http.get(output["url"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert len(shown.content) == output["bytes"]
    part = await person.http.get(output["url"], headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")
