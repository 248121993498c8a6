"""The price is there before anything is sent: it follows the form, warns, blocks, and is never exceeded."""

import pytest
from playwright.async_api import Route, expect

from tests.browser.studio import House

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_the_price_follows_kind_and_batch(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await expect(visit.receipt).to_contain_text("1 \u00d7 image at 5")
        await expect(visit.receipt).to_contain_text("Covered by your credits")
        await visit.pick("Video")
        await expect(visit.receipt).to_contain_text("1 \u00d7 video at 10")
        await visit.page.get_by_role("button", name="One more").click()
        await visit.page.get_by_role("button", name="One more").click()
        await expect(visit.receipt).to_contain_text("3 \u00d7 video at 10")
        await expect(visit.receipt).to_contain_text("now, 70 after")
        await expect(visit.send_button).to_contain_text("30 credits")
        assert await visit.receipt.get_attribute("aria-live") == "polite"


async def test_a_low_balance_warns_and_still_sends(house: House) -> None:
    async with house.visit(credits_granted=12) as visit:
        await visit.open()
        await visit.live()
        await expect(visit.receipt).to_contain_text("Running low.")
        await expect(visit.receipt).to_contain_text("You can still send.")
        await visit.send("Image", "The last of the paint")
        await expect(visit.balance).to_contain_text("7 credits")
        await expect(visit.receipt).to_contain_text("now, 2 after")


async def test_beyond_the_limit_sending_is_closed_and_says_what_helps(house: House) -> None:
    async with house.visit(credits_granted=12, overdraft=3) as visit:
        await visit.open()
        await visit.page.get_by_label("How many").fill("3")
        await expect(visit.receipt).to_contain_text("the rest is lent to you")
        await expect(visit.send_button).to_be_enabled()
        await visit.page.get_by_label("How many").fill("4")
        await expect(visit.receipt).to_contain_text("Not enough credits.")
        await expect(visit.receipt).to_contain_text("A smaller batch costs less")
        await expect(visit.send_button).to_be_disabled()
        await visit.pick("Text")
        await expect(visit.send_button).to_be_enabled()


async def test_credits_that_come_back_reopen_the_form(house: House) -> None:
    async with house.visit(credits_granted=10) as visit:
        await visit.open()
        await visit.live()
        card = await visit.send("Video", "All or nothing")
        await expect(visit.send_button).to_be_disabled()
        await card.get_by_role("button", name="Cancel").click()
        await expect(card).to_contain_text("Cancelling")
        await house.world.settle_all()
        await expect(visit.send_button).to_be_enabled()
        await expect(visit.receipt).to_contain_text("now, 0 after")


async def test_nobody_pays_more_than_the_price_they_saw(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()

        async def as_if_it_had_been_cheaper(route: Route) -> None:
            await route.continue_(post_data=(route.request.post_data or "").replace("max_cost=5", "max_cost=1"))

        await visit.page.route("**/generations", as_if_it_had_been_cheaper)
        await visit.write("A bargain")
        await visit.send_button.click()
        alert = visit.page.get_by_role("alert")
        await expect(alert).to_contain_text("It is 5 credits, more than the price you saw.")
        await expect(alert).to_contain_text("Request ")
        await expect(visit.page.get_by_label("Prompt")).to_have_value("A bargain")
        await expect(visit.balance).to_have_text("100 credits")
        await visit.page.unroute("**/generations")
        visit.forgive("409")
        await visit.send_button.click()
        await expect(visit.card("A bargain")).to_be_visible()
