"""What goes wrong on the way: a double click, a lost reply, a refusal. Nothing typed is lost, nothing paid twice."""

import pytest
from playwright.async_api import Route, expect

from tests.browser.studio import House

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_double_click_makes_one(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        await visit.write("Only once")
        await visit.send_button.dblclick()
        await expect(visit.card("Only once")).to_have_count(1)
        await expect(visit.balance).to_contain_text("95 credits")
        await visit.page.reload()
        await expect(visit.card("Only once")).to_have_count(1)


async def test_a_reply_that_got_lost_is_not_paid_for_again(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()

        async def lose_reply(route: Route) -> None:
            await route.fetch()
            await route.abort()

        await visit.page.route("**/generations", lose_reply)
        await visit.write("Sent, but nobody told us")
        await visit.send_button.click()
        alert = visit.page.get_by_role("alert")
        await expect(alert).to_contain_text("cannot be reached just now")
        await expect(visit.page.get_by_label("Prompt")).to_have_value("Sent, but nobody told us")
        await visit.page.unroute("**/generations")
        await alert.get_by_role("button", name="Try again").click()
        await expect(visit.card("Sent, but nobody told us")).to_have_count(1)
        await expect(visit.balance).to_contain_text("95 credits")
        visit.forgive("ERR_FAILED", "htmx:error")


async def test_a_server_in_trouble_is_named_with_its_request(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()

        async def refuse(route: Route) -> None:
            await route.fulfill(
                status=503,
                headers={"Content-Type": "application/problem+json", "X-Request-Id": "abc123"},
                body='{"detail": "The database cannot be reached just now."}',
            )

        await visit.page.route("**/generations", refuse)
        await visit.write("Patience")
        await visit.send_button.click()
        alert = visit.page.get_by_role("alert")
        await expect(alert).to_contain_text("The database cannot be reached just now. What you typed is still here.")
        await expect(alert).to_contain_text("Request abc123")
        await expect(visit.page.get_by_label("Prompt")).to_have_value("Patience")
        await visit.page.unroute("**/generations")
        await alert.get_by_role("button", name="Try again").click()
        await expect(visit.card("Patience")).to_be_visible()
        visit.forgive("503")


async def test_a_modification_without_a_picture_says_so(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.pick("Modify")
        await expect(visit.page.get_by_text("You have no pictures yet.")).to_be_visible()
        await visit.write("brighter")
        await visit.send_button.click()
        await expect(visit.page.get_by_role("alert")).to_contain_text("Pick the picture that you want to modify.")
        await expect(visit.page.get_by_label("Prompt")).to_have_value("brighter")
        visit.forgive("422")


async def test_links_that_make_no_sense_fall_back_with_a_notice(house: House) -> None:
    async with house.visit() as visit:
        await visit.open("/?type=sculpture&batch_size=999&prompt=Still+here")
        await expect(visit.page.get_by_text("Part of that link made no sense")).to_be_visible()
        await expect(visit.page.get_by_label("Prompt")).to_have_value("Still here")
        await expect(visit.page.get_by_role("radio", name="Image")).to_be_checked()
        await visit.open("/?before=made-up")
        await expect(visit.page.get_by_text("this is the beginning")).to_be_visible()
        await visit.open("/generations/not-an-id/cancel")
        await expect(visit.page.locator("body")).to_contain_text("method-not-allowed")
        visit.forgive("405", "404")


async def test_a_session_that_ended_leads_back_to_the_door(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        await visit.context.clear_cookies()
        await visit.write("Too late")
        await visit.send_button.click()
        await expect(visit.page.get_by_role("button", name="Continue as demo person")).to_be_visible()
        visit.forgive("401")
