"""What the product is told: the user's own settings first, and the local world's where there are none."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dotenv import dotenv_values

ENDPOINTS = ("RUNPOD_ENDPOINT_TEXT", "RUNPOD_ENDPOINT_IMAGE", "RUNPOD_ENDPOINT_MODIFY", "RUNPOD_ENDPOINT_VIDEO")

ENDPOINTS_FILE = "TWIN_ENDPOINTS"


class SettingsRefused(Exception):
    """The user's settings cannot be followed; the message says which and why."""


@dataclass(frozen=True, slots=True)
class OwnHandler:
    """A RunPod worker of the user's own, and the type of generation it serves."""

    file: Path
    type: str

    @classmethod
    def checked(cls, file: Path, type_: str) -> Self:
        """Look before anything is started. SettingsRefused when there is no such file or no such type."""
        types = [name.rpartition("_")[2].lower() for name in ENDPOINTS]
        if type_ not in types:
            raise SettingsRefused(f"TYPE is {type_!r}; it can be {', '.join(types)}")
        if not file.is_file():
            raise SettingsRefused(f"HANDLER is {str(file)!r}, and there is no such file")
        return cls(file.resolve(), type_)


def own_handlers(files: Sequence[Path], types: Sequence[str]) -> list[OwnHandler]:
    """Each file with the type at its place; a single one serves images when no type is said. Raises SettingsRefused."""
    types = types or ["image"] * min(len(files), 1)
    if len(types) != len(files) or len(set(types)) < len(types):
        raise SettingsRefused("each --handler needs a --type of its own")
    return [OwnHandler.checked(file, type_) for file, type_ in zip(files, types, strict=True)]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The user's settings: `.env`, under the environment proper."""

    given: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read them as `shared.settings` would. SettingsRefused when RunPod is named by halves."""
        from_file = {name: value for name, value in dotenv_values(folder / ".env").items() if value}
        given = {**from_file, **{name: value for name, value in os.environ.items() if value}}
        missing = [name for name in ENDPOINTS if not given.get(name)]
        if given.get("RUNPOD_API_KEY") and missing and not given.get(ENDPOINTS_FILE):
            raise SettingsRefused(
                f"RUNPOD_API_KEY is set, so RunPod's own is used; also needed: {', '.join(missing)}, or TWIN_ENDPOINTS"
            )
        return cls(given)

    @property
    def port(self) -> int:
        """Where the page and the API listen; SettingsRefused when it is no port."""
        text = self.given.get("PORT", "8000")
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise SettingsRefused(f"PORT is {text!r}, which is no port number")
        return int(text)

    @property
    def folder(self) -> Path:
        """Where the local world keeps its data."""
        return Path(self.given.get("TWIN_LOCAL_DIR", ".local")).absolute()

    @property
    def brings_postgres(self) -> bool:
        """DATABASE_URL names a server."""
        return bool(self.given.get("DATABASE_URL"))

    @property
    def brings_redis(self) -> bool:
        """REDIS_URL names a server."""
        return bool(self.given.get("REDIS_URL"))

    @property
    def brings_runpod(self) -> bool:
        """RUNPOD_API_KEY opens RunPod's own."""
        return bool(self.given.get("RUNPOD_API_KEY"))

    @property
    def brings_issuer(self) -> bool:
        """Sign-in is with a Clerk of the user's; nobody can sign in as whomever they like."""
        return self.given.get("TWIN_MODE") == "production" or bool(self.given.get("CLERK_ISSUER"))

    def with_local(self, local: Mapping[str, str]) -> dict[str, str]:
        """All settings: the given ones, and the local ones where nothing is given.

        A file of endpoints is instead of the four variables, for the local RunPod, too.
        """
        replaced = ENDPOINTS if self.given.get(ENDPOINTS_FILE) else ()
        return {**{name: value for name, value in local.items() if name not in replaced}, **self.given}
