"""Outputs of a story: a picture that lies at an address elsewhere, and what a person was given."""

import base64
from typing import Any
from uuid import UUID

from tests.flow.world import Person, picture

PICTURE = base64.b64decode(picture().split(",")[1])
ELSEWHERE = "https://93.184.215.14/made.png"


async def outputs_of(person: Person, generation_id: UUID) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = (await person.http.get(f"/v1/generations/{generation_id}")).json()["outputs"]
    return outputs
