"""Real `runpod` SDK workers behind the product: one world for all, over TCP, as a person sees it.

Three of the world's four endpoints serve texts with handlers of this folder, and so does the fourth, whose types nobody
orders here. Nothing is timed: a handler goes on when a file is there, and the test makes it when it has seen enough.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.local.databases import wait_for
from tests.world.person import Event, Person
from tests.world.running import Run
from worker.audit import AUDITS

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="as the other worlds"),
    pytest.mark.timeout(300),  # a whole world, on a machine that may be busy
]

HANDLERS = Path(__file__).parent / "handlers"
SERVED = {"text": "telling", "image": "moody", "modify": "together", "video": "yielding"}
"""Which handler is behind each of the local RunPod's endpoints."""
ENDPOINTS = HANDLERS / "endpoints.toml"
CREDITS = 50
PRICES = {"telling": 2, "yielding": 3, "moody": 2, "hurried": 2, "together": 3}
"""Only an endpoint with a price of its own can be asked for by its name; no two sums here come out alike by chance."""


@pytest.fixture(scope="module")
def world(database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The product with these handlers, its worker ready."""
    folder = tmp_path_factory.mktemp("handlers")
    argv = [f"--{name}={value}" for kind, file in SERVED.items() for name, value in _told(kind, file)]
    settings = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    run = Run(folder / "world", *argv, TWIN_ENDPOINTS=str(ENDPOINTS), **settings)
    try:
        run.until("ready http://")
        if not any("worker.ready" in line for line in run.said):
            run.until("worker.ready")
        for endpoint, price in PRICES.items():
            body = {"type": "text", "endpoint": endpoint, "unit_credits": price}
            run.ask("POST", "/v1/admin/prices", json=body, headers=owner(run) | {"idempotency-key": endpoint})
        yield run
    finally:
        run.stop()
    assert run.ended() == 0
    product = [line for line in run.said if line.split(" |")[0].strip() in ("api", "worker")]
    assert [line for line in product if "[error" in line or "Traceback" in line] == []


def owner(run: Run) -> dict[str, str]:
    return run.signed_in("user_owner", role="admin")


def _told(kind: str, file: str) -> list[tuple[str, str]]:
    return [("handler", str(HANDLERS / f"{file}.py")), ("type", kind)]


@pytest.fixture
def person(world: Run, database_url: str) -> Iterator[Person]:
    """Somebody who has `CREDITS`; afterwards none are held, and no audit finds anything."""
    user_id = f"user_{uuid4().hex}"
    grant = {"user_id": user_id, "amount": CREDITS, "kind": "promo", "source_ref": user_id}
    world.ask("POST", "/v1/admin/grants", json=grant, headers=owner(world))
    somebody = Person(world, world.signed_in(user_id))
    assert somebody.credits() == (CREDITS, 0)
    yield somebody
    assert somebody.credits().held == 0
    assert wait_for(_findings(database_url, user_id)) == {}


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[Path]:
    """Where generators stand still; whatever came of a test, none does afterwards, and the next finds a free worker."""
    yield tmp_path
    let_go(tmp_path, *range(len(PIECES)))


async def _findings(database_url: str, user_id: str) -> dict[str, list[Any]]:
    connection = await asyncpg.connect(database_url)
    try:
        found = {name: await connection.fetch(statement, 20) for name, statement in AUDITS.items()}
        found["holds"] = await connection.fetch(
            "SELECT hold_id FROM credit_holds WHERE user_id = $1 AND NOT final", user_id
        )
    finally:
        await connection.close()
    return {name: rows for name, rows in found.items() if rows}


def chunks(events: list[Event]) -> list[str]:
    return [event.data["text"] for event in events if event.name == "chunk"]


def states(events: list[Event]) -> list[str]:
    return [event.data["to"] for event in events if event.name == "transition"]


def shown(events: list[Event]) -> str:
    """What somebody has before them who reads along: a `text` takes the place of all before it."""
    text = ""
    for event in events:
        if event.name in ("chunk", "text"):
            text = event.data["text"] if event.name == "text" else text + event.data["text"]
    return text


def until_chunk(events: Iterator[Event]) -> list[Event]:
    """What comes up to the next chunk, and that."""
    heard = []
    for event in events:
        heard += [event] if event.name != "queue" else []
        if event.name in ("chunk", "text"):
            return heard
    raise AssertionError(f"it ended without another chunk: {heard}")


LIFE = ["reserved", "submitting", "submitted", "running", "finishing", "completed"]
PIECES = ["The sea ", "is never ", "quite calm."]


def let_go(gates: Path, *places: int) -> None:
    for place in places:
        (gates / str(place)).touch()


@pytest.mark.parametrize("endpoint", ["telling", "yielding"])
def test_a_text_is_read_while_its_generator_makes_it(person: Person, gates: Path, endpoint: str) -> None:
    price = PRICES[endpoint]
    generation_id = person.order(endpoint, {"pieces": PIECES, "gates": str(gates)})
    assert person.credits() == (CREDITS - price, price)
    heard: list[Event] = []
    with person.reading(generation_id) as events:
        heard += until_chunk(events)
    # The generator stands still behind its first piece, so the job has not ended.
    told = person.look(generation_id)
    assert (told["text_so_far"], told["outputs"]) == (PIECES[0], [])

    let_go(gates, 0)
    with person.reading(generation_id, last_event_id=heard[-1].id) as events:
        heard += until_chunk(events)
    assert person.look(generation_id)["text_so_far"] == PIECES[0] + PIECES[1]
    let_go(gates, 1)
    with person.reading(generation_id, starting_after=heard[-1].id) as events:
        heard += until_chunk(events)
        assert person.look(generation_id)["status"] in ("submitted", "running")
        let_go(gates, 2)
        heard += [event for event in events if event.name != "queue"]

    assert chunks(heard) == PIECES
    assert states(heard) == LIFE
    assert heard == person.read(generation_id), "three readers in turn heard what one from the beginning hears"
    assert person.read(generation_id, last_event_id=heard[-1].id) == []
    made = person.look(generation_id)
    assert [output["text"] for output in made["outputs"]] == ["".join(PIECES)]
    assert made["cost"]["charged"] == price
    assert person.credits() == (CREDITS - price, 0)


def test_a_text_whose_generator_breaks_off_is_taken_back(person: Person, gates: Path) -> None:
    generation_id = person.order("telling", {"pieces": PIECES, "gates": str(gates), "breaks_at": 1})
    with person.reading(generation_id) as events:
        assert chunks(until_chunk(events)) == PIECES[:1]
        let_go(gates, 0)
        assert list(events)[-1].ends
    made = person.look(generation_id)
    assert (made["status"], made["error"]["code"], made["outputs"]) == ("failed", "model-failed", [])
    assert chunks(person.read(generation_id)) == []
    assert person.credits() == (CREDITS, 0)


def test_a_text_whose_worker_dies_is_told_anew_and_sold_only_where_it_is_whole(person: Person, gates: Path) -> None:
    """RunPod runs the job again, and its stream has the beginning of the first run and all of the second."""
    sent = {endpoint: dying(person, gates, endpoint) for endpoint in ("telling", "yielding")}
    for generation_id in sent.values():
        with person.reading(generation_id) as events:
            assert shown(until_chunk(events)) == PIECES[0], "the first run was heard"
    let_go(gates, 0, 1, 2)

    assert shown(person.read(sent["telling"])) == "".join(PIECES), "its full output replaces what was shown"
    made = person.look(sent["telling"])
    assert (made["status"], made["outputs"][0]["text"]) == ("completed", "".join(PIECES))

    broken = person.ended(sent["yielding"])
    assert (broken["status"], broken["error"]["code"], broken["outputs"]) == ("failed", "stream-broken", [])
    assert chunks(person.read(sent["yielding"])) == [], "nobody can tell which of it is whose"
    assert (gates / "yielding died").exists()
    assert person.credits() == (CREDITS - PRICES["telling"], 0)


def dying(person: Person, gates: Path, endpoint: str) -> str:
    """A text whose worker dies the first time, before the second piece."""
    marker = str(gates / f"{endpoint} died")
    return person.order(endpoint, {"pieces": PIECES, "gates": str(gates), "dies_at": 1, "marker": marker})


@pytest.mark.parametrize(
    ("mood", "code", "words"),
    [
        ("raises", "model-failed", "no luck"),
        ("soft error", "model-failed", "soft failure"),
        ("error as dict", "model-failed", "7"),
        ("returns nothing", "no-output", ""),
    ],
)
def test_what_fails_at_the_worker_is_told_and_costs_nothing(person: Person, mood: str, code: str, words: str) -> None:
    made = person.ended(person.order("moody", {"mood": mood}))
    assert_failed(person, made, code=code, words=words)
    assert person.credits() == (CREDITS, 0)


def assert_failed(person: Person, made: dict[str, Any], *, code: str, words: str) -> None:
    """The person hears that it failed; staff hear it in the worker's words."""
    assert (made["status"], made["error"]["code"], made["outputs"]) == ("failed", code, [])
    assert (made["cost"]["charged"], made["cost"]["refunded"]) == (0, made["cost"]["quoted"])
    letters = person.run.ask("GET", "/ops/dead-letters", headers=owner(person.run))["data"]
    (letter,) = [letter for letter in letters if letter["id"] == made["id"]]
    assert words in letter["exchange"]["said"]


def maker(person: Person, mood: str = "fine") -> str:
    """Who made one, which is delivered and charged."""
    before = person.credits()
    made = person.ended(person.order("moody", {"mood": mood}))
    assert made["status"] == "completed", made
    assert person.credits() == (before.available - PRICES["moody"], 0)
    text: str = made["outputs"][0]["text"]
    return text


def test_a_result_that_cannot_be_sent_fails_when_its_time_is_over(person: Person) -> None:
    who = maker(person)
    made = person.ended(person.order("hurried", {"mood": "unserialisable"}))
    assert_failed(person, made, code="model-failed", words="executionTimeout exceeded")
    assert person.credits() == (CREDITS - PRICES["moody"], 0), "nothing for this one"
    assert maker(person) == who, "its worker lives on"


def test_progress_is_told_and_a_cancelled_job_leaves_its_worker_alive(person: Person) -> None:
    who = maker(person)
    generation_id = person.order("moody", {"mood": "is never done"})
    assert person.see(generation_id, lambda reply: reply["progress"] == "50%")["status"] == "running"
    person.cancel(generation_id)
    made = person.ended(generation_id)
    assert (made["status"], made["outputs"]) == ("cancelled", [])
    assert person.credits() == (CREDITS - PRICES["moody"], 0), "nothing for this one"
    assert maker(person) == who


def test_after_a_refresh_the_next_job_has_a_fresh_process(person: Person) -> None:
    who = maker(person)
    assert maker(person, "asks for a refresh") == who
    assert maker(person) != who


def test_a_job_whose_worker_dies_is_run_again_there_and_charged_once(person: Person, tmp_path: Path) -> None:
    generation_id = person.order("moody", {"mood": "dies once", "marker": str(tmp_path / "died")})
    assert states(person.read(generation_id)) == LIFE, "RunPod ran it again; we sent it once"
    made = person.look(generation_id)
    assert (len(made["outputs"]), made["cost"]["charged"]) == (1, PRICES["moody"])
    assert (tmp_path / "died").exists()
    assert person.credits() == (CREDITS - PRICES["moody"], 0)


def test_a_job_whose_workers_die_one_after_the_other_fails_and_is_refunded(person: Person) -> None:
    made = person.ended(person.order("moody", {"mood": "dies"}))
    assert_failed(person, made, code="model-failed", words="job timed out after 1 retries")
    assert person.credits() == (CREDITS, 0)


def test_one_worker_makes_several_at_once_and_each_is_charged_once(person: Person) -> None:
    sent = [person.order("together", f"number {number}") for number in range(3)]
    texts = [person.ended(generation_id)["outputs"][0]["text"] for generation_id in sent]
    assert [text.partition(" by ")[0] for text in texts] == ["number 0", "number 1", "number 2"]
    assert len({text.partition(" by ")[2] for text in texts}) == 1, "it ends none before it has all three"
    assert person.credits() == (CREDITS - 3 * PRICES["together"], 0)
