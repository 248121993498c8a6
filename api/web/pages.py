"""The routes of the page. Thin: read the request, call what the JSON API calls, render.

GET /                       welcome, or the studio: form, price, history
GET /quote /composer /history   parts of it, for htmx; anything else is sent to the page itself
POST /generations           send; POST /generations/{id}/cancel, …/retry, …/delete and …/restore
POST /sign-out
"""

import contextlib
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import RedirectResponse

from api.auth import Person, require_same_origin
from api.deletions import delete, restore
from api.errors import request_id
from api.generations import cancel, look
from api.idempotency import read_key
from api.problems import KINDS
from api.quotes import quote
from api.retries import retry
from api.state import state_of
from api.submit import submit
from api.web import studio
from api.web.cards import card
from api.web.drafts import Draft
from api.web.problems import PageRoute, sign_in_first, trouble
from api.web.rendering import is_fragment, renderer_of
from api.web.session import Visitor, clear_session_cookie, sign_in_address
from shared.errors import Conflict, InsufficientCredits, KeyReused, TwinError

FELL_BACK = "Part of that link made no sense, so the usual settings stand in for it."
FORM_FIELDS = 20

router = APIRouter(include_in_schema=False, route_class=PageRoute, dependencies=[Depends(require_same_origin)])


@router.get("/")
async def home(request: Request, person: Visitor, before: str | None = None, deleted: str | None = None) -> Response:
    """The page: the welcome for a stranger, the studio for whoever is signed in."""
    state, renderer = state_of(request), renderer_of(request)
    if person is None:
        prices = [(price["type"].value, price["unit"]) for price in await studio.unit_prices(state)]
        settings = state.settings
        return renderer.reply(
            "welcome.html", local=settings.mode == "local", sign_in_url=sign_in_address(settings), prices=prices
        )
    draft = Draft.read(request.query_params)
    whose = await studio.person(state, person.user_id)
    context = await studio.home(state, whose, draft, before=before)
    if deleted is not None:  # without a script: what was deleted a moment ago, and the way back
        with contextlib.suppress(ValueError):
            context["gone"] = await studio.deleted(state, person.user_id, UUID(deleted))
    if draft.mended:
        context["notice"] = FELL_BACK
    return renderer.reply("home.html", **context)


@router.get("/quote")
async def price(request: Request, person: Visitor) -> Response:
    """The receipt and the button, for the kind and batch of the form."""
    if not is_fragment(request):
        return _to_page(request)
    if person is None:
        return sign_in_first(request)
    draft = Draft.read(request.query_params)
    priced = await quote(
        state_of(request), user_id=person.user_id, generation_type=draft.type, batch_size=draft.batch_size
    )
    return renderer_of(request).reply("cost.html", quote=priced)


@router.get("/composer")
async def composer(request: Request, person: Visitor) -> Response:
    """The form, filled in by a link: an example, or a picture as the source."""
    if not is_fragment(request):
        return _to_page(request)
    if person is None:
        return sign_in_first(request)
    state = state_of(request)
    whose = await studio.person(state, person.user_id)
    form = await studio.desk(state, whose, Draft.read(request.query_params), day=whose.today.isoformat())
    return renderer_of(request).reply("composer.html", **{**form, "filled_by_link": True})


@router.get("/history")
async def more(request: Request, person: Visitor, before: str, day: str | None = None) -> Response:
    """The next cards; `day` is the last heading that is on the page already."""
    if not is_fragment(request):
        return _to_page(request)
    if person is None:
        return sign_in_first(request)
    state = state_of(request)
    whose = await studio.person(state, person.user_id)
    earlier = await studio.history(state, whose, before=before, shown_day=day or "")
    return renderer_of(request).reply("history.html", **earlier)


