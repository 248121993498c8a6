"""Trouble to order: what the client sees of it, and what became of the job all the same."""

import httpx
import pytest

from tests.local.runpod import orders
from tests.local.runpod.clock import ManualClock
from tests.local.runpod.door import client, transport
from tests.local.runpod.endpoints import Canned
from tests.local.runpod.jobs import State
from tests.local.runpod.platform import Platform
from tests.local.runpod.rules import NO_LIMITS, Rules
from tests.local.runpod.weather import MOST_ORDERS, TooManyOrders, Trouble
from tests.local_runpod.conformance import conforms

ASK = {"input": {"prompt": "rain"}}


@pytest.mark.parametrize(
    ("trouble", "details", "code"),
    [("rate_limited", {}, 429), ("server_error", {}, 500), ("server_error", {"status": 502}, 502), ("paused", {}, 409)],
)
@conforms("5xx", "502-body")
async def test_refusals_strike_as_often_as_ordered_and_queue_nothing(
    runpod: Platform, http: httpx.AsyncClient, trouble: str, details: dict[str, int], code: int
) -> None:
    runpod.weather.order(trouble, endpoint="text", count=2, **details)
    assert (await http.post("/image/run", json=ASK)).status_code == 200
    for expected in (code, code, 200):
        assert (await http.post("/text/run", json=ASK)).status_code == expected
    assert len(runpod.jobs("text")) == 1
    assert [call.status for call in runpod.calls_to("run", "text")] == [code, code, 200]


@pytest.mark.parametrize(
    ("trouble", "error", "accepted"),
    [
        ("timeout_before_accepting", httpx.ReadTimeout, 0),
        ("timeout_after_accepting", httpx.ReadTimeout, 1),
        ("dropped_before_accepting", httpx.RemoteProtocolError, 0),
        ("dropped_after_accepting", httpx.RemoteProtocolError, 1),
    ],
)
async def test_without_an_answer_the_client_cannot_tell(
    runpod: Platform, http: httpx.AsyncClient, trouble: str, error: type[Exception], accepted: int
) -> None:
    runpod.weather.order(trouble, operation="run", count=1)
    with pytest.raises(error):
        await http.post("/text/run", json=ASK)
    assert len(runpod.jobs("text")) == accepted
    (call,) = runpod.calls_to("run")
    assert call.status is None
    assert (call.job_id is not None) == bool(accepted)
    assert call.body == ASK
    assert (await http.get("/text/health")).status_code == 200


