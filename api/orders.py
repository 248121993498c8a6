"""What a person can order: the body of a submit, one model for each type of generation. Nothing unknown is accepted."""

import secrets
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from shared.costs import Measure
from shared.generations import Type

PROMPT_CHARACTERS = 8000
BATCH_LIMIT = 8
REFERENCE_CHARACTERS = 255
SEED_LIMIT = 2**32
SIDE_MINIMUM_PIXELS = 64
SIDE_LIMIT_PIXELS = 1024
SIDE_STEP_PIXELS = 8
STEPS_LIMIT = 100
SECONDS_LIMIT = 20
MAX_COST_LIMIT = 10**9


def _without_nul(text: str) -> str:
    if "\0" in text:
        msg = "must not contain the character NUL"
        raise ValueError(msg)
    return text


Prompt = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=PROMPT_CHARACTERS),
    AfterValidator(_without_nul),
]
Reference = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,255}$", max_length=REFERENCE_CHARACTERS)]
BatchSize = Annotated[int, Field(ge=1, le=BATCH_LIMIT)]
Side = Annotated[int, Field(ge=SIDE_MINIMUM_PIXELS, le=SIDE_LIMIT_PIXELS, multiple_of=SIDE_STEP_PIXELS)]
Steps = Annotated[int, Field(ge=1, le=STEPS_LIMIT, description="how long the model refines each output")]
Seconds = Annotated[int, Field(ge=1, le=SECONDS_LIMIT, description="the length of each clip")]
EndpointName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$", max_length=100)]
Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT, description="repeats a result; chosen when left out")]


class Model(BaseModel):
    """Exactly these fields, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Parameters(Model):
    """What every type understands."""

    seed: Seed | None = None


class RefinedParameters(Parameters):
    """For models that work in steps."""

    steps: Steps | None = None


class SizedParameters(RefinedParameters):
    """A picture's or a clip's size in pixels."""

    width: Side | None = None
    height: Side | None = None


class ClipParameters(SizedParameters):
    """A clip has a length, too."""

    seconds: Seconds | None = None


class Source(Model):
    """An output of one of the person's own generations."""

    generation_id: Annotated[UUID, Field(strict=False)]
    index: Annotated[int, Field(ge=0, lt=64)] = 0


class Wish(Model):
    """What a price depends on: all that a quote asks for, and the part of an order that the quote locks."""

    type: str
    batch_size: BatchSize = 1
    parameters: Parameters = Parameters()
    endpoint: EndpointName | None = Field(
        None, description="send it there and nowhere else; one that has a price of its own for this type"
    )

    @property
    def generation_type(self) -> Type:
        """The type as the rest of the product knows it."""
        return Type(self.type)

    def given_parameters(self) -> dict[str, Any]:
        """The parameters that were given."""
        return self.parameters.model_dump(exclude_none=True)


class TextWish(Wish):
    """Texts."""

    type: Literal["text"]


class ImageWish(Wish):
    """Pictures."""

    type: Literal["image"]
    parameters: SizedParameters = SizedParameters()


class ModifyWish(Wish):
    """Changes to a picture."""

    type: Literal["modify"]
    parameters: RefinedParameters = RefinedParameters()


class VideoWish(Wish):
    """Short clips."""

    type: Literal["video"]
    parameters: ClipParameters = ClipParameters()


AnyWish = Annotated[TextWish | ImageWish | ModifyWish | VideoWish, Field(discriminator="type")]

PRICED: dict[Type, tuple[Measure, ...]] = {
    Type.TEXT: (),
    Type.IMAGE: ("steps", "pixels"),
    Type.MODIFY: ("steps",),
    Type.VIDEO: ("steps", "pixels", "seconds"),
}
"""What the price of a type may depend on: what its orders can carry."""


class Order(Wish):
    """What all orders have."""

    prompt: Prompt
    quote_id: Annotated[str, Field(max_length=1000)] | None = Field(None, description="locks the price of a quote")
    max_cost: Annotated[int, Field(ge=0, le=MAX_COST_LIMIT)] | None = Field(
        None, description="credits; a higher price is refused"
    )
    client_reference: Reference | None = Field(None, description="yours; unique for ever among your generations")

    @property
    def modified(self) -> Source | None:
        """The output to modify, if this order has one."""
        return None

    def settled_parameters(self) -> dict[str, Any]:
        """The parameters with a seed in any case, so that every generation can be repeated."""
        return {"seed": secrets.randbelow(SEED_LIMIT), **self.given_parameters()}


class TextOrder(TextWish, Order):
    """A text."""


class ImageOrder(ImageWish, Order):
    """Pictures."""


class ModifyOrder(ModifyWish, Order):
    """Changes to a picture."""

    source: Source

    @property
    def modified(self) -> Source | None:
        """The output to modify."""
        return self.source


class VideoOrder(VideoWish, Order):
    """Short clips."""


AnyOrder = Annotated[TextOrder | ImageOrder | ModifyOrder | VideoOrder, Field(discriminator="type")]
ORDERS: TypeAdapter[TextOrder | ImageOrder | ModifyOrder | VideoOrder] = TypeAdapter(AnyOrder)
"""For callers that are not routes: `ORDERS.validate_python({...})`."""
