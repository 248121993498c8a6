"""What was made: live from elsewhere, page by page, and readable without a script."""

import pytest
from playwright.async_api import expect

from tests.browser.studio import House

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_load_more_goes_on_where_the_page_ended(house: House) -> None:
    async with house.visit() as visit:
        for number in range(15):
            await house.made_elsewhere(visit, type="text", prompt=f"note {number:02}")
        await visit.open()
        cards = visit.page.locator(".card")
        await expect(cards).to_have_count(12)
        await expect(cards.first).to_contain_text("note 14")
        more = visit.page.get_by_role("link", name="Load more")
        address = await more.get_attribute("href")
        await more.click()
        await expect(cards).to_have_count(15)
        await expect(cards.last).to_contain_text("note 00")
        await expect(visit.page.get_by_text("That is everything.")).to_be_visible()
        await expect(visit.page.get_by_role("heading", name="Today")).to_have_count(1)
        await expect(visit.card("note 02")).to_be_focused()
        await visit.open(address or "")
        await expect(cards).to_have_count(3)
        await visit.send("Text", "From an older page")
        await expect(visit.page.get_by_role("heading", name="Your work")).to_be_visible()


async def test_work_from_elsewhere_is_announced_and_does_not_shift_the_list(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        await visit.send("Text", "mine")
        await house.made_elsewhere(visit, type="text", prompt="from the phone")
        news = visit.page.get_by_role("link", name="1 new")
        await expect(news).to_be_visible()
        await expect(visit.page.locator(".card")).to_have_count(1)
        await expect(visit.balance).to_contain_text("98 credits")
        await news.click()
        await expect(visit.page.locator(".card").first).to_contain_text("from the phone")
        await expect(news).to_be_hidden()


async def test_two_windows_show_the_same(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        await visit.send("Image", "seen twice")
        other = await visit.context.new_page()
        await other.goto(house.origin)
        await expect(other.locator("#live-state")).to_have_text("Live")
        await house.models.finish("image")
        for page in (visit.page, other):
            await expect(page.locator(".card", has_text="seen twice").locator(".state")).to_have_text("Completed")


async def test_a_stream_that_ended_is_picked_up_where_it_was(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        card = await visit.send("Image", "while nobody listened")
        await expect(card).to_contain_text("Reserved")
        hub = house.world.app.state.twin.hub
        async with visit.page.expect_response("**/live?*") as coming_back:
            hub.closing = True
            hub.tell_all()
            await house.models.finish("image")
            hub.closing = False
        assert (await (await coming_back.value).request.all_headers())["last-event-id"].isdigit()
        await expect(card.locator(".state")).to_have_text("Completed")
        await expect(visit.balance).to_have_text("95 credits")


async def test_everything_can_be_read_and_done_without_a_script(house: House) -> None:
    async with house.visit(java_script_enabled=False) as visit:
        await visit.open()
        await expect(visit.page.get_by_text("Nothing here yet.")).to_be_visible()
        await visit.page.get_by_role("link", name="A birthday toast").click()
        await expect(visit.page.get_by_role("radio", name="Text")).to_be_checked()
        await expect(visit.receipt).to_contain_text("1 \u00d7 text at 1")
        await visit.send_button.click()
        await expect(visit.card("A birthday toast")).to_contain_text("Reserved")
        await house.models.finish("text")
        await visit.open()
        await expect(visit.card("A birthday toast").locator(".text-output")).to_be_visible()

        await visit.pick("Video")
        await visit.write("Slow water")
        await visit.page.get_by_role("button", name="Show the price").click()
        await expect(visit.receipt).to_contain_text("1 \u00d7 video at 10")
        await expect(visit.page.get_by_label("Prompt")).to_have_value("Slow water")
        await visit.send_button.click()
        await visit.card("Slow water").get_by_role("button", name="Cancel").click()
        await expect(visit.card("Slow water")).to_contain_text("Cancelling")
        await house.world.settle_all()
        await visit.open()
        await expect(visit.card("Slow water")).to_contain_text("You were not charged.")
        await expect(visit.balance).to_have_text("99 credits")

        await visit.pick("Modify")
        await visit.write("brighter")
        await visit.send_button.click()
        await expect(visit.page.get_by_role("alert")).to_contain_text("Pick the picture")
        await expect(visit.page.get_by_label("Prompt")).to_have_value("brighter")
        visit.forgive("422")
        for number in range(12):
            await house.made_elsewhere(visit, type="text", prompt=f"note {number:02}")
        await visit.open()
        await visit.page.get_by_role("link", name="Load more").click()
        await expect(visit.card("A birthday toast")).to_be_visible()
