"""`python -m tests.local.weather`, behind `make weather`: show, set or clear trouble in the RunPod of `make run`.

make weather                                          what stands
make weather ORDERS="image slow=5 webhooks=lost 50%"  set; what stood for the same trouble and place goes
make weather ORDERS=clear                             fine weather again (also at the head of other orders)
"""

import sys
from pathlib import Path
from typing import Any, Final

import httpx

from tests.local.folder import RUNPOD_URL
from tests.local.runpod import orders
from tests.local.surroundings import Surroundings

CLEAR: Final = "clear"
_PATIENCE_SECONDS: Final = 10


class NoWeather(Exception):
    """The weather cannot be had; the message says why."""


class Observatory:
    """The weather door of the local RunPod that lives in a folder."""

    def __init__(self, folder: Path) -> None:
        try:
            self._url = (folder / RUNPOD_URL).read_text() + "/weather"
            key = (folder / "secrets" / "runpod.secret").read_text()
        except OSError as error:
            raise NoWeather(f"no local RunPod was ever started in {folder}: `make run` starts one") from error
        self._headers = {"authorization": f"Bearer {key}"}

    def ask(self, method: str, body: Any = None) -> dict[str, Any]:
        """Show (GET), set (PUT) or clear (DELETE). NoWeather with what is wrong."""
        try:
            answer = httpx.request(
                method, self._url, json=body, headers=self._headers, timeout=_PATIENCE_SECONDS, trust_env=False
            )
            said: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise NoWeather("the local RunPod does not answer: is `make run` up?") from error
        if not answer.is_success:
            raise NoWeather(f"the local RunPod refuses: {said.get('detail')}")
        return said


def change(observatory: Observatory, words: list[str]) -> str:
    """Do what the words say; return what stands then. Raises NoWeather, WrongWord."""
    seen = observatory.ask("GET")
    rest = words[1:] if words[:1] == [CLEAR] else words
    wanted = orders.read(rest, seen["endpoints"])  # all of it is read before anything is changed
    if rest != words:
        seen = observatory.ask("DELETE")
    if wanted:
        seen = observatory.ask("PUT", [order.model_dump(mode="json", exclude_unset=True) for order in wanted])
    return "\n".join(map(orders.say, seen["orders"])) or "fine weather"


def main() -> int:
    """Read the command line. Exit code 1 with a sentence when something is wrong."""
    words = [word for argument in sys.argv[1:] for word in argument.split()]
    if words in (["help"], ["--help"], ["-h"]):
        print(f"{__doc__}\n{orders.HELP}")
        return 0
    try:
        print(change(Observatory(Surroundings.read(Path.cwd()).folder), words))
    except (NoWeather, orders.WrongWord) as error:
        print(f"Weather unchanged: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