@conforms("in-queue")
async def test_a_cold_start_keeps_the_job_in_the_queue(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    runpod.weather.order("cold_start", seconds=45, count=1)
    cold = runpod.submit("text", ASK)
    warm = runpod.submit("text", ASK)
    assert runpod.take("text") is warm
    assert runpod.take("text") is None
    clock.advance(45)
    assert runpod.take("text") is cold
    assert (await http.get(f"/text/status/{cold.id}")).json()["delayTime"] == 45_000


async def test_throttled_workers_take_nothing_until_the_weather_clears(
    runpod: Platform, http: httpx.AsyncClient
) -> None:
    runpod.hear("text", "w1")
    runpod.weather.order("throttled", endpoint="text")
    job = runpod.submit("text", ASK)
    assert runpod.take("text") is None
    assert (await http.get("/text/health")).json()["workers"]["throttled"] == 1
    runpod.weather.clear("throttled")
    assert runpod.take("text") is job


@conforms("429-retry-after")
async def test_a_429_can_say_when_to_come_back(runpod: Platform, http: httpx.AsyncClient) -> None:
    runpod.weather.order("rate_limited", count=1)
    runpod.weather.order("rate_limited", seconds=6.2, count=1)
    assert "retry-after" not in (await http.post("/text/run", json=ASK)).headers
    assert (await http.post("/text/run", json=ASK)).headers["retry-after"] == "7"


async def test_a_worker_can_die_on_its_job(runpod: Platform, clock: ManualClock) -> None:
    runpod.weather.order("worker_crash", seconds=2, count=2)
    job = runpod.submit("text", ASK)
    for state in (State.IN_QUEUE, State.FAILED):
        assert runpod.take("text") is job
        clock.advance(2)
        assert runpod.job(job.id).state is state
    assert job.error == "job timed out after 1 retries"
    spared = runpod.submit("text", ASK)
    runpod.take("text")
    clock.advance(2)
    assert runpod.job(spared.id).state is State.IN_PROGRESS


async def test_a_crash_meant_for_an_earlier_run_spares_the_next(runpod: Platform, clock: ManualClock) -> None:
    runpod.weather.order("worker_crash", seconds=2, count=1)
    job = runpod.submit("text", ASK)
    runpod.take("text")
    runpod.lose(job.id)
    assert runpod.take("text") is job
    clock.advance(2)
    assert runpod.job(job.id).state is State.IN_PROGRESS


async def test_an_order_can_be_for_a_while(runpod: Platform, clock: ManualClock) -> None:
    runpod.weather.order("server_error", lasting_seconds=60)
    clock.advance(59)
    assert [standing["ends_in"] for standing in runpod.weather.forecast()] == [1]
    assert runpod.weather.strikes(Trouble.SERVER_ERROR, "text")
    clock.advance(1)
    assert runpod.weather.strikes(Trouble.SERVER_ERROR, "text") is None
    assert runpod.weather.forecast() == []


async def test_only_so_many_orders_stand(runpod: Platform) -> None:
    for _ in range(MOST_ORDERS):
        runpod.weather.order("forgotten", count=1)
    with pytest.raises(TooManyOrders, match="100 orders stand"):
        runpod.weather.order("paused")
    assert runpod.weather.strikes(Trouble.FORGOTTEN, "text")
    runpod.weather.order("paused")


async def test_a_forgotten_job_is_a_404_while_it_lives_on(runpod: Platform, http: httpx.AsyncClient) -> None:
    job = runpod.submit("text", ASK)
    runpod.weather.order("forgotten", operation="status", count=1)
    assert (await http.get(f"/text/status/{job.id}")).status_code == 404
    assert (await http.get(f"/text/status/{job.id}")).status_code == 200
    runpod.forget(job.id)
    assert (await http.get(f"/text/status/{job.id}")).status_code == 404


@conforms("completed-without-output")
async def test_an_oversized_result_is_completed_without_output(runpod: Platform, http: httpx.AsyncClient) -> None:
    runpod.weather.order("oversized_result", count=1)
    job = runpod.submit("text", ASK)
    runpod.work_off("text", lambda _: {"images": ["…"]})
    seen = (await http.get(f"/text/status/{job.id}")).json()
    assert seen["status"] == "COMPLETED"
    assert "output" not in seen


async def test_chance_is_the_same_for_the_same_seed() -> None:
    async def codes(seed: int) -> list[int]:
        runpod = Platform(["text"])
        runpod.weather.order("server_error", probability=0.5, seed=seed)
        async with client(runpod) as http:
            return [(await http.get("/text/health")).status_code for _ in range(30)]

    assert await codes(1) == await codes(1) != await codes(2)
    assert set(await codes(1)) == {200, 500}


async def test_the_weather_is_ordered_over_http_too(http: httpx.AsyncClient, runpod: Platform) -> None:
    site = "http://runpod.test"
    order = {"trouble": "paused", "endpoint": "text", "count": 3}
    answer = await http.post(f"{site}/weather", json=[order, {"trouble": "latency", "seconds": 0}])
    assert [standing["left"] for standing in answer.json()["orders"]] == [3, None]
    assert (await http.post("/text/run", json=ASK)).status_code == 409
    assert (await http.get(f"{site}/weather")).json()["orders"][0]["left"] == 2
    assert (await http.delete(f"{site}/weather")).json()["orders"] == []
    assert (await http.post("/text/run", json=ASK)).status_code == 200


async def test_an_order_can_take_the_place_of_another(http: httpx.AsyncClient) -> None:
    url = "http://runpod.test/weather"
    await http.post(url, json=[{"trouble": "latency", "seconds": 1}, {"trouble": "latency", "operation": "run"}])
    answer = await http.put(url, json={"trouble": "latency", "seconds": 2})
    stand = [(standing["operation"], standing["seconds"]) for standing in answer.json()["orders"]]
    assert stand == [("run", 1), (None, 2)]


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_what_is_too_much_changes_nothing(runpod: Platform, http: httpx.AsyncClient, method: str) -> None:
    """Not the part that there was room for, either: whoever asked is told that the weather is unchanged."""
    for _ in range(MOST_ORDERS - 1):
        runpod.weather.order("latency", seconds=0)
    before = runpod.weather.forecast()
    wanted = [{"trouble": "paused"}, {"trouble": "forgotten"}]
    answer = await http.request(method, "http://runpod.test/weather", json=wanted)
    assert (answer.status_code, runpod.weather.forecast()) == (400, before)


async def test_the_weather_is_ordered_in_words_and_answered_in_lines(http: httpx.AsyncClient, runpod: Platform) -> None:
    async def say(method: str, words: str) -> tuple[int, str]:
        headers = {"content-type": "text/plain; charset=utf-8"}
        answer = await http.request(method, "http://runpod.test/weather", content=words, headers=headers)
        return answer.status_code, answer.text

    assert await say("PUT", "") == (200, "fine weather")
    assert await say("PUT", "text slow=5 x3 all paused") == (200, "text slow=5 x3\nall paused")
    assert await say("PUT", "text slow=7") == (200, "text slow=7\nall paused")
    assert await say("POST", "text slow=8") == (200, "text slow=7\ntext slow=8\nall paused")
    assert await say("PUT", "help") == (200, orders.HELP)
    standing = runpod.weather.forecast()
    for nonsense in ("clear frogs", "paused help", "\xff", "clear" + " " * 70_000, "clear " + "paused " * 201):
        assert (await say("PUT", nonsense))[0] == 400
    # One more than there is room for: what was to be cleared stands, too.
    assert (await say("POST", "clear" + " forgotten" * (MOST_ORDERS + 1)))[0] == 400
    assert runpod.weather.forecast() == standing
    assert await say("PUT", "clear image cold=45") == (200, "image cold=45")
    assert await say("PUT", "clear") == (200, "fine weather")


async def test_the_weather_is_for_whoever_has_the_key(runpod: Platform) -> None:
    async with httpx.AsyncClient(transport=transport(runpod), base_url="http://runpod.test") as stranger:
        for method in ("GET", "POST", "PUT", "DELETE"):
            assert (await stranger.request(method, "/weather", json={"trouble": "paused"})).status_code == 401
            words = await stranger.request(method, "/weather", content="paused", headers={"content-type": "text/plain"})
            assert (words.status_code, words.text) == (401, "no token provided")
    assert runpod.weather.forecast() == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", 400),
        (b"7", 422),
        (b'{"trouble":"frogs"}', 422),
        (b'{"trouble":"latency","seconds":-1}', 422),
        (b'{"trouble":"latency","count":0}', 422),
        (b'{"trouble":"latency","mystery":1}', 422),
        (b'{"trouble":"server_error","status":200}', 422),
        (b'{"trouble":"latency","lasting_seconds":0}', 422),
        (b'[{"trouble":"latency"},{"trouble":"frogs"}]', 422),
        (b'{"trouble":"latency","endpoint":"nowhere"}', 400),
        (b'{"trouble":"latency","operation":"dance"}', 400),
        (b'{"trouble":"latency"}' + b" " * 70_000, 400),
    ],
)
async def test_an_order_nobody_understands_changes_nothing(
    runpod: Platform, http: httpx.AsyncClient, content: bytes, code: int
) -> None:
    assert (await http.post("http://runpod.test/weather", content=content)).status_code == code
    assert runpod.weather.forecast() == []


