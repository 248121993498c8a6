"""`GET|PATCH /v1/settings`: what a person may decide for themselves."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from typing_extensions import TypedDict

from api import replies
from api.auth import SignedIn
from api.bodies import json_only
from api.orders import Model
from api.state import State, state_of
from shared import plans
from shared.errors import Invalid, UnknownTimeZone

router = APIRouter(tags=["settings"])

ZoneName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_+-]{1,40}(/[A-Za-z0-9_+-]{1,40}){0,2}$", examples=["Europe/Berlin"])
]


class SettingsReply(TypedDict):
    """`time_zone`: where the person's day begins, and with it their daily credits."""

    time_zone: str


class SettingsBody(Model):
    """What to change; what is left out stays."""

    time_zone: ZoneName | None = None


@router.get("/v1/settings", operation_id="getSettings", response_model=SettingsReply)
async def get_settings(request: Request, person: SignedIn) -> Response:
    """The person's settings."""
    return replies.json_response(await settings_of(state_of(request), user_id=person.user_id))


@router.patch(
    "/v1/settings", operation_id="changeSettings", dependencies=[Depends(json_only)], response_model=SettingsReply
)
async def change_settings(request: Request, person: SignedIn, body: SettingsBody) -> Response:
    """Change settings. Another time zone brings no day's credits twice and loses none; today's last until its end."""
    state = state_of(request)
    if body.time_zone is not None:
        await set_time_zone(state, body.time_zone, user_id=person.user_id, actor=person.actor or person.user_id)
    return replies.json_response(await settings_of(state, user_id=person.user_id))


async def settings_of(state: State, *, user_id: str) -> SettingsReply:
    """A person's settings; of somebody new, the usual ones."""
    async with state.reading_as(user_id) as connection:
        terms = await plans.terms_of(connection, user_id)
    return {"time_zone": terms.time_zone if terms is not None else "UTC"}


async def set_time_zone(state: State, time_zone: str, *, user_id: str, actor: str) -> None:
    """Move a person's midnight.

    Raises:
        Invalid: there is no such place in the tz database.
        AccountBusy: nothing happened; try again.
    """
    try:
        async with state.connection() as connection:
            await plans.set_time_zone(connection, user_id=user_id, time_zone=time_zone, actor=actor)
    except UnknownTimeZone as error:
        problem = {
            "pointer": "/time_zone",
            "code": error.code,
            "detail": "Not a time zone of the tz database, such as Europe/Berlin.",
        }
        raise Invalid("There is no such time zone; take a name such as Europe/Berlin.", errors=[problem]) from error
    state.hub.tell(user_id)
