"""Refusals on the page: a page in words for a browser, the API's own problem for htmx (page.js says it in words)."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import RedirectResponse

from api.errors import BUSY, request_id
from api.problems import KINDS
from api.web import words
from api.web.rendering import is_fragment, renderer_of
from shared.database import UNREACHABLE
from shared.errors import TwinError


class PageRoute(APIRoute):
    """A route whose refusals are pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Answer a browser's refused request with a page that says what to do."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except (TwinError, RequestValidationError, *UNREACHABLE, *BUSY) as error:
                if is_fragment(request):
                    raise
                return _page(request, error)

        return answer


def _page(request: Request, error: Exception) -> Response:
    if isinstance(error, TwinError):
        code, detail = error.code, error.detail
    elif isinstance(error, RequestValidationError):
        code, detail = "not-found", "There is nothing under this address."
    else:
        code, detail = "unavailable", "The studio cannot reach its database just now. Nothing was done; try again."
    kind = KINDS[code]
    return renderer_of(request).reply(
        "problem.html", status=kind.status, title=kind.title, detail=detail, request_id=request_id(request)
    )


def trouble(request: Request, error: TwinError) -> dict[str, Any]:
    """A refused order as the form's alert shows it."""
    kind = KINDS[error.code]
    return {
        "title": f"{kind.title}.",
        "detail": words.refusal(error),
        "request_id": request_id(request),
        "retryable": kind.retryable,
    }


def sign_in_first(request: Request) -> Response:
    """Back to the door, for somebody whose session is over."""
    if is_fragment(request):
        return Response(status_code=401, headers={"HX-Redirect": "/"})
    return RedirectResponse("/", 303)
