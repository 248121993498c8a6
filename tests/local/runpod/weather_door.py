"""`/weather`: the gateway's own door for orders, for whoever has the key.

GET shows what stands, POST adds, PUT sets (in the place of what stood for the same trouble, endpoint and operation),
DELETE takes everything back. The body is one order or a list; one that is not understood changes nothing.

A body of text/plain is words, as `twin weather` sends them, and is answered in lines: the orders of `orders.py`,
`clear` before them or alone, `help`, or nothing, which only shows what stands.
"""

from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tests.local.runpod import orders
from tests.local.runpod.platform import Platform
from tests.local.runpod.public_api import OPERATIONS, require_key
from tests.local.runpod.refusals import Refusal
from tests.local.runpod.weather import Order, TooManyOrders

MOST_BYTES: Final = 64 * 1024
CLEAR: Final = "clear"
FINE: Final = "fine weather"
_ORDERS: TypeAdapter[list[Order]] = TypeAdapter(list[Order])


class WeatherDoor:
    """Takes orders for one platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def answer(self, request: Request) -> Response:
        """Answer with the standing orders and the endpoints they can be for, or with what is wrong in `detail`.

        Words get lines: what stands, or what is wrong.
        """
        words = request.headers.get("content-type", "").startswith("text/plain")
        try:
            require_key(request.scope, self._platform.rules.api_key)
        except Refusal as refusal:
            return (
                PlainTextResponse(refusal.body["detail"], refusal.status)
                if words
                else JSONResponse(refusal.body, refusal.status)
            )
        return await (self._answer_words(request) if words else self._answer_json(request))

    async def _answer_words(self, request: Request) -> Response:
        try:
            words = (await self._body(request)).decode(errors="replace").split()
            if words == ["help"]:
                return PlainTextResponse(orders.HELP)
            cleared = words[:1] == [CLEAR]
            # All of it is read before anything is changed.
            wanted = orders.read(words[cleared:], self._platform.endpoints)
            self._platform.weather.take(wanted, instead=request.method == "PUT", cleared=cleared)
        except (ValueError, TooManyOrders) as error:
            return PlainTextResponse(str(error), 400)
        return PlainTextResponse("\n".join(map(orders.say, self._platform.weather.forecast())) or FINE)

    async def _answer_json(self, request: Request) -> Response:
        weather = self._platform.weather
        try:
            if request.method in {"POST", "PUT"}:
                weather.take(self._read(await self._body(request)), instead=request.method == "PUT")
            elif request.method == "DELETE":
                weather.clear()
        except ValidationError as error:
            return JSONResponse({"detail": error.errors(include_url=False, include_context=False)}, 422)
        except (ValueError, TooManyOrders) as error:
            return JSONResponse({"detail": str(error)}, 400)
        return JSONResponse({"orders": weather.forecast(), "endpoints": list(self._platform.endpoints)})

    async def _body(self, request: Request) -> bytes:
        raw = await request.body()
        if len(raw) > MOST_BYTES:
            raise ValueError(f"orders may take {MOST_BYTES} bytes")
        return raw

    def _read(self, raw: bytes) -> list[Order]:
        try:
            said: Any = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise ValueError("the body is not JSON") from None
        wanted = _ORDERS.validate_python(said if isinstance(said, list) else [said])
        for order in wanted:
            if order.endpoint not in {None, *self._platform.endpoints}:
                raise ValueError(f"there is no endpoint {order.endpoint!r}: {', '.join(self._platform.endpoints)}")
            if order.operation not in {None, *OPERATIONS}:
                raise ValueError(f"there is no operation {order.operation!r}: {', '.join(sorted(OPERATIONS))}")
        return wanted
