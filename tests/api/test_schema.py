"""What the description promises is what the app does: a bounded schemathesis run, as an administrator."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from api.settings import ApiSettings
from tests.api.conftest import PUBLIC_URL, open_world
from tests.local.issuer import Issuer

EXAMPLES = 120
SKIPPED = ["followGeneration", "followAccount", "createGenerationWithTracking"]
"""A stream never ends by itself; the last is the first under another address."""


async def test_the_description_holds(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> None:
    async with open_world(make_settings(), issuer) as world:
        described = (await world.client.get("/openapi.json")).json()
        schema = schemathesis.openapi.from_dict(described)
        wanted = schema.exclude(operation_id=SKIPPED)
        loop = asyncio.get_running_loop()
        headers = world.headers("user_fuzz", role="admin")

        def ask(case: Any) -> httpx.Response:
            arguments = case.as_transport_kwargs(base_url=PUBLIC_URL, headers=headers)
            return asyncio.run_coroutine_threadsafe(send(arguments), loop).result(timeout=30)

        async def send(arguments: dict[str, Any]) -> httpx.Response:
            arguments.pop("cookies", None)
            content = arguments.pop("data", None)
            return await world.client.request(**arguments, content=content)

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=wanted.as_strategy())
        def holds(case: Any) -> None:
            reply = ask(case)
            # That well-formed orders may be refused (no credits, an unknown quote) is the point of this API;
            # and we put a good session over whatever it makes up.
            case.validate_response(
                schemathesis.Response.from_httpx(reply, verify=False),
                excluded_checks=[positive_data_acceptance, ignored_auth],
            )

        await asyncio.to_thread(holds)
