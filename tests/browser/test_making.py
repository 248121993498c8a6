"""A person makes something: what they see from the price to the result, and what it costs them."""

import re

import pytest
from playwright.async_api import expect

from tests.browser.studio import House

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_signing_in_takes_one_click_and_signing_out_another(house: House) -> None:
    async with house.visit(signed_in=False) as visit:
        await visit.open()
        await expect(visit.page.get_by_role("heading", level=1)).to_contain_text("Know the price first")
        await visit.page.get_by_role("button", name="Continue as demo person").click()
        await visit.live()
        (cookie,) = await visit.context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["secure"]) == ("__Host-session", True, True)
        assert cookie["sameSite"] == "Lax"
        await visit.page.get_by_role("button", name="Sign out").click()
        await expect(visit.page.get_by_role("button", name="Continue as demo person")).to_be_visible()
        assert await visit.context.cookies() == []


async def test_every_state_is_shown_while_it_lasts(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        card = await visit.send("Image", "A lighthouse in a paper storm")
        step = card.locator("[aria-current=step]")
        await expect(step).to_have_text("Reserved")
        await expect(visit.balance).to_contain_text("95 credits")
        await expect(visit.balance).to_contain_text("5 held")
        await house.models.submit()
        await expect(step).to_have_text("Submitted")
        job = await house.models.start("image", "40%")
        await expect(step).to_have_text("Running")
        await expect(card).to_contain_text("40%")
        await house.models.answer(job)
        await expect(step).to_have_text("Finishing")
        await house.models.settle()
        await expect(card.locator(".state")).to_have_text("Completed")
        await expect(card).to_contain_text("Charged 5")
        await expect(visit.balance).to_have_text("95 credits")
        await expect(visit.page.locator("#announcer")).to_have_text("Image completed; 5 credits charged.")
        picture = card.get_by_role("img", name="Image: A lighthouse in a paper storm")
        await expect(picture).to_have_js_property("naturalWidth", 512)
        assert await picture.get_attribute("width") == "512"


async def test_a_text_a_batch_of_images_a_modification_and_a_video(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        card = await visit.send("Text", "A toast for someone who hates speeches")
        await house.models.finish("text")
        await expect(card.locator(".text-output")).to_contain_text(
            re.compile("toast|someone|hates|speeches", re.IGNORECASE)
        )

        await visit.page.get_by_label("How many").fill("2")
        card = await visit.send("Image", "Two boats at night")
        await house.models.finish("image")
        await expect(card.locator(".gallery img")).to_have_count(2)
        await expect(card).to_contain_text("Charged 10")

        await card.get_by_role("link", name="Use as source: Image 2 of 2").click()
        await expect(visit.page.get_by_role("radio", name="Modify")).to_be_checked()
        await expect(visit.page.get_by_label("Prompt")).to_be_focused()
        await expect(visit.page.get_by_role("radio", name="Image 2 of 2: Two boats at night")).to_be_checked()
        await expect(visit.send_button).to_contain_text("3 credits")
        card = await visit.send("Modify", "make it sepia")
        await house.models.finish("modify")
        await expect(card.locator(".gallery img")).to_have_count(1)

        card = await visit.send("Video", "Ink in slow water")
        await house.models.finish("video")
        await expect(card.locator("img")).to_have_js_property("complete", True)
        await expect(visit.balance).to_have_text("76 credits")


async def test_what_fails_or_comes_in_part_is_paid_for_in_part(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        card = await visit.send("Image", "[fail] a door that stays shut")
        await house.models.finish("image")
        await expect(card).to_contain_text("The model failed. You were not charged.")
        await expect(card).to_contain_text("Refunded 5")
        await expect(visit.balance).to_have_text("100 credits")

        await visit.page.get_by_label("How many").fill("3")
        card = await visit.send("Image", "[partial] three wishes")
        await house.models.finish("image")
        await expect(card.locator(".gallery img")).to_have_count(2)
        await expect(card).to_contain_text("Charged 10 · Refunded 5")
        await expect(visit.balance).to_have_text("90 credits")


async def test_cancelling_gives_the_credits_back(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        card = await visit.send("Video", "Nobody will see this")
        await card.get_by_role("button", name="Cancel").click()
        await expect(card).to_contain_text("Cancelling")
        await expect(card.get_by_role("button", name="Cancel")).to_have_count(0)
        await house.world.settle_all()
        await expect(card).to_contain_text("Cancelled. You were not charged.")
        await expect(visit.balance).to_have_text("100 credits")

        card = await visit.send("Video", "Nor this, although it runs")
        await house.models.submit()
        await house.models.start("video")
        await card.get_by_role("button", name="Cancel").click()
        await expect(card).to_contain_text("Cancelling")
        await house.world.poll_now()
        await house.world.settle_all()
        await expect(card).to_contain_text("You were not charged.")
        await expect(visit.balance).to_have_text("100 credits")


async def test_what_failed_is_tried_again_for_the_price_on_the_button(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        card = await visit.send("Image", "A door that sticks")
        await house.models.submit()
        job = await house.models.start("image")
        house.world.runpod.fail(job.id, "out of memory")
        await house.world.poll_now()
        await house.models.settle()
        again = card.get_by_role("button", name="Try again · 5 credits")
        await expect(again).to_have_text("Try again · 5")
        await expect(card).to_contain_text("The model failed. You were not charged.")
        assert await visit.violations() == []
        await again.dblclick()
        await expect(card).to_contain_text("Held 5")
        await expect(again).to_have_count(0)
        await expect(visit.balance).to_contain_text("95 credits")
        await house.models.finish("image")
        await expect(card.locator(".made img")).to_have_count(1)
        await expect(card).to_contain_text("Charged 5")
        await expect(again).to_have_count(0)
        await expect(visit.balance).to_have_text("95 credits")


async def test_who_cannot_pay_for_another_try_is_told_on_the_card(house: House) -> None:
    async with house.visit(credits_granted=5) as visit:
        await visit.open()
        await visit.live()
        card = await visit.send("Image", "A door that sticks")
        await house.models.submit()
        job = await house.models.start("image")
        house.world.runpod.fail(job.id, "out of memory")
        await house.world.poll_now()
        await house.models.settle()
        await expect(card).to_contain_text("You were not charged.")
        await visit.send("Image", "A window instead")
        await card.get_by_role("button", name="Try again").click()
        await expect(card.get_by_role("alert")).to_contain_text("This is 5 credits more than you have.")
        visit.forgive("402")
        await house.models.finish("image")
