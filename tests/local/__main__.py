"""`python -m tests.local`, behind `make run`: one world until Ctrl-C. Exit code 1 when it could not start."""

import os
import sys
from pathlib import Path

from tests.local import leashed
from tests.local.folder import FolderInUse
from tests.local.supervisor import PartFailed, StopRequested
from tests.local.surroundings import SettingsRefused
from tests.local.world import open_world


def main() -> int:
    try:
        world = open_world(Path.cwd(), colours=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
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
