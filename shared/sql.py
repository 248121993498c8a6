"""Named SQL: a module's statements live in the `.sql` file beside it, each under a `-- name: …` line."""

import re
from pathlib import Path

_HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(module_file: str) -> dict[str, str]:
    """Read the statements that belong to a module: `sql.load(__file__)`.

    Raises:
        ValueError: a name is given twice, or the file holds no named statement.
    """
    path = Path(module_file).with_suffix(".sql")
    parts = _HEADER.split(path.read_text(encoding="utf-8"))
    names, bodies = parts[1::2], parts[2::2]
    if not names or len(set(names)) != len(names):
        msg = f"{path.name} needs at least one `-- name: …` line, and each name once"
        raise ValueError(msg)
    return {name: body.strip() for name, body in zip(names, bodies, strict=True)}
