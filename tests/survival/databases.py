"""A PostgreSQL of our own, on loopback, for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import free_port

USER = "orbitforge"


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl."""
    found = shutil.which("initdb") or next(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
    return Path(found).resolve().parent if found else None


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Yields postgresql+psycopg2://orbitforge@127.0.0.1:PORT; /dagster or /mlflow is to be added.

    SQLAlchemy 2.1 takes psycopg 3 for a plain postgresql://, Dagster brings psycopg2.
    """
    bin = binaries()
    assert bin
    port = free_port()

    def call(*command: str) -> None:
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            command = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    folder.mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    data, log = str(folder / "data"), str(folder / "log")
    call(str(bin / "initdb"), f"--pgdata={data}", f"--username={USER}", "--auth=trust", "--no-sync")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
    call(str(bin / "pg_ctl"), "--wait", f"--pgdata={data}", f"--log={log}", f"--options={options}", "start")
    try:
        for name in ("dagster", "mlflow"):
            call(str(bin / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", USER, name)
        yield f"postgresql+psycopg2://{USER}@127.0.0.1:{port}"
    finally:
        call(str(bin / "pg_ctl"), "--wait", f"--pgdata={data}", "--mode=fast", "stop")
