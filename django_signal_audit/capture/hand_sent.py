"""pre_save and post_save that a project sends by hand, around an UPDATE of its own, where no query hook sees that."""

from __future__ import annotations

from typing import Any

from django.db import models, router

from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.patterns import concrete

from .looks import changes_of, look_before_save
from .notes import Notes
from .pending_saves import PendingSave, pending_save
from .transactions import rollback_on_error

_writes: Notes[PendingSave] = Notes()


def look_before_write(
    sender: type[models.Model], instance: models.Model, using: str = "", update_fields: Any = None, **_: Any
) -> None:
    """Read what a write is about to change, with what arguments the signal is sent (receiver of pre_save)."""
    own = pending_save(instance)
    if own is not None and not own.is_announced:
        own.is_announced = True  # Django's, and its save is recorded by itself
        return
    write = PendingSave(instance, raw=False, force_insert=False, force_update=False, writes_more=True)
    look_before_save(write, using or router.db_for_write(sender, instance=instance), update_fields)
    _writes.put(instance, write)


def record_after_write(sender: type[models.Model], instance: models.Model, created: bool = False, **_: Any) -> None:
    """Record what was changed (receiver of post_save)."""
    write = _writes.take(instance)
    if write is None:
        return
    with rollback_on_error(write.using):
        changes = changes_of(write.before or (), instance, concrete(sender), write.using, created=created)
        record_changes(changes, write.using)