@router.post("/generations")
async def send(request: Request, person: Visitor) -> Response:
    """Order what the form says, once per form, however often it is sent."""
    if person is None:
        return sign_in_first(request)
    state = state_of(request)
    async with request.form(max_fields=FORM_FIELDS, max_files=0) as form:
        draft, day = Draft.read(form), form.get("day")
    try:
        receipt = await submit(
            state, draft.order(), user_id=person.user_id, key=read_key(draft.key), request_id=request_id(request)
        )
    except TwinError as error:
        return await _refused(request, person, draft, error)
    if not is_fragment(request):
        return RedirectResponse(f"/#g-{receipt.generation_id}", 303)
    whose = await studio.person(state, person.user_id)
    if receipt.replayed or day != whose.today.isoformat():
        # Its card is on the page already, or the page has no list for today: look again.
        return Response(headers={"HX-Redirect": "/"})
    reply = await look(state, receipt.generation_id, user_id=person.user_id)
    fresh = await studio.desk(state, whose, draft.next(), day=day)
    return renderer_of(request).reply(
        "sent.html", status=202, card=card(reply, whose.zone), balance=reply["balance"], **fresh
    )


async def _refused(request: Request, person: Person, draft: Draft, error: TwinError) -> Response:
    """The form again with everything that was typed, and why it was not taken."""
    state, renderer = state_of(request), renderer_of(request)
    if isinstance(error, KeyReused):
        draft = draft.renewed()
    whose = await studio.person(state, person.user_id)
    said: dict[str, Any] = {"trouble": trouble(request, error)}
    status = KINDS[error.code].status
    if is_fragment(request):
        form = await studio.desk(state, whose, draft, day=whose.today.isoformat())
        return renderer.reply("sent.html", status=status, card=None, **{**form, **said})
    context = await studio.home(state, whose, draft, before=None)
    return renderer.reply("home.html", status=status, **{**context, **said})


@router.post("/generations/{generation_id}/cancel")
async def stop(request: Request, person: Visitor, generation_id: UUID) -> Response:
    """Ask for the end of a generation; one that is past cancelling is shown as it is."""
    if person is None:
        return sign_in_first(request)
    state = state_of(request)
    try:
        reply = await cancel(state, generation_id, user_id=person.user_id)
    except Conflict:
        reply = await look(state, generation_id, user_id=person.user_id)
    if not is_fragment(request):
        return RedirectResponse(f"/#g-{generation_id}", 303)
    whose = await studio.person(state, person.user_id)
    return renderer_of(request).reply("card.html", card=card(reply, whose.zone))


@router.post("/generations/{generation_id}/retry")
async def again(request: Request, person: Visitor, generation_id: UUID) -> Response:
    """Try again what failed or was cancelled; one that is on its way already is shown as it is."""
    if person is None:
        return sign_in_first(request)
    state = state_of(request)
    status, said = 202, None
    try:
        await retry(state, generation_id, user_id=person.user_id)
    except Conflict as error:
        status, said = 409, error.detail
    except InsufficientCredits as error:
        if not is_fragment(request):
            raise
        status, said = 402, error.detail
    if not is_fragment(request):
        return RedirectResponse(f"/#g-{generation_id}", 303)
    reply = await look(state, generation_id, user_id=person.user_id)
    whose = await studio.person(state, person.user_id)
    # It may be on its way: in another window, or by a second click. Then there is nothing to complain of.
    trouble = said if reply["status"].terminal else None
    return renderer_of(request).reply("card.html", status=status, card=card(reply, whose.zone, trouble=trouble))


@router.post("/generations/{generation_id}/delete")
async def remove(request: Request, person: Visitor, generation_id: UUID) -> Response:
    """Delete a generation, and offer to undo that."""
    if person is None:
        return sign_in_first(request)
    state = state_of(request)
    await delete(state, generation_id, user_id=person.user_id)
    if not is_fragment(request):
        return RedirectResponse(f"/?deleted={generation_id}", 303)
    gone = await studio.deleted(state, person.user_id, generation_id)
    return renderer_of(request).reply("deleted.html", gone=gone)


@router.post("/generations/{generation_id}/restore")
async def bring_back(request: Request, person: Visitor, generation_id: UUID) -> Response:
    """Undo a deletion."""
    if person is None:
        return sign_in_first(request)
    state = state_of(request)
    reply = await restore(state, generation_id, user_id=person.user_id)
    if not is_fragment(request):
        return RedirectResponse(f"/#g-{generation_id}", 303)
    whose = await studio.person(state, person.user_id)
    return renderer_of(request).reply("restored.html", card=card(reply, whose.zone, take_focus=True))


@router.post("/sign-out")
async def sign_out() -> Response:
    """Forget the session in this browser."""
    response = RedirectResponse("/", 303)
    clear_session_cookie(response)
    return response


def _to_page(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"/{query}", 303)
