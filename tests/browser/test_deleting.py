"""Deleting a card and thinking again: with the keyboard, with a script and without one, in both schemes."""

from typing import Literal

import pytest
from playwright.async_api import expect

from tests.browser.studio import House, Visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
Scheme = Literal["light", "dark"]


async def made(house: House, visit: Visit, *prompts: str) -> None:
    """A finished picture for each prompt, on the page."""
    for prompt in prompts:
        await visit.send("Image", prompt)
        await house.models.finish("image")
        await expect(visit.card(prompt).locator(".gallery img")).to_have_count(1)


async def test_delete_and_undo_with_the_keyboard_alone(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        await made(house, visit, "An older boat", "A newer boat")
        await visit.page.get_by_role("button", name="Delete: An older boat").focus()
        await visit.page.keyboard.press("Enter")
        await expect(visit.card("An older boat")).to_have_count(0)
        undo = visit.page.get_by_role("button", name="Undo")
        await expect(undo).to_be_focused()
        await expect(visit.page.locator("#toast")).to_have_text("Deleted: An older boat Undo")
        await visit.page.keyboard.press("Enter")
        await expect(visit.card("An older boat")).to_be_focused()
        await expect(visit.page.locator(".card .prompt")).to_have_text(["A newer boat", "An older boat"])
        await expect(undo).to_have_count(0)
        await expect(visit.balance).to_contain_text("90")


async def test_what_is_deleted_stays_away(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        await made(house, visit, "A boat to forget")
        await visit.page.get_by_role("button", name="Delete: A boat to forget").click()
        await expect(visit.page.locator(".card")).to_have_count(0)
        await expect(visit.page.get_by_text("Nothing here yet")).to_be_visible()
        await visit.page.get_by_role("button", name="Dismiss").click()
        await expect(visit.page.get_by_role("button", name="Undo")).to_have_count(0)
        await expect(visit.page.get_by_role("heading", name="Your work")).to_be_focused()
        await visit.page.reload()
        await expect(visit.page.get_by_text("Nothing here yet")).to_be_visible()
        await expect(visit.page.locator(".card")).to_have_count(0)


async def test_without_a_script(house: House) -> None:
    async with house.visit(java_script_enabled=False) as visit:
        generation_id = await house.made_elsewhere(visit, prompt="A boat without a script")
        await house.models.finish("image")
        await visit.open()
        await visit.page.get_by_role("button", name="Delete: A boat without a script").click()
        await expect(visit.card("A boat without a script")).to_have_count(0)
        await visit.page.get_by_role("button", name="Undo").click()
        await expect(visit.page.locator(f"#g-{generation_id}")).to_be_visible()
        await visit.open("/?deleted=nonsense")
        await expect(visit.page.locator(f"#g-{generation_id}")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_there_for_everybody(house: House, width: int, scheme: Scheme) -> None:
    async with house.visit(viewport={"width": width, "height": 900}, color_scheme=scheme) as visit:
        await visit.open()
        await visit.live()
        await made(house, visit, "A harbour with a long name that goes on and on, at dusk, in the rain", "A gull")
        await visit.shoot(f"deleting-{width}-{scheme}-before", full=True)
        await visit.page.get_by_role("button", name="Delete: A harbour").click()
        await expect(visit.page.get_by_role("button", name="Undo")).to_be_focused()
        await visit.shoot(f"deleting-{width}-{scheme}")
        assert await visit.violations() == []
        for button in ("Undo", "Dismiss", "Delete: A gull"):
            box = await visit.page.get_by_role("button", name=button).bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 24, button
