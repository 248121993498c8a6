"""One log event per transition, named for what happened (`generation.submitted`), with `generation_id` bound."""

import logging
import sys
from typing import Any

import asyncpg
import orjson
import structlog

from shared.settings import Settings


def _dump(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()


def _without_rows(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A Postgres that refuses a row shows it in the error's detail, and with it whatever a person wrote."""
    raised = event.get("exc_info")
    error = raised[1] if isinstance(raised, tuple) else sys.exception() if raised is True else raised
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, asyncpg.PostgresError):
            error.detail = None
        error = error.__cause__ or error.__context__
    return event


def configure(settings: Settings, *, process: str) -> None:
    """Send structlog and the standard library's logs to stdout, as console lines or JSON."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    console = settings.log_format == "console"
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(),
            pad_event_to=24,
            # plain: rich tracebacks print local variables, prompts and keys among them
            exception_formatter=structlog.dev.plain_traceback,
        )
        if console
        else structlog.processors.JSONRenderer(serializer=_dump)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _without_rows,
            *([] if console else [structlog.processors.format_exc_info]),
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # They say at info what our own events say better; httpx would also log RunPod ids with every poll.
    for noisy in ("httpx", "httpcore", "arq", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
