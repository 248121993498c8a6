"""The page: server-rendered, over the same functions as the JSON API. `pages.py` has the routes; read it first."""

from fastapi import FastAPI

from api.web import assets
from api.web.live import router as live
from api.web.pages import router as pages
from api.web.rendering import Renderer


def install(app: FastAPI) -> None:
    """Give the app its page: reads templates and static files once, now."""
    static = assets.load()
    app.state.renderer = Renderer(static)
    for router in (pages, live, assets.router(static)):
        app.include_router(router)
