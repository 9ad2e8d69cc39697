"""A worker behind PgBouncer in transaction mode: it listens to nothing on borrowed connections, and polls."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from django_signal_audit import record
from django_signal_audit.delivery.listener import Listener

from .notices import audit_settings

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL tells of commits"),
    pytest.mark.skipif(
        connection.vendor == "postgresql" and connection.Database.__name__ != "psycopg",
        reason="workers listen with psycopg 3 only",
    ),
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed"),
]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(params=["transaction", "session"])
def pooler(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Let the connection "default" go through PgBouncer; the value is its mode."""
    server, port = connection.settings_dict, free_port()
    target = f"host={server['HOST'] or '127.0.0.1'} port={server['PORT'] or 5432} dbname={server['NAME']}"
    if server["PASSWORD"]:
        target += f" password={server['PASSWORD']}"
    ini = tmp_path / "pgbouncer.ini"
    ini.write_text(
        f"[databases]\n* = {target} user={server['USER']}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"auth_type = any\nunix_socket_dir =\npool_mode = {request.param}\nuser = nobody\n"
        "ignore_startup_parameters = extra_float_digits,options\n"
    )
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    process = subprocess.Popen(["pgbouncer", "-q", str(ini)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while not is_open(port) and time.monotonic() < end and process.poll() is None:
            time.sleep(0.05)
        if not is_open(port):
            pytest.skip("PgBouncer does not start here")
        before = server["HOST"], server["PORT"]
        connections["default"].close()
        server["HOST"], server["PORT"] = "127.0.0.1", str(port)
        yield request.param
        connections["default"].close()
        server["HOST"], server["PORT"] = before
    finally:
        process.terminate()
        process.wait()


def hears(listener: Listener) -> bool:
    start = time.monotonic()
    listener.wait(0.5, threading.Event())
    return time.monotonic() - start < 0.4


def test_a_worker_listens_only_on_a_connection_of_its_own(
    pooler: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    worker = "django_signal_audit.dispatchers.WorkerDispatcher"
    settings.SIGNAL_AUDIT = {**audit_settings(notify=["take"]), "DISPATCHER": worker}
    with Listener("default") as listener:
        assert not hears(listener)
        record("thing_happened")
        assert hears(listener) is (pooler == "session")
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_listening_channels()")
            assert cursor.fetchall() == []
        listener.wait(0.1, threading.Event())
    assert caplog.text.count("through a pooler") == (1 if pooler == "transaction" else 0)
