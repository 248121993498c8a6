"""`twin weather`: trouble in the local RunPod of `make run`, said in words that it reads and answers itself.

The door is found through the folder that `make run` keeps; no database is needed.
"""

from pathlib import Path
from typing import Annotated, Final

import httpx
import typer
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.cli.session import REFUSED, give_up
from shared.settings import read

_PATIENCE_SECONDS: Final = 10


class LocalWorld(BaseSettings):
    """Where the local world lives, as `make run` was told."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    folder: Path = Field(Path(".local"), validation_alias="TWIN_LOCAL_DIR")


def weather(
    orders: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDERS]...", help="such as image slow=5 webhooks=lost 50%")
    ] = None,
) -> None:
    """Trouble in the local RunPod of `make run`: without ORDERS what stands, with them set, with clear taken back.

    What stood for the same trouble in the same place goes. `twin weather help` has the local RunPod list every trouble.
    """
    folder = read(LocalWorld).folder.absolute()
    try:
        url = (folder / "runpod.url").read_text() + "/weather"
        key = (folder / "secrets" / "runpod.secret").read_text()
    except OSError:
        give_up(
            f"There is no local RunPod in {folder}: `make run` starts one, TWIN_LOCAL_DIR names its folder.", REFUSED
        )
    headers = {"authorization": f"Bearer {key}", "content-type": "text/plain"}
    try:
        answer = httpx.put(
            url, content=" ".join(orders or []), headers=headers, timeout=_PATIENCE_SECONDS, trust_env=False
        )
    except httpx.HTTPError:
        give_up("The local RunPod does not answer: is `make run` up?", REFUSED)
    if not answer.is_success:
        give_up(f"Weather unchanged: {answer.text}", REFUSED)
    typer.echo(answer.text)
