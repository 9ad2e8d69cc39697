"""Publishing checkpoints to anchors, once or for as long as a process runs.

What fails is logged, shown by health, and tried again; nobody waits for it.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from django.db import DatabaseError, IntegrityError, InterfaceError, connections, transaction
from django.db.models import Max

from django_signal_audit.enums import Source
from django_signal_audit.events.changes import Change
from django_signal_audit.evidence.anchors.base import Anchor, Publication
from django_signal_audit.evidence.config import get_anchors, get_evidence
from django_signal_audit.evidence.notes import Checkpoint, NoteError, split_note
from django_signal_audit.evidence.sealing import (
    RECEIPT_EVENT,
    CannotSeal,
    Sealer,
    SealReport,
    iso_text,
    latest_checkpoint,
)
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.models import AuditCheckpoint, AuditReceipt
from django_signal_audit.models.events import utc_now
from django_signal_audit.recorder import record_changes
from django_signal_audit.transient import log_error

logger = logging.getLogger("django_signal_audit")


@dataclass
class AnchorReport:
    """Which anchors took the newest checkpoint now, and what those said that did not."""

    anchored: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def anchor(using: str) -> AnchorReport:
    """Publish the newest checkpoint of a database to each anchor that has not got it yet."""
    report = AnchorReport()
    checkpoint = latest_checkpoint(using)
    if checkpoint is None:
        return report
    receipts = AuditReceipt.objects.using(using).filter(size=checkpoint.size)
    done = set(receipts.values_list("anchor", flat=True))
    for alias, target in get_anchors().items():
        if alias not in done:
            _publish(target, checkpoint, using, report)
    return report


def late_anchors(using: str, age: dt.timedelta) -> Iterator[str]:
    """Yield which anchors lack a checkpoint that is older than the interval and an age, and all that came after it."""
    if not get_evidence().anchors:
        return
    limit = utc_now() - get_evidence().interval - age
    sealed = AuditCheckpoint.objects.using(using).filter(sealed_at__lt=limit).order_by("size")
    taken = dict(AuditReceipt.objects.using(using).order_by().values_list("anchor").annotate(Max("size")))
    for alias in get_evidence().anchors:
        missed = sealed.filter(size__gt=taken.get(alias, 0)).first()
        if missed is not None:
            yield f'the anchor "{alias}" has accepted no checkpoint since {iso_text(missed.sealed_at)[:16]}Z'


def _publish(target: Anchor, checkpoint: AuditCheckpoint, using: str, report: AnchorReport) -> None:
    publication = Publication(get_evidence().origin_of(using), checkpoint.size, checkpoint.note)
    try:
        receipt = str(target.publish(publication))
    except Exception as error:  # it is somebody else's server, and sealing goes on without it
        logger.exception('The anchor "%s" did not accept checkpoint %d.', target.alias, checkpoint.size)
        report.failed[target.alias] = f"{type(error).__name__}: {error}"
        return
    report.anchored.append(target.alias)
    data = {"anchor": target.alias, "size": checkpoint.size, "root": bytes(checkpoint.root).hex(), "receipt": receipt}
    try:
        with transaction.atomic(using=using):
            AuditReceipt.objects.using(using).create(size=checkpoint.size, anchor=target.alias, receipt=receipt)
            record_changes([Change(event_type=RECEIPT_EVENT, source=Source.MANUAL, using=using, data=data)], using)
    except IntegrityError:
        logger.info('Another process noted the receipt of "%s" for checkpoint %d.', target.alias, checkpoint.size)


def keep_sealing(
    using: str,
    stop: threading.Event,
    *,
    is_full: bool = False,
    with_anchors: bool = True,
    on_sealed: Callable[[SealReport], object] = lambda _report: None,
) -> None:
    """Seal and anchor once every INTERVAL, until ``stop`` is set.

    Args:
        using: The database.
        stop: Ends it, after the batch that is being sealed.
        is_full: Search the whole table the first time.
        with_anchors: Publish the checkpoints.
        on_sealed: Is told what each round has sealed, if that was anything.

    """
    while not stop.is_set():
        try:
            report = Sealer(using, is_full=is_full).run(should_stop=stop.is_set)
            is_full = False
            if report.sealed:
                on_sealed(report)
            if with_anchors:
                anchor(using)
        except (DatabaseError, InterfaceError) as error:
            log_error(error, 'The database "%s" cannot be used; trying again', using)
            connections[using].close_if_unusable_or_obsolete()
        except (InvalidSettings, CannotSeal):
            # A key that cannot be had now may be there later, and unsigned checkpoints would look like a forgery.
            logger.exception("Nothing is sealed; trying again.")
        stop.wait(get_evidence().interval.total_seconds())


def anchored_notes(using: str) -> list[str]:
    """Return the notes of a database's log that the anchors of the settings can read back.

    Raises:
        NoteError: An anchor has a note that is none, or lacks the last one that it took.

    """
    origin = get_evidence().origin_of(using)
    # Before the notes: an anchor may take another one meanwhile.
    taken = dict(AuditReceipt.objects.using(using).order_by().values_list("anchor").annotate(Max("size")))
    found = []
    for alias, target in get_anchors().items():
        sizes = set()
        for note in target.notes():
            checkpoint = Checkpoint.of(split_note(note)[0])
            if checkpoint.origin == origin:
                found.append(note)
                sizes.add(checkpoint.size)
        if target.can_read and alias in taken and taken[alias] not in sizes:
            msg = f'the anchor "{alias}" no longer has checkpoint {taken[alias]}, the last one that it took.'
            raise NoteError(msg)
    return found
