"""Static files: read once, addressed by their content, so browsers may keep them for ever."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from shared.errors import NotFound

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
KEPT_FOR_EVER = "public, max-age=31536000, immutable"

STYLESHEETS = tuple(f"css/{name}.css" for name in ("tokens", "base", "shell", "composer", "history", "states"))
SCRIPTS = ("vendor/htmx-4.0.1.min.js", "vendor/hx-sse-4.0.1.min.js", "js/page.js")

PINNED: Mapping[str, str] = {
    "vendor/htmx-4.0.1.min.js": "sha384-Qp9rdC8H7EqOoX+nR0P3RPG2Noji+qdwJlGpfzwQJsfOpp3sGwIdSP9xO3+UlEhn",
    "vendor/hx-sse-4.0.1.min.js": "sha384-v8HvucQ+ohQhMg0arboXc5049yNR46QKMjphs7YDch+Wm7zpfK5XVS01f26mQDJV",
}
"""What others wrote, as their release had it (npm htmx.org 4.0.1): a changed file is refused by the browser."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its bytes, its type, and two digests of them."""

    content: bytes
    media_type: str
    version: str
    integrity: str


def load(folder: Path = FOLDER) -> dict[str, Asset]:
    """Read every static file, by its path below the folder."""
    return {
        path.relative_to(folder).as_posix(): _read(path, path.relative_to(folder).as_posix())
        for path in sorted(folder.rglob("*"))
        if path.suffix in MEDIA_TYPES
    }


def _read(path: Path, name: str) -> Asset:
    content = path.read_bytes()
    digest = base64.b64encode(hashlib.sha384(content).digest()).decode()
    return Asset(
        content=content,
        media_type=MEDIA_TYPES[path.suffix],
        version=hashlib.sha256(content).hexdigest()[:12],
        integrity=PINNED.get(name, f"sha384-{digest}"),
    )


def router(static: Mapping[str, Asset]) -> APIRouter:
    """Serve the files; an address without the current version is not kept."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/static/{name:path}", name="static")
    async def get_static(request: Request, name: str) -> Response:
        asset = static.get(name)
        if asset is None:
            raise NotFound("There is no such file.")
        current = request.query_params.get("v") == asset.version
        headers = {"Cache-Control": KEPT_FOR_EVER if current else "no-cache", "ETag": f'"{asset.version}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(asset.content, headers=headers, media_type=asset.media_type)

    return routes
