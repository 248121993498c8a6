"""`/weather`: the gateway's own door for orders, for whoever has the key.

GET shows what stands, POST adds, PUT sets (in the place of what stood for the same trouble, endpoint and operation),
DELETE takes everything back. The body is one order or a list; one that is not understood changes nothing.
"""

from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.local.runpod.platform import Platform
from tests.local.runpod.public_api import OPERATIONS, require_key
from tests.local.runpod.refusals import Refusal
from tests.local.runpod.weather import Order, TooManyOrders

MOST_BYTES: Final = 64 * 1024
_ORDERS: TypeAdapter[list[Order]] = TypeAdapter(list[Order])


class WeatherDoor:
    """Takes orders for one platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def answer(self, request: Request) -> Response:
        """Answer with the standing orders and the endpoints they can be for, or with what is wrong in `detail`."""
        weather = self._platform.weather
        try:
            require_key(request.scope, self._platform.rules.api_key)
        except Refusal as refusal:
            return JSONResponse(refusal.body, refusal.status)
        try:
            if request.method in {"POST", "PUT"}:
                weather.take(self._read(await request.body()), instead=request.method == "PUT")
            elif request.method == "DELETE":
                weather.clear()
        except ValidationError as error:
            return JSONResponse({"detail": error.errors(include_url=False, include_context=False)}, 422)
        except (ValueError, TooManyOrders) as error:
            return JSONResponse({"detail": str(error)}, 400)
        return JSONResponse({"orders": weather.forecast(), "endpoints": list(self._platform.endpoints)})

    def _read(self, raw: bytes) -> list[Order]:
        if len(raw) > MOST_BYTES:
            raise ValueError(f"orders may take {MOST_BYTES} bytes")
        try:
            said: Any = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise ValueError("the body is not JSON") from None
        orders = _ORDERS.validate_python(said if isinstance(said, list) else [said])
        for order in orders:
            if order.endpoint not in {None, *self._platform.endpoints}:
                raise ValueError(f"there is no endpoint {order.endpoint!r}: {', '.join(self._platform.endpoints)}")
            if order.operation not in {None, *OPERATIONS}:
                raise ValueError(f"there is no operation {order.operation!r}: {', '.join(sorted(OPERATIONS))}")
        return orders
