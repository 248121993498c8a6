"""Orders as kinds of workers get them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from shared.generations import Generation, State, Type
from worker.kinds import KINDS
from worker.kinds.order import Order, Source

ID = UUID("01935f00-0000-7000-8000-000000000007")
SOURCE = Source("image/jpeg", b"the picture", "https://twin.example.com/v1/media/signed")
BASE64 = "dGhlIHBpY3R1cmU="
URI = f"data:image/jpeg;base64,{BASE64}"
ALL: dict[str, Any] = {"seed": 7, "steps": 30, "width": 512, "height": 768, "seconds": 4}


def order(kind: Type, *, batch_size: int = 1, source: Source | None = None, **parameters: Any) -> Order:
    """An order of this type; everything that does not matter here is empty."""
    empty: dict[str, Any] = dict.fromkeys(Generation.__slots__)
    stated: dict[str, Any] = {
        "id": ID,
        "user_id": "user",
        "type": kind,
        "prompt": "a kite",
        "batch_size": batch_size,
        "parameters": parameters,
        "state": State.SUBMITTING,
        "version": 2,
        "hold_id": ID,
        "price_version": 1,
        "quoted": 5,
        "attempt": 1,
        "outputs": [],
        "created_at": datetime(2026, 11, 25, tzinfo=UTC),
    }
    return Order(Generation(**{**empty, **stated}), source)


def sent(worker: str, asked: Order, **options: Any) -> dict[str, Any]:
    return KINDS[worker](**options).remote_input(asked)
