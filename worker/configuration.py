"""Which endpoints there are: those of the file that `TWIN_ENDPOINTS` names, or one for each type by its variable.

The file holds an `[[endpoint]]` for each. What is wrong with it is refused at start, entry by entry, with the reason.
"""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from shared.errors import ConfigurationRefused
from shared.generations import HOLD_LIFETIME, Type
from worker.endpoints import Endpoints, Profile
from worker.kinds import KINDS
from worker.kinds.passthrough import Passthrough
from worker.settings import MOST_JOBS, SHORTEST_RUN, EndpointId, WorkerSettings
from worker.transitions import Endpoint

MAXIMUM_FILE_BYTES = 1 << 20
MAXIMUM_WEIGHT = 1000
MAXIMUM_PRIORITY = 1000

EXPECTED_RUN = {
    Type.TEXT: timedelta(seconds=2),
    Type.IMAGE: timedelta(seconds=3),
    Type.MODIFY: timedelta(seconds=3),
    Type.VIDEO: timedelta(seconds=6),
}
"""A first guess, until the endpoint's own history speaks (worker/pace.py)."""

M = TypeVar("M", bound=BaseModel)

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True, le=HOLD_LIFETIME.total_seconds())]


class Terms(BaseModel):
    """What every endpoint has, whatever its kind; the kind's own options stand beside these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Name
    type: Type
    endpoint_id: EndpointId
    worker: str
    priority: Annotated[int, Field(ge=0, le=MAXIMUM_PRIORITY, strict=True)] = 0
    weight: Annotated[int, Field(ge=1, le=MAXIMUM_WEIGHT, strict=True)] = 1
    queue_deadline_seconds: _Seconds | None = None
    run_deadline_seconds: _Seconds | None = None
    expected_run_seconds: _Seconds | None = None
    expected_cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=MOST_JOBS, strict=True)] | None = None


class _Wrong(ValueError):
    """What is wrong with an entry, in sentences without their ends."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = reasons


def read_endpoints(settings: WorkerSettings) -> Endpoints:
    """The endpoints that the settings name.

    Raises:
        ConfigurationRefused: the file cannot be followed; a sentence for each thing that is wrong.
    """
    if settings.endpoints_file is not None:
        return Endpoints(read_file(settings.endpoints_file, settings), max_concurrency=settings.max_concurrency)
    return Endpoints(
        [
            Profile(
                endpoint=Endpoint(type=generation_type, name=generation_type.value, endpoint_id=endpoint_id),
                kind=Passthrough(streams=generation_type is Type.TEXT),
                queue_deadline=settings.queue_deadline,
                run_deadline=settings.run_deadline,
                expected_run=EXPECTED_RUN[generation_type],
                streams=generation_type is Type.TEXT,
            )
            for generation_type, endpoint_id in settings.endpoint_ids().items()
        ],
        max_concurrency=settings.max_concurrency,
    )


