"""`python -m tests.local`, behind `make run`: one world until Ctrl-C. Exit code 1 when it could not start.

`--handler path/to/handler.py --type image` has the user's own RunPod worker serve that type instead of the sample; both
may be repeated, each handler with the type that stands at its place.
"""

import argparse
import os
import sys
from pathlib import Path

from tests.local import leashed
from tests.local.folder import FolderInUse
from tests.local.supervisor import PartFailed, StopRequested
from tests.local.surroundings import SettingsRefused, own_handlers
from tests.local.world import open_world


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.local")
    parser.add_argument(
        "--handler", type=Path, action="append", default=[], help="a file that calls runpod.serverless.start"
    )
    parser.add_argument(
        "--type", action="append", default=[], help="the type of generation it serves (one handler alone: image)"
    )
    options = parser.parse_args()
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    try:
        world = open_world(Path.cwd(), own_handlers(options.handler, options.type), colours=colours)
    except (SettingsRefused, FolderInUse) as error:
        print(f"Not started: {error}", file=sys.stderr)
        return 1
    world.supervisor.listen_to_signals()
    if "MAKELEVEL" in os.environ:
        leashed.follow_make(world.supervisor.request_stop)
    try:
        world.run()
    except StopRequested:
        return 0
    except (PartFailed, SettingsRefused) as error:
        print(f"Not started: {error}", file=sys.stderr)
        return 1
    finally:
        world.folder.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
