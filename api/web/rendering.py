"""Templates to replies. Every page carries the same strict headers; nothing inline, nothing from elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from fastapi import Request, Response

from api.web.assets import SCRIPTS, STYLESHEETS, Asset

FOLDER = Path(__file__).parent / "templates"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "media-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Vary": "Cookie, HX-Request",
}


class Renderer:
    """Renders templates; made once per app."""

    def __init__(self, static: Mapping[str, Asset]) -> None:
        """Know the static files by name, so that pages address them by content."""
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            asset=lambda name: f"/static/{name}?v={static[name].version}",
            integrity=lambda name: static[name].integrity,
            stylesheets=STYLESHEETS,
            scripts=SCRIPTS,
        )

    def text(self, template: str, **context: Any) -> str:
        """The template with this context."""
        return self._environment.get_template(template).render(context)

    def reply(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """The template as a reply with the page's headers."""
        return Response(
            self.text(template, **context), status, headers=dict(HEADERS), media_type="text/html; charset=utf-8"
        )


def renderer_of(request: Request) -> Renderer:
    """The renderer of the app that serves this request."""
    renderer: Renderer = request.app.state.renderer
    return renderer


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of the page rather than a browser for the whole."""
    return request.headers.get("hx-request") == "true" and "hx-history-restore-request" not in request.headers