def read_file(path: Path, settings: WorkerSettings) -> list[Profile]:
    """The profiles of the file, in its order.

    Raises:
        ConfigurationRefused: a sentence for each thing that is wrong.
    """
    entries = _entries(path)
    profiles: list[Profile] = []
    refusals: list[str] = []
    for number, entry in enumerate(entries, start=1):
        try:
            profiles.append(_profile(entry, settings=settings, folder=path.parent))
        except _Wrong as wrong:
            name = f" ({entry['name']})" if isinstance(entry.get("name"), str) else ""
            refusals += [f"endpoint {number}{name}: {reason}" for reason in wrong.reasons]
    refusals += _of_the_whole(entries)
    if refusals:
        raise ConfigurationRefused(" ".join(f"{path}, {refusal}." for refusal in refusals))
    return profiles


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_FILE_BYTES + 1)
        if len(content) > MAXIMUM_FILE_BYTES:
            raise ConfigurationRefused(f"TWIN_ENDPOINTS: {path} is larger than {MAXIMUM_FILE_BYTES} bytes.")
        document = tomllib.loads(content.decode())
    except OSError as error:
        raise ConfigurationRefused(f"TWIN_ENDPOINTS: {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise ConfigurationRefused(f"TWIN_ENDPOINTS: {path} is not TOML: {error}.") from error
    entries = document.pop("endpoint", None)
    if document:
        raise ConfigurationRefused(f"{path} has {', '.join(sorted(document))}; it may hold [[endpoint]] entries only.")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigurationRefused(f"{path} has no [[endpoint]] entries.")
    return entries


def _of_the_whole(entries: list[dict[str, Any]]) -> Iterator[str]:
    names = Counter(str(entry["name"]) for entry in entries if "name" in entry)
    for name, times in names.items():
        if times > 1:
            yield f"endpoint {name}: {times} entries have this name"
    made = [entry.get("type") for entry in entries]
    for wanted in Type:
        if wanted.value not in made:
            yield f"type {wanted.value}: no endpoint makes it"


def _profile(entry: Mapping[str, Any], *, settings: WorkerSettings, folder: Path) -> Profile:
    """Raises: _Wrong."""
    terms = _checked(Terms, {name: value for name, value in entry.items() if name in Terms.model_fields})
    kind_class = KINDS.get(terms.worker)
    if kind_class is None:
        raise _Wrong(f"worker {terms.worker} is not known; known are {', '.join(KINDS)}")
    if terms.type not in kind_class.types:
        makes = ", ".join(t.value for t in Type if t in kind_class.types)
        raise _Wrong(f"a {terms.worker} worker makes {makes}, not {terms.type.value}")
    options = {name: value for name, value in entry.items() if name not in Terms.model_fields}
    kind = _checked(kind_class, options, folder=folder, type=terms.type)
    if kind.streaming and terms.type is not Type.TEXT:
        raise _Wrong("streams is for text")
    profile = Profile(
        endpoint=Endpoint(type=terms.type, name=terms.name, endpoint_id=terms.endpoint_id),
        kind=kind,
        queue_deadline=_or_else(terms.queue_deadline_seconds, settings.queue_deadline),
        run_deadline=_or_else(terms.run_deadline_seconds, settings.run_deadline),
        expected_run=_or_else(terms.expected_run_seconds, EXPECTED_RUN[terms.type]),
        priority=terms.priority,
        weight=terms.weight,
        streams=kind.streaming,
        max_concurrency=terms.max_concurrency,
        expected_cost_usd=None if terms.expected_cost_usd is None else Decimal(str(terms.expected_cost_usd)),
    )
    _check_deadlines(profile, settings)
    return profile


def _check_deadlines(profile: Profile, settings: WorkerSettings) -> None:
    if profile.run_deadline < SHORTEST_RUN:
        raise _Wrong(f"run_deadline_seconds must be at least {SHORTEST_RUN.seconds}: RunPod accepts no shorter run")
    longest = settings.longest_life(queue_deadline=profile.queue_deadline, run_deadline=profile.run_deadline)
    if longest > HOLD_LIFETIME:
        raise _Wrong(
            "queue_deadline_seconds and run_deadline_seconds, with the settings' other deadlines and a second attempt,"
            f" add up to {longest}, more than a hold lives ({HOLD_LIFETIME})"
        )


def _or_else(seconds: float | None, default: timedelta) -> timedelta:
    return default if seconds is None else timedelta(seconds=seconds)


def _checked(model: type[M], values: Mapping[str, Any], **context: Any) -> M:
    """Raises: _Wrong."""
    try:
        return model.model_validate(dict(values), context=context)
    except ValidationError as error:
        raise _Wrong(*(_reason(problem, model) for problem in error.errors(include_url=False))) from error


def _reason(problem: ErrorDetails, model: type[BaseModel]) -> str:
    where = ".".join(str(step) for step in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{where} is not known; known are {', '.join([*Terms.model_fields, *model.model_fields])}"
    if problem["type"] == "missing":
        return f"{where} is not set"
    said = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said