async def test_a_canned_endpoint_answers_without_workers(clock: ManualClock) -> None:
    runpod = Platform(clock=clock, rules=Rules(limits=NO_LIMITS))
    runpod.add_endpoint("instant", canned=Canned(lambda job: {"echo": job.input["prompt"]}))
    runpod.add_endpoint("slow", canned=Canned(lambda _: 1 / 0, queue_seconds=2, run_seconds=3))
    async with client(runpod) as http:
        job_id = (await http.post("/instant/run", json=ASK)).json()["id"]
        assert (await http.get(f"/instant/status/{job_id}")).json()["output"] == {"echo": "rain"}
        assert (await http.post("/instant/runsync", json=ASK)).json()["status"] == "COMPLETED"

        job_id = (await http.post("/slow/run", json=ASK)).json()["id"]
        states = []
        for seconds in (1, 1, 2, 1):
            clock.advance(seconds)
            states.append((await http.get(f"/slow/status/{job_id}")).json()["status"])
        assert states == ["IN_QUEUE", "IN_PROGRESS", "IN_PROGRESS", "FAILED"]


async def test_a_canned_endpoint_is_never_full_nor_idle(clock: ManualClock) -> None:
    runpod = Platform(clock=clock, rules=Rules(queue_always=1, queue_per_worker=0, idle_pause_seconds=5))
    runpod.add_endpoint("slow", canned=Canned(lambda _: None, queue_seconds=2))
    for _ in range(3):
        runpod.submit("slow", ASK)
    clock.advance(5)
    runpod.submit("slow", ASK)
