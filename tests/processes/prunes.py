"""A prune that is killed at every point of a batch: what is not in the table any more is in the archive."""

from __future__ import annotations

import json
import os
import signal
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management import call_command

from django_signal_audit.models import AuditEvent
from django_signal_audit.retention import archive, pruning
from tests.processes.stage import Child
from tests.samples import make_event

COUNT, BATCH = 40, 4


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        found = function(*args, **kwargs)
        die()
        return found

    return wrapper


packed = archive.Archive._packed


def half_written(self: archive.Archive, data: bytes) -> bytes:
    assert self._file is not None
    self._file.write(packed(self, data)[: len(data) // 4])
    die()
    return data


# Where each run is killed: the holder of a function, its name, and what stands in for it.
POINTS: list[tuple[Any, str, Callable[..., Any]]] = [
    (archive.Archive, "_packed", half_written),
    (archive.Archive, "add", after(archive.Archive.add)),
    (pruning, "lock_database", after(pruning.lock_database)),
    (pruning, "record_changes", after(pruning.record_changes)),
    (pruning.Pruning, "_prune", after(pruning.Pruning._prune)),
]


def main(path: str) -> dict[str, Any]:
    """Prune into an archive, killed at each point in turn, then in peace."""
    uids = {str(make_event().uid) for _ in range(COUNT)}
    for holder, name, deadly in POINTS:
        child = Child(lambda holder=holder, name=name, deadly=deadly: prune(path, holder, name, deadly))
        _, status = os.waitpid(child.pid, 0)
        child._report.close()
        assert os.WTERMSIG(status) == signal.SIGKILL, (name, status)
        lost = uids - archived(path, may_be_torn=True) - recorded()
        assert not lost, (name, lost)
    call_command("audit_prune", "--older-than", "1d", "--archive", path, "--batch-size", str(BATCH))
    told = AuditEvent.objects.filter(event_type="events_pruned")
    return {
        "left": len(uids & recorded()),
        "missing": len(uids - archived(path)),
        "strangers": len(archived(path) - uids),
        "told": sum(event.data["count"] for event in told),
    }


def prune(path: str, holder: Any, name: str, deadly: Callable[..., Any]) -> None:
    setattr(holder, name, deadly)
    call_command("audit_prune", "--older-than", "1d", "--archive", path, "--batch-size", str(BATCH))


def recorded() -> set[str]:
    return set(map(str, AuditEvent.objects.values_list("uid", flat=True)))


def archived(path: str, *, may_be_torn: bool = False) -> set[str]:
    """Return the uids in an archive; only the last line of one whose writer was killed may be torn."""
    try:
        data = Path(path).read_bytes()
        lines = (unpacked(data) if path.endswith(".gz") else data).splitlines()
    except FileNotFoundError:
        return set()
    found = set()
    for line in lines:
        try:
            found.add(json.loads(line)["uid"])
        except ValueError:
            assert may_be_torn
            assert line == lines[-1]
    return found


def unpacked(data: bytes) -> bytes:
    """Return what a gzip file holds, up to where it is torn."""
    whole = b""
    while data:
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        whole += member.decompress(data)
        data = member.unused_data
    return whole
