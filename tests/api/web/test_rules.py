"""What holds for the page whatever is on it: its headers, whom it listens to, and what its scripts may weigh."""

import base64
import gzip
import hashlib
import re

import httpx
import pytest

from api.web import assets
from api.web.rendering import CONTENT_SECURITY_POLICY
from tests.flow.world import PUBLIC_URL, World

SCRIPT_BUDGET_BYTES = 20_000
COUNT = "SELECT count(*) FROM generations"
ORDER = {"type": "image", "prompt": "A bridge", "batch_size": "1", "key": "one-key"}


async def test_the_policy_is_strict_and_nothing_is_inline(browser_of: httpx.AsyncClient) -> None:
    page = await browser_of.get("/")
    assert page.status_code == 200
    assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert page.headers["cache-control"] == "no-store"
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page.text)
    assert all("src=" in script for script in re.findall(r"<script[^>]*>", page.text))


async def test_scripts_are_pinned_kept_and_light(browser_of: httpx.AsyncClient) -> None:
    page = await browser_of.get("/")
    scripts = re.findall(r'<script src="([^"]+)" integrity="sha384-([^"]+)"', page.text)
    assert len(scripts) == 4
    weight = 0
    for address, integrity in scripts:
        reply = await browser_of.get(address)
        assert base64.b64encode(hashlib.sha384(reply.content).digest()).decode() == integrity, address
        assert reply.headers["cache-control"] == assets.KEPT_FOR_EVER
        weight += len(gzip.compress(reply.content, 9))
    assert weight < SCRIPT_BUDGET_BYTES


async def test_an_old_address_of_a_file_is_not_kept(browser_of: httpx.AsyncClient) -> None:
    reply = await browser_of.get("/static/js/page.js?v=old")
    assert reply.headers["cache-control"] == "no-cache"
    again = await browser_of.get("/static/js/page.js", headers={"if-none-match": reply.headers["etag"]})
    assert again.status_code == 304
    for outside in ("../pages.py", "%2e%2e/pages.py", "css", "nothing.js"):
        assert (await browser_of.get(f"/static/{outside}")).status_code == 404


@pytest.mark.parametrize(
    "path", ["/generations", "/sign-out", "/generations/00000000-0000-0000-0000-000000000000/cancel"]
)
async def test_another_site_cannot_act_in_a_persons_name(
    world: World, browser_of: httpx.AsyncClient, path: str
) -> None:
    before = await world.value(COUNT)
    for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
        reply = await browser_of.post(path, data=ORDER, headers=headers)
        assert reply.status_code == 403
        assert "another site" in reply.text
    assert await world.value(COUNT) == before


async def test_another_site_cannot_even_sign_a_person_out(world: World) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(world.app), base_url=PUBLIC_URL) as bare:
        for headers in ({}, {"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
            reply = await bare.post("/sign-out", headers=headers)
            assert (reply.status_code, reply.headers.get("set-cookie")) == (403, None)
        assert (await bare.post("/sign-out", headers={"origin": PUBLIC_URL})).status_code == 303


async def test_a_form_sent_twice_is_one_generation(world: World, browser_of: httpx.AsyncClient) -> None:
    before = await world.value(COUNT)
    first = await browser_of.post("/generations", data=ORDER)
    second = await browser_of.post("/generations", data=ORDER)
    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    other = await browser_of.post("/generations", data={**ORDER, "prompt": "A tunnel"})
    assert other.status_code == 422
    assert "This form was sent before and went through" in other.text
    assert "A tunnel" in other.text
    assert 'value="one-key"' not in other.text
    assert await world.value(COUNT) == before + 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": "   "}, "Write a prompt first."),
        ({"prompt": "x" * 8001}, "at most 8000 characters"),
        ({"prompt": "nul \0 inside"}, "NUL"),
        ({"type": "sculpture"}, "Pick a kind"),
        ({"batch_size": "99"}, "a number from 1 to 8"),
        ({"batch_size": "0"}, "a number from 1 to 8"),
        ({"type": "modify", "source": "not-an-id:0"}, "Pick the picture"),
        ({"type": "modify", "source": "00000000-0000-0000-0000-000000000000:0"}, "picture of yours"),
        ({"key": "two words"}, "visible ASCII"),
    ],
)
async def test_what_makes_no_sense_is_refused_in_words(
    world: World, browser_of: httpx.AsyncClient, change: dict[str, str], words: str
) -> None:
    before = await world.value(COUNT)
    for headers in ({}, {"hx-request": "true"}):
        reply = await browser_of.post("/generations", data={**ORDER, **change}, headers=headers)
        assert 400 <= reply.status_code < 500
        assert words in reply.text
        assert ("<!doctype html>" in reply.text) == (not headers)
    assert await world.value(COUNT) == before


async def test_what_people_write_is_text_never_markup(world: World, browser_of: httpx.AsyncClient) -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    await browser_of.post("/generations", data={**ORDER, "prompt": bad})
    page = await browser_of.get("/", params={"prompt": bad, "source": '"><script>', "before": bad})
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text


@pytest.mark.parametrize("source", ["\0:0", "00000000-0000-0000-0000-000000000000\0:0", "{}:0", "x" * 5000])
async def test_a_source_that_makes_no_sense_is_no_picture(browser_of: httpx.AsyncClient, source: str) -> None:
    assert (await browser_of.get("/", params={"type": "modify", "source": source})).status_code == 200
    reply = await browser_of.post("/generations", data={**ORDER, "type": "modify", "source": source})
    assert reply.status_code == 422


async def test_somebody_elses_work_is_not_there(world: World, browser_of: httpx.AsyncClient) -> None:
    other = await world.person()
    theirs = await world.finishing(other, {"images": []}, prompt="private")
    assert (await browser_of.post(f"/generations/{theirs}/cancel")).status_code == 404
    page = await browser_of.get("/", params={"type": "modify", "source": f"{theirs}:0"})
    assert "private" not in page.text
    await world.settle_all()


async def test_parts_of_the_page_lead_to_the_page(browser_of: httpx.AsyncClient) -> None:
    for part in ("/quote", "/composer", "/history"):
        reply = await browser_of.get(f"{part}?type=video&before=x")
        assert (reply.status_code, reply.headers["location"]) == (303, "/?type=video&before=x")


async def test_strangers_are_shown_the_door(world: World) -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(world.app), base_url="http://twin.localhost"
    ) as stranger:
        assert "Continue as demo person" in (await stranger.get("/")).text
        sent = await stranger.post("/generations", data=ORDER, headers={"sec-fetch-site": "same-origin"})
        assert (sent.status_code, sent.headers["location"]) == (303, "/")
        for part in ("/quote", "/live", "/history?before=x"):
            reply = await stranger.get(part, headers={"hx-request": "true"})
            assert (reply.status_code, reply.headers["hx-redirect"]) == (401, "/")


async def test_clerks_own_cookie_is_a_session_too(world: World) -> None:
    person = await world.person()
    token = person.http.headers["authorization"].removeprefix("Bearer ")
    headers = {"cookie": f"__session={token}", "sec-fetch-site": "same-origin"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(world.app), base_url=PUBLIC_URL, headers=headers
    ) as client:
        assert "Make something" in (await client.get("/")).text
        left = await client.post("/sign-out")
    cookies = left.headers.get_list("set-cookie")
    assert {cookie.partition("=")[0] for cookie in cookies} == {"__Host-session", "__session"}
    assert all("Max-Age=0" in cookie for cookie in cookies)
