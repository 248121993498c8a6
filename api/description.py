"""The OpenAPI description, completed: every operation may answer with a problem."""

from typing import Any, NotRequired

from fastapi import FastAPI
from pydantic import TypeAdapter
from typing_extensions import TypedDict

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Refused; the body says why and what to do", "content": _PROBLEM},
    "5XX": {"description": "Our fault, or a part is away", "content": _PROBLEM},
}


class FieldError(TypedDict):
    """One thing that is wrong: where (a JSON pointer into the body, or a parameter's name), a code and a sentence."""

    pointer: NotRequired[str]
    parameter: NotRequired[str]
    code: str
    detail: str


class Problem(TypedDict):
    """RFC 9457. `type` leads to a page that says what to do; some problems have further members."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None
    retryable: bool
    errors: NotRequired[list[FieldError]]


class DescribedApi(FastAPI):
    """FastAPI that knows what our errors look like."""

    def openapi(self) -> dict[str, Any]:
        """The description with the problem's schema in it."""
        described = super().openapi()
        problem = TypeAdapter(Problem).json_schema(ref_template="#/components/schemas/{model}")
        schemas = described.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(problem.pop("$defs", {}))
        schemas["Problem"] = problem
        return described
