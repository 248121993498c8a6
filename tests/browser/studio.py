"""The page in a real browser over a whole world: what a person does, and what the models behind it do meanwhile."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from playwright.async_api import Browser, BrowserContext, Locator, Page, Response, expect

from api.auth import SESSION_COOKIE
from tests.flow.world import PUBLIC_URL, World
from tests.local.runpod.handlers import image, modify, text, video
from worker import finish, submit

HANDLERS = {"text": text.handler, "image": image.handler, "modify": modify.handler, "video": video.handler}
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
expect.set_options(timeout=15_000)  # two cores may be busy with other tests
STILL = """Promise.allSettled(
    document.getAnimations().filter(each => each.effect.getComputedTiming().endTime < Infinity)
    .map(each => each.finished))"""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@dataclass
class Models:
    """The worker's steps and RunPod's workers, moved by hand, with the sample handlers that `make run` uses."""

    world: World

    async def submit(self) -> None:
        """reserved → submitted."""
        await submit.submit_once(self.world.context)

    async def start(self, endpoint: str, progress: str | None = None) -> Any:
        """submitted → running; returns the job."""
        job = self.world.runpod.take(endpoint)
        assert job is not None, "nothing waits there"
        if progress is not None:
            self.world.runpod.progress(job.id, progress)
        await self.world.poll_now()
        return job

    async def answer(self, job: Any) -> None:
        """running → finishing, with what the sample handler makes."""
        try:
            self.world.runpod.complete(job.id, await HANDLERS[job.endpoint_id]({"id": job.id, "input": job.input}))
        except RuntimeError as error:
            self.world.runpod.fail(job.id, str(error))
        await self.world.poll_now()

    async def settle(self) -> None:
        """finishing → settled."""
        await finish.finish_once(self.world.context)

    async def finish(self, endpoint: str) -> None:
        """All the way, for everything that waits at this endpoint."""
        await self.submit()
        while job := self.world.runpod.take(endpoint):
            await self.answer(job)
        await self.settle()


@dataclass
class Visit:
    """One person at one browser window; whatever the browser complains about is kept."""

    page: Page
    context: BrowserContext
    origin: str
    user_id: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("response", self._note)

    def _note(self, response: Response) -> None:
        if response.status >= 500:
            self.complaints.append(f"{response.status}: {response.url}")

    def forgive(self, *parts: str) -> None:
        """Take back complaints that the story caused on purpose."""
        self.complaints = [c for c in self.complaints if not any(part in c for part in parts)]

    async def open(self, path: str = "/") -> None:
        await self.page.goto(self.origin + path)

    async def pick(self, kind: str) -> None:
        await self.page.get_by_role("radio", name=kind).check()

    async def write(self, prompt: str) -> None:
        await self.page.get_by_label("Prompt").fill(prompt)

    @property
    def send_button(self) -> Locator:
        return self.page.locator("#send")

    @property
    def balance(self) -> Locator:
        return self.page.locator("#balance")

    @property
    def receipt(self) -> Locator:
        return self.page.locator(".receipt")

    def card(self, prompt: str) -> Locator:
        return self.page.locator(".card", has_text=prompt)

    async def send(self, kind: str, prompt: str) -> Locator:
        """Order one of a kind and wait for its card."""
        await self.pick(kind)
        await self.write(prompt)
        await self.send_button.click()
        await expect(self.card(prompt)).to_be_visible()
        await expect(self.page.get_by_label("Prompt")).to_have_value("")
        return self.card(prompt)

    async def live(self) -> None:
        """Wait until the page follows."""
        await expect(self.page.locator("#live-state")).to_have_text("Live")

    async def shoot(self, name: str, *, full: bool = False) -> Path:
        """A screenshot, kept as build output for people to judge."""
        for picture in await self.page.locator(".gallery img:visible").all():
            await picture.scroll_into_view_if_needed()
            await expect(picture).to_have_js_property("complete", True)
        await self.page.evaluate("scrollTo(0, 0)")
        await self.page.mouse.move(0, 0)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        await self.page.screenshot(path=path, full_page=full, caret="initial")  # hiding it would need an inline style
        return path

    async def violations(self) -> list[str]:
        """What axe finds wrong with the page as it is."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE.read_text(encoding="utf-8"))
        await self.page.evaluate(STILL)  # a colour on its way from dark to light is neither
        options = {"runOnly": {"type": "tag", "values": RULES}}
        found: dict[str, Any] = await self.page.evaluate("options => axe.run(document, options)", options)
        return [
            f"{violation['id']}: {node['target']} {node['failureSummary']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]


@dataclass
class House:
    """A browser before a served world."""

    world: World
    models: Models
    origin: str
    browser: Browser

    @contextlib.asynccontextmanager
    async def visit(
        self, *, credits_granted: int = 100, signed_in: bool = True, overdraft: int = 0, **context: Any
    ) -> AsyncIterator[Visit]:
        """A new person in a fresh window; at the end the browser must have had nothing to complain about."""
        person = f"user_{uuid4().hex[:12]}"
        await self.world.welcome(person, credits_granted=credits_granted, overdraft=overdraft)
        settings = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", **context}
        opened = await self.browser.new_context(**settings)
        try:
            if signed_in:
                await opened.add_cookies([self.cookie(person)])
            visit = Visit(await opened.new_page(), opened, self.origin, person)
            yield visit
            assert not visit.complaints, visit.complaints
        finally:
            await opened.close()

    def cookie(self, user_id: str) -> Any:
        """The session cookie of a person, as signing in sets it."""
        token, _ = self.world.issuer.token(user_id, authorized_party=PUBLIC_URL)
        return {
            "name": SESSION_COOKIE,
            "value": token,
            "url": self.origin.replace("http://", "https://"),
            "secure": True,
            "httpOnly": True,
            "sameSite": "Lax",
        }

    async def made_elsewhere(self, visit: Visit, **body: Any) -> UUID:
        """The same person orders something through the API, in another window so to speak."""
        person = await self.world.person(credits_granted=0, user_id=visit.user_id)
        return await self.world.ask(person, **body)
