"""The button on a card that says what trying again costs."""

import httpx
import pytest

from tests.flow.world import World, pictures
from worker import finish, submit

FRAGMENT = {"hx-request": "true"}


@pytest.fixture
async def failed_id(world: World, browser_of: httpx.AsyncClient) -> str:
    """A picture of this browser's person that failed."""
    sent = await browser_of.post("/v1/generations", json={"type": "image", "prompt": "a kite"})
    assert sent.status_code == 202, sent.text
    await submit.submit_once(world.context)
    job = world.runpod.take("image")
    assert job is not None
    world.runpod.fail(job.id, "out of memory")
    await world.poll_now()
    await finish.finish_once(world.context)
    return str(sent.json()["id"])


async def test_a_failed_card_offers_another_try_with_its_price(
    world: World, browser_of: httpx.AsyncClient, failed_id: str
) -> None:
    page = (await browser_of.get("/")).text
    assert f'hx-post="/generations/{failed_id}/retry"' in page
    assert 'aria-label="Try again · 5 credits: a kite"' in page
    begun = await browser_of.post(f"/generations/{failed_id}/retry", headers=FRAGMENT)
    assert begun.status_code == 202
    assert "Reserved" in begun.text
    assert "Try again" not in begun.text
    assert f"cancel-{failed_id}" in begun.text
    twice = await browser_of.post(f"/generations/{failed_id}/retry", headers=FRAGMENT)
    assert "Reserved" in twice.text, "a second click shows how it stands"
    assert 'role="alert"' not in twice.text
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    done = (await browser_of.get("/")).text
    assert f"retry-{failed_id}" not in done
    assert "Completed" in done


async def test_who_cannot_pay_is_told_on_the_card(world: World, browser_of: httpx.AsyncClient, failed_id: str) -> None:
    await browser_of.post("/v1/generations", json={"type": "video", "prompt": "a flag", "batch_size": 8})
    await browser_of.post("/v1/generations", json={"type": "video", "prompt": "a flag", "batch_size": 2})
    refused = await browser_of.post(f"/generations/{failed_id}/retry", headers=FRAGMENT)
    assert refused.status_code == 402
    assert 'role="alert"' in refused.text
    assert "5 credits more than you have" in refused.text
    assert "Try again" in refused.text
    whole_page = await browser_of.post(f"/generations/{failed_id}/retry")
    assert whole_page.status_code == 402
    assert "Not enough credits" in whole_page.text
    await world.settle_all()


async def test_without_scripts_the_page_comes_back_at_the_card(browser_of: httpx.AsyncClient, failed_id: str) -> None:
    begun = await browser_of.post(f"/generations/{failed_id}/retry")
    assert (begun.status_code, begun.headers["location"]) == (303, f"/#g-{failed_id}")
