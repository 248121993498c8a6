"""worker-vllm's real handler behind the gateway, over a loopback server that speaks OpenAI; run by `make peers`.

Not collected by `make test`: its code is somebody else's and not ours to keep. It is sent what the worker's kind `vllm`
sends, and its answers are read as the worker reads them.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from shared.generations import Type
from tests.local.runpod.fleet import Crew
from tests.local.runpod.rules import Rules
from tests.local.serving import serve
from tests.local_runpod.peers.pinned import NotPinned, require
from tests.local_runpod.workers import Peers, at_work
from worker.kinds.vllm import CHAT_ROUTE
from worker.outputs import read_output

WORKER_VLLM = "7a925039a53a10eab38d1764eb717a2ea5bdee07"
"""The commit of runpod-workers/worker-vllm that is run: its release 2.25.2. Another is first read, then named here."""
MODEL = "a-model"
WORDS = ("The ", "sea ", "is ", "quiet.")

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def chat(request: Request) -> Response:
    """Answer as vLLM's server would: whole, in events, or with its error."""
    asked = await request.json()
    if asked["model"] != MODEL:
        error = {"message": f"The model `{asked['model']}` does not exist.", "type": "NotFoundError", "code": 404}
        return JSONResponse({"error": error}, 404)
    if asked.get("stream"):
        return StreamingResponse(events(), media_type="text/event-stream")
    choices = [
        {"index": index, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
        for index in range(asked.get("n", 1))
    ]
    return JSONResponse({"object": "chat.completion", "model": MODEL, "choices": choices})


def events() -> Iterator[bytes]:
    """One event a word."""
    for word in WORDS:
        chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": word}}]}
        yield b"data: " + orjson.dumps(chunk) + b"\n\n"
    yield b"data: [DONE]\n\n"


async def models(_: Request) -> Response:
    """Name the one model."""
    return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peers() -> AsyncIterator[Peers]:
    routes = [Route(CHAT_ROUTE, chat, methods=["POST"]), Route("/v1/models", models)]
    if not (folder := os.environ.get("TWIN_WORKER_VLLM")):
        pytest.fail(f"make peers WORKER_VLLM=folder: a clone of runpod-workers/worker-vllm at {WORKER_VLLM}")
    try:
        require(Path(folder), WORKER_VLLM)
    except NotPinned as error:
        pytest.fail(str(error))
    with pytest.MonkeyPatch.context() as surroundings:
        async with serve(Starlette(routes=routes)) as origin:
            surroundings.setenv("VLLM_BASE_URL", origin)
            async with at_work([Crew("vllm", Path(__file__).with_name("vllm.py"))], Rules()) as peers:
                yield peers


def asked(**more: Any) -> dict[str, Any]:
    """What our kind `vllm` sends."""
    order = {"model": MODEL, "messages": [{"role": "user", "content": "the sea?"}], "n": 1, "max_tokens": 64}
    return {"openai_route": CHAT_ROUTE, "openai_input": order | more}


async def test_answers_come_whole_for_a_batch(peers: Peers) -> None:
    seen = await peers.made("vllm", **asked(n=2))
    assert seen["status"] == "COMPLETED", seen
    assert [item.text for item in read_output(Type.TEXT, seen["output"]).items] == ["".join(WORDS)] * 2


async def test_an_answer_is_streamed_and_settles_as_the_same_text(peers: Peers) -> None:
    job_id = await peers.run("vllm", asked(stream=True))
    seen = await peers.ended("vllm", job_id)
    chunks = [part["output"] for part in (await peers.http.get(f"/vllm/stream/{job_id}")).json()["stream"]]
    assert "".join(chunks) == "".join(seen["output"])
    assert "".join(chunks).endswith("data: [DONE]\n\n")
    assert [item.text for item in read_output(Type.TEXT, seen["output"]).items] == ["".join(WORDS)]


async def test_the_older_input_works_and_finds_the_model_by_itself(peers: Peers) -> None:
    seen = await peers.made("vllm", messages=[{"role": "user", "content": "hi"}], sampling_params={"max_tokens": 9})
    assert [item.text for item in read_output(Type.TEXT, seen["output"]).items] == ["".join(WORDS)]


async def test_an_error_of_the_model_server_is_a_python_repr(peers: Peers) -> None:
    seen = await peers.made("vllm", **asked(model="another"))
    assert seen["status"] == "FAILED"
    assert seen["error"].startswith("{'message': 'vLLM returned HTTP 404: ")
    refused = await peers.made("vllm", mystery=1)
    assert "Job input must contain one of" in refused["error"]
