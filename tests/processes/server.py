"""A PostgreSQL server of a test's own, which may be stopped and started without harm to others."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.processes.proxy import free_port

PROGRAMS = ("createdb", "initdb", "pg_ctl")
# PostgreSQL refuses to run as root.
_ACCOUNT = "postgres"


def why_not() -> str:
    """Return why there can't be such a server here, "" if there can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"PostgreSQL's own programs aren't on the path: {', '.join(missing)}"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(_ACCOUNT)
        except KeyError:
            return f'root would need an account "{_ACCOUNT}" to run PostgreSQL as'
    return ""


@contextmanager
def own_server() -> Iterator[dict[str, Any]]:
    """Yield where a new server listens, and by which commands it is restarted: ``fast``, and as after a crash."""
    account = _ACCOUNT if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="audit-pg-") as folder:
        if account:
            shutil.chown(folder, account)
        data, port = str(Path(folder) / "data"), str(free_port())
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        control = ["pg_ctl", "-D", data, "-w", "-o", options, "-l", str(Path(folder) / "log")]
        run(["initdb", "-D", data, "-A", "trust", "-U", _ACCOUNT, "--no-sync"], account)
        run([*control, "start"], account)
        try:
            yield {
                "entry": {"HOST": "127.0.0.1", "PORT": port, "USER": _ACCOUNT, "PASSWORD": ""},
                "restarts": [[*control, "restart", "-m", how] for how in ("fast", "immediate")],
                "account": account,
            }
        finally:
            run([*control, "stop", "-m", "immediate"], account)


def with_databases(entry: dict[str, str]) -> dict[str, Any]:
    """Return DATABASES on a server, whose databases are made."""
    for alias in ("default", "other"):
        run(["createdb", "-h", entry["HOST"], "-p", entry["PORT"], "-U", entry["USER"], f"audit_{alias}"], None)
    engine = "django.db.backends.postgresql"
    return {alias: {"ENGINE": engine, "NAME": f"audit_{alias}", **entry} for alias in ("default", "other")}


def run(command: list[str], account: str | None) -> None:
    """Run one of PostgreSQL's programs. A server that it starts keeps its output, so that is not waited for."""
    subprocess.run(
        command, user=account, cwd="/", check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=120
    )
