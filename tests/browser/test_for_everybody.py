"""For every screen, hand and eye: widths, light and dark, keyboard, axe. Screenshots go to build/screenshots."""

import itertools

import pytest
from playwright.async_api import expect

from tests.browser.studio import House, Visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

WIDTHS = {390: 844, 768: 1024, 1280: 900}
SMALL = """() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), textarea')]
    .map(e => [e.closest('label') ?? e, e])
    .filter(([box]) => box.checkVisibility() && box.getBoundingClientRect().width > 1)
    .filter(([box]) => { const r = box.getBoundingClientRect(); return r.width < 24 || r.height < 24; })
    .map(([, e]) => e.outerHTML.slice(0, 120))"""


async def furnish(house: House, visit: Visit) -> None:
    """A page with one of everything: finished, failed, under way."""
    await visit.open()
    await visit.live()
    await visit.send("Text", "A birthday toast for someone who hates speeches")
    await house.models.finish("text")
    await visit.page.get_by_label("How many").fill("4")
    await visit.send("Image", "A quiet forest under a red moon")
    await house.models.finish("image")
    await visit.page.get_by_label("How many").fill("1")
    await visit.send("Image", "[fail] A door that does not open")
    await house.models.finish("image")
    await visit.send("Image", "A lighthouse above a stormy sea at dusk")
    await house.models.finish("image")
    running = await visit.send("Video", "City lights in the rain")
    await house.models.submit()
    await house.models.start("video", "40%")
    await expect(running).to_contain_text("40%")


async def test_every_width_in_light_and_dark_is_sound(house: House) -> None:
    async with house.visit() as visit:
        await furnish(house, visit)
        for (width, height), scheme in itertools.product(WIDTHS.items(), ("light", "dark")):
            await visit.page.set_viewport_size({"width": width, "height": height})
            await visit.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            await visit.shoot(f"studio-{width}-{scheme}")
            assert await visit.violations() == [], (width, scheme)
            assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            assert await visit.page.evaluate(SMALL) == [], width
        await visit.shoot("studio-1280-dark-whole", full=True)
        await house.world.settle_all()


async def test_the_door_is_sound_too(house: House) -> None:
    async with house.visit(signed_in=False) as visit:
        await visit.open()
        for (width, height), scheme in itertools.product(WIDTHS.items(), ("light", "dark")):
            await visit.page.set_viewport_size({"width": width, "height": height})
            await visit.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            await visit.shoot(f"welcome-{width}-{scheme}")
            assert await visit.violations() == [], (width, scheme)
            assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            assert await visit.page.evaluate(SMALL) == [], width


async def test_the_modes_of_the_form_are_sound(house: House) -> None:
    async with house.visit(credits_granted=11) as visit:
        await visit.open()
        await visit.live()
        assert await visit.violations() == []
        await visit.shoot("empty-warn-1280-light")
        await visit.pick("Video")
        await visit.page.get_by_label("How many").fill("8")
        await expect(visit.receipt).to_contain_text("Not enough credits.")
        assert await visit.violations() == []
        await visit.shoot("empty-block-1280-light")


async def test_the_systems_wishes_are_followed(house: House) -> None:
    async with house.visit(reduced_motion="reduce", forced_colors="active") as visit:
        await visit.open()
        await visit.live()
        card = await visit.send("Image", "Stillness")
        await expect(card.locator(".steps .current")).to_be_visible()
        moving = "() => document.getAnimations().filter(a => a.playState === 'running').length"
        assert await visit.page.evaluate(moving) == 0
        assert await visit.violations() == []
        await visit.shoot("forced-colors-1280")


async def test_the_theme_is_chosen_once_and_stays(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        scheme = "() => getComputedStyle(document.documentElement).colorScheme"
        assert await visit.page.evaluate(scheme) == "light dark"
        theme = visit.page.get_by_role("button", name="Theme")
        await theme.click()
        await theme.click()
        await expect(theme).to_have_accessible_name("Theme: dark")
        assert await visit.page.evaluate(scheme) == "dark"
        await visit.page.reload()
        assert await visit.page.evaluate(scheme) == "dark"
        await theme.click()
        assert await visit.page.evaluate(scheme) == "light dark"


async def test_a_keyboard_is_enough(house: House) -> None:
    async with house.visit() as visit:
        await visit.open()
        await visit.live()
        keyboard, focused = visit.page.keyboard, visit.page.locator(":focus")
        await keyboard.press("Tab")
        await expect(focused).to_have_text("Skip to the page")
        await keyboard.press("Enter")
        await keyboard.press("Tab")
        await expect(focused).to_have_attribute("value", "image")
        await keyboard.press("ArrowLeft")
        await expect(visit.receipt).to_contain_text("1 \u00d7 text at 1")
        await keyboard.press("Tab")
        await keyboard.type("Typed, not clicked")
        outline = await focused.evaluate("e => getComputedStyle(e).outlineStyle")
        assert outline == "solid"
        await keyboard.press("Control+Enter")
        card = visit.card("Typed, not clicked")
        await expect(card).to_be_visible()
        await card.get_by_role("button", name="Cancel").focus()
        await keyboard.press("Enter")
        await expect(card).to_contain_text("Cancelling")
        await house.world.settle_all()
