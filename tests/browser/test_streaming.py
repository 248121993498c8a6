"""A text arrives word by word: what a person sees meanwhile, and that what stays is what was shown."""

import itertools

import pytest
from playwright.async_api import expect

from tests.browser.studio import House
from worker import stream

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SAID = [
    "Here is a toast for someone who hates speeches: ",
    "the shortest one tonight.\n\n",
    "To the host, who filled every glass <twice>, ",
    "and to the guests, who noticed. ",
]
CARET = "p => getComputedStyle(p, '::after').animationName"


async def says(house: House, job_id: str, chunk: str) -> None:
    """The model says a little more, and the worker hears it."""
    house.world.runpod.stream(job_id, chunk)
    await house.world.execute(
        "UPDATE generation_streams SET due_at = now() WHERE lease_token IS NULL AND due_at > now()"
    )
    await stream.stream_once(house.world.context)


async def test_a_text_is_read_while_it_is_written(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        card = await visit.send("Text", "A toast for someone who hates speeches")
        await house.models.submit()
        job = await house.models.start("text")
        text = card.locator(".arriving")
        await expect(text).to_be_empty()
        announcer = visit.page.locator("#announcer")
        so_far = ""
        for chunk in SAID:
            so_far += chunk
            await says(house, job.id, chunk)
            await expect(text).to_have_text(so_far, use_inner_text=True)
            assert await text.get_attribute("aria-busy") == "true"
            await expect(announcer).to_have_text("The text is being written.")
        assert await text.evaluate(CARET) == "caret"
        for (width, height), scheme in itertools.product(((390, 844), (1280, 900)), ("light", "dark")):
            await visit.page.set_viewport_size({"width": width, "height": height})
            await visit.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            await card.scroll_into_view_if_needed()
            await visit.shoot(f"streaming-{width}-{scheme}", full=True)
            assert await visit.violations() == [], (width, scheme)
            assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        await visit.page.emulate_media(reduced_motion="reduce")
        assert await text.evaluate(CARET) == "none"

        house.world.runpod.complete(job.id, SAID)
        await house.world.poll_now()
        await house.world.settle_all()
        await expect(card.locator(".state")).to_have_text("Completed")
        await expect(card.locator(".text-output")).to_have_text(so_far, use_inner_text=True)
        await expect(card.locator(".arriving")).to_have_count(0)
        await expect(announcer).to_have_text("Text completed; 1 credit charged.")
        await expect(visit.balance).to_contain_text("99 credits")


async def test_a_page_that_is_loaded_midway_shows_what_there_is_and_goes_on(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        await visit.send("Text", "A toast for someone who hates speeches")
        await house.models.submit()
        job = await house.models.start("text")
        await says(house, job.id, SAID[0])
        await visit.open()
        text = visit.card("A toast for someone who hates speeches").locator(".arriving")
        await expect(text).to_have_text(SAID[0])
        await visit.live()
        await says(house, job.id, SAID[1])
        await expect(text).to_have_text(SAID[0] + SAID[1], use_inner_text=True)
        house.world.runpod.complete(job.id, SAID[:2])
        await house.world.poll_now()
        await house.world.settle_all()


async def test_a_long_text_is_followed_to_its_end_unless_the_reader_scrolls_up(house: House) -> None:
    at_end = "p => p.scrollHeight - p.scrollTop - p.clientHeight < 40"
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        card = await visit.send("Text", "A long story")
        await house.models.submit()
        job = await house.models.start("text")
        text = card.locator(".arriving")
        for number in range(3):
            await says(house, job.id, f"chapter {number}" + "\n\nand so it goes" * 20)
            await expect(text).to_contain_text(f"chapter {number}")
        assert await text.evaluate("p => p.scrollHeight > p.clientHeight")
        assert await text.evaluate(at_end)
        for number, scroll in enumerate(("p.scrollTop -= 20", "p.scrollTop = 0"), start=2):
            top = await text.evaluate(f"p => {{ {scroll}; return p.scrollTop; }}")
            await visit.page.get_by_role("button", name="One more").click()  # the page changes elsewhere
            await expect(visit.page.locator("#cost")).to_have_attribute("data-for", f"text:{number}")
            assert await text.evaluate("p => p.scrollTop") == top
        await says(house, job.id, "chapter 3" + "\n\nand so it goes" * 20)
        await expect(text).to_contain_text("chapter 3")
        assert await text.evaluate("p => p.scrollTop") == 0
        house.world.runpod.complete(job.id)
        await house.world.poll_now()
        await house.world.settle_all()
