"""Text, in worker-vllm's older shape: an answer of several sentences made from the prompt's own words.

One answer is streamed as it is written, a few words at a time; `[broken]` has it break off midway.
"""

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import runpod

from tests.local.runpod.handlers.asking import Asking, keep_pace, read, soft_error

SMALL_WORDS: Final = frozenset(
    re.findall(
        r"\w+",
        """a about above across after against all along also an and any are around as at be because been before below
        between but by can could did do does down during each else for from give had has have her here his how i if in
        into is it its just like made make makes many may me more most much must my near nor not of off on one only or
        our out over own please same she should so some such tell than that the their them then there these they this
        those through to too under until up upon us very was we were what when where which while who whom whose why
        will with within without would write you your""",
    )
)
OPENINGS: Final = (
    "Here is one way to look at {a}.",
    "Let us begin with {a}.",
    "{A}: a better starting point than it seems.",
    "Ask ten people about {a} and you will hear ten answers.",
    "The short answer on {a} is: it depends on {b}.",
)
MIDDLES: Final = (
    "What holds it together is {b}, quiet but always present.",
    "Take away {b}, and little of {a} would keep its shape.",
    "Most people notice {a} first and only later see how {b} leads up to it.",
    "Put {a} beside {c} and the difference tells you more than either alone.",
    "There is a rhythm in {b} that {c} picks up and carries further.",
    "It helps to start small: a little {b}, then {c}, then the whole picture.",
    "Somewhere between {b} and {c} lies the part worth keeping.",
    "When {a} becomes the question, the answer often hides in {c}.",
)
CLOSINGS: Final = (
    "In the end, whoever looks twice at {a} will see more.",
    "So keep {a} simple, let {b} do its work, and leave room for surprise.",
    "That is the heart of it: {a}, seen through {c}.",
    "Try it once with {b} and once without, and trust what you see.",
)

PIECE: Final = re.compile(r"(?:\S+\s*){1,3}")
PIECES_PER_PACE: Final = 5


def compose(asking: Asking, item: int) -> str:
    """Write one answer of four to six sentences."""
    dice = asking.dice(item)
    words = [word for word in re.findall(r"\w[\w'-]*", asking.prompt) if word.lower() not in SMALL_WORDS]
    topics = list(dict.fromkeys(word.lower() for word in words if len(word) > 2))[:12] or [f"“{asking.prompt[:60]}”"]
    middles = dice.sample(MIDDLES, dice.randint(2, 4))
    return " ".join(_fill(line, topics, dice) for line in (dice.choice(OPENINGS), *middles, dice.choice(CLOSINGS)))


def _fill(line: str, topics: list[str], dice: random.Random) -> str:
    a, b, c = dice.sample(topics, 3) if len(topics) >= 3 else (topics[0], topics[-1], "patience")
    if a == b:
        b = "attention"
    sentence = line.format(a=a, b=b, c=c, A=a.capitalize())
    return sentence[:1].upper() + sentence[1:]


async def handler(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer the prompt once for each item of the batch."""
    asking = read(job)
    await keep_pace(job, asking)
    if (error := soft_error(asking)) is not None:
        return error
    answers = [compose(asking, item) for item in range(asking.deliverable)]
    usage = {"input": len(asking.prompt.split()), "output": sum(len(answer.split()) for answer in answers)}
    return [{"choices": [{"tokens": [answer]} for answer in answers], "usage": usage} | asking.shortfall()]


async def streaming(job: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """As `handler`, told while it is made. Raises RuntimeError for `[broken]`, when half is told."""
    (whole,) = await handler(job)
    if "error" in whole or len(whole["choices"]) != 1:
        yield whole  # an error, or a batch: its answers could not be told apart
        return
    pace = float(os.environ.get("TWIN_HANDLER_PACE_SECONDS", "0.5")) / PIECES_PER_PACE
    broken = "broken" in read(job).troubles
    (answer,) = whole["choices"][0]["tokens"]
    pieces = re.findall(PIECE, answer)
    for place, piece in enumerate(pieces):
        if broken and place >= len(pieces) / 2:
            raise RuntimeError("the prompt asked for a text that breaks off")
        yield {"choices": [{"tokens": [piece]}]}
        await asyncio.sleep(pace)
    yield {"choices": [], "usage": whole["usage"]}


if __name__ == "__main__":
    runpod.serverless.start({"handler": streaming, "return_aggregate_stream": True})
