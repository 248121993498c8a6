"""The order form: what was typed, read kindly for showing again and strictly for sending."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from uuid import uuid4

from pydantic import ValidationError

from api.orders import BATCH_LIMIT, ORDERS, PROMPT_CHARACTERS, ImageOrder, ModifyOrder, TextOrder, VideoOrder
from shared.errors import Invalid
from shared.generations import Type

AnyOrder = TextOrder | ImageOrder | ModifyOrder | VideoOrder
LIMITS = {"prompt": PROMPT_CHARACTERS, "batch": BATCH_LIMIT}

_SENTENCES = {
    ("prompt", "string_too_short"): "Write a prompt first.",
    ("prompt", "string_too_long"): f"The prompt may have at most {PROMPT_CHARACTERS} characters.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What stands in the form. `key` makes sending it twice the same as sending it once."""

    type: Type = Type.IMAGE
    prompt: str = ""
    batch_size: int = 1
    source: str = ""
    max_cost: str = ""
    key: str = field(default_factory=lambda: uuid4().hex)
    mended: bool = False

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """What the fields say; what makes no sense falls back, and `mended` says so."""
        given = {name: value for name, value in fields.items() if isinstance(value, str)}
        kind, batch = given.get("type", Type.IMAGE.value), given.get("batch_size", "1").strip()
        known = kind in Type.__members__.values()
        counted = batch.isascii() and batch.isdigit() and len(batch) < 4 and 1 <= int(batch) <= BATCH_LIMIT
        draft = cls(
            type=Type(kind) if known else Type.IMAGE,
            prompt=given.get("prompt", "").replace("\r\n", "\n"),
            batch_size=int(batch) if counted else 1,
            source=given.get("source", ""),
            max_cost=given.get("max_cost", ""),
            mended=not (known and counted),
        )
        return replace(draft, key=given["key"]) if given.get("key") else draft

    def renewed(self) -> "Draft":
        """The same order as a new one."""
        return replace(self, key=uuid4().hex)

    def next(self) -> "Draft":
        """An empty form of the same kind, for whatever comes after this one."""
        return Draft(type=self.type, batch_size=self.batch_size, source=self.source)

    def order(self) -> AnyOrder:
        """The order to submit.

        Raises:
            Invalid: with a sentence that says what to put right.
        """
        if self.mended:
            raise Invalid(f"Pick a kind, and a number from 1 to {BATCH_LIMIT}.")
        fields: dict[str, Any] = {"type": self.type.value, "prompt": self.prompt, "batch_size": self.batch_size}
        if self.max_cost.isascii() and self.max_cost.isdigit():
            fields["max_cost"] = int(self.max_cost[:10])
        if self.type is Type.MODIFY:
            generation_id, _, index = self.source.partition(":")
            if not index.isascii() or not index.isdigit():
                raise Invalid("Pick the picture that you want to modify.")
            fields["source"] = {"generation_id": generation_id, "index": int(index[:4])}
        try:
            return ORDERS.validate_python(fields)
        except ValidationError as error:
            raise Invalid(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    names = [str(step) for step in problem["loc"] if step not in Type.__members__.values()]
    name = names[0] if names else ""
    if name == "source":
        return "Pick the picture that you want to modify."
    said = str(problem["msg"]).removeprefix("Value error, ")
    return _SENTENCES.get((name, problem["type"]), f"{name.replace('_', ' ').capitalize()}: {said}.")
