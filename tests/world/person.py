"""What somebody does with a world over HTTP and nothing else: order, read along, look at the result and the balance."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx

from tests.world.running import Run

PATIENCE_SECONDS = 60
_LOOK_EVERY_SECONDS = 0.05
TERMINAL = ("completed", "failed", "cancelled")


class Credits(NamedTuple):
    """What is there to be spent, and what is promised to what is open."""

    available: int
    held: int


class Event(NamedTuple):
    """A server-sent event; `id` is empty where it has none."""

    id: str
    name: str
    data: dict[str, Any]

    @property
    def ends(self) -> bool:
        """Whether nothing comes after it."""
        return self.name == "transition" and self.data["to"] in TERMINAL


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in."""

    run: Run
    headers: dict[str, str]

    def order(self, endpoint: str, prompt: Any) -> str:
        """Order a text of this endpoint; a prompt that is no text is sent as JSON. Returns the generation's id."""
        words = prompt if isinstance(prompt, str) else json.dumps(prompt)
        body = {"type": "text", "endpoint": endpoint, "prompt": words}
        sent: str = self.run.ask("POST", "/v1/generations", json=body, headers=self.headers)["id"]
        return sent

    def cancel(self, generation_id: str) -> None:
        """Change one's mind."""
        self.run.ask("POST", f"/v1/generations/{generation_id}/cancel", headers=self.headers)

    def look(self, generation_id: str) -> dict[str, Any]:
        """The generation as it is told now."""
        reply: dict[str, Any] = self.run.ask("GET", f"/v1/generations/{generation_id}", headers=self.headers)
        return reply

    def credits(self) -> Credits:
        """The balance as it is told now."""
        told = self.run.ask("GET", "/v1/credits", headers=self.headers)
        return Credits(told["available"], told["held"])

    def see(self, generation_id: str, sight: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Look at the generation until there is something to see."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not sight(reply := self.look(generation_id)):
            assert time.monotonic() < deadline, f"it never came to be: {reply}"
            time.sleep(_LOOK_EVERY_SECONDS)
        return reply

    @contextmanager
    def reading(self, generation_id: str, **headers_or_query: str) -> Iterator[Iterator[Event]]:
        """The events of a generation as they come. `last_event_id` is a header, `starting_after` of the query."""
        query = {name: value for name, value in headers_or_query.items() if name == "starting_after"}
        heard = {"last-event-id": headers_or_query["last_event_id"]} if "last_event_id" in headers_or_query else {}
        url = f"http://127.0.0.1:{self.run.port}/v1/generations/{generation_id}/events"
        with httpx.stream(
            "GET", url, params=query, headers=self.headers | heard, timeout=PATIENCE_SECONDS, trust_env=False
        ) as reply:
            assert reply.status_code in (200, 204), reply.read()
            yield _events(reply.iter_lines())

    def read(self, generation_id: str, **headers_or_query: str) -> list[Event]:
        """All events until the server ends them; places in line left out, which are told at the moment alone."""
        with self.reading(generation_id, **headers_or_query) as events:
            return [event for event in events if event.name != "queue"]

    def ended(self, generation_id: str) -> dict[str, Any]:
        """Read along until it has ended, and look."""
        assert self.read(generation_id)[-1].ends
        return self.look(generation_id)


def _events(lines: Iterator[str]) -> Iterator[Event]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    told: dict[str, str] = {}
    for line in lines:  # at least a comment comes every 15 s
        assert time.monotonic() < deadline, "nothing that was waited for came"
        name, _, value = line.partition(": ")
        if line:
            told[name] = value
        elif "data" in told:
            yield Event(told.get("id", ""), told["event"], json.loads(told["data"]))
            told = {}
