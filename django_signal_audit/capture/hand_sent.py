"""pre_save and post_save that a project sends by hand, around an UPDATE of its own, where no query hook sees that."""

from __future__ import annotations

from typing import Any

from django.db import models, router

from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.patterns import concrete

from .looks import changes_of, look_before_save
from .notes import Notes
from .pending_saves import PendingSave
from .transactions import rollback_on_error

_writes: Notes[PendingSave] = Notes()


def look_before_write(instance: models.Model, using: str, update_fields: Any) -> None:
    """Read what a write is about to change, with what arguments its pre_save is sent."""
    write = PendingSave(instance, raw=False, force_insert=False, force_update=False, writes_more=True)
    look_before_save(write, using or router.db_for_write(type(instance), instance=instance), update_fields)
    _writes.put(instance, write)


def record_after_write(sender: type[models.Model], instance: models.Model, created: bool) -> None:
    """Record what was changed, once its post_save is sent."""
    write = _writes.take(instance)
    if write is None:
        return
    with rollback_on_error(write.using):
        changes = changes_of(write.before or (), instance, concrete(sender), write.using, created=created)
        record_changes(changes, write.using)
