"""What pages show of the evidence: whether an event is sealed and what was sealed, and how far the sealer is."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.http import content_disposition_header
from django.utils.timesince import timesince

from django_signal_audit.admin.base import ReadOnlyAdmin
from django_signal_audit.api import record
from django_signal_audit.conf import get_settings
from django_signal_audit.evidence import standalone
from django_signal_audit.evidence.config import get_evidence
from django_signal_audit.evidence.proofs import ProofError, as_json, bundle_of
from django_signal_audit.evidence.sealing import backlog, latest_checkpoint
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditLeaf, AuditReceipt
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.tables import has_table
from django_signal_audit.reports.formatter import show_moment

from .access import EXPORTED, access_of
from .export import may_export
from .links import proof_url

# The dashboard counts no more events that wait to be sealed.
MOST_WAITING = 10_000


@dataclass(frozen=True, slots=True)
class Seal:
    """What the evidence says of one event.

    Attributes:
        sealed: When it was sealed, ``""`` if it wasn't yet.
        number: The number of its leaf.
        anchored: When a checkpoint with it was published, ``""`` if none was.
        anchor: Where.
        is_intact: Whether it is what was sealed, as verified right now.
        proof_url: Where its proof can be downloaded, ``""`` for users who may not.

    """

    sealed: str = ""
    number: int = 0
    anchored: str = ""
    anchor: str = ""
    is_intact: bool = False
    proof_url: str = ""


@dataclass(frozen=True, slots=True)
class SealState:
    """How far the sealer is."""

    size: int
    age: str
    anchored: str
    waiting: int
    is_most: bool
    is_late: bool


def _is_used(using: str) -> bool:
    return has_table(AuditCheckpoint, using) and latest_checkpoint(using) is not None


def seal_of(model_admin: ReadOnlyAdmin, request: HttpRequest, event: AuditEvent) -> Seal | None:
    """Return what the page of an event shows; None where nothing is sealed."""
    using = event._state.db or "default"
    if not _is_used(using):
        return None
    leaf = AuditLeaf.objects.using(using).filter(event=event.uid).only("index").first()
    checkpoints = AuditCheckpoint.objects.using(using).order_by("size")
    checkpoint = checkpoints.filter(size__gt=leaf.index).first() if leaf else None
    if leaf is None or checkpoint is None:
        return Seal()
    receipt = AuditReceipt.objects.using(using).filter(size__gt=leaf.index).order_by("anchored_at").first()
    return Seal(
        sealed=show_moment(checkpoint.sealed_at),
        number=leaf.index,
        anchored=show_moment(receipt.anchored_at) if receipt else "",
        anchor=receipt.anchor if receipt else "",
        is_intact=_is_intact(event, using, checkpoint.size),
        proof_url=proof_url(model_admin.admin_site.name, event.uid) if _may_prove(model_admin, request, event) else "",
    )


def _is_intact(event: AuditEvent, using: str, size: int) -> bool:
    try:
        standalone.verify_event(bundle_of(event, using, size))
    except (ProofError, standalone.Refused):
        return False
    return True


def _may_prove(model_admin: ReadOnlyAdmin, request: HttpRequest, event: AuditEvent) -> bool:
    """Return whether the user may have the whole event, which is what a proof proves."""
    [shown] = access_of(request, model_admin.admin_site).redact([event])
    return may_export(request) and not getattr(shown, "is_cut", False)


def proof_page(model_admin: ReadOnlyAdmin, request: HttpRequest, event: AuditEvent) -> HttpResponse:
    """Return the proof of an event as a file."""
    if not _may_prove(model_admin, request, event):
        raise PermissionDenied
    try:
        text = as_json(bundle_of(event, event._state.db or "default"))
    except ProofError as error:
        raise Http404(str(error)) from error
    record(EXPORTED, data={"format": "proof", "filters": [["uid", str(event.uid)]]}, actor=request.user)
    response = HttpResponse(text, content_type="application/json")
    file_name = f"audit-proof-{event.uid}.json"
    response["Content-Disposition"] = content_disposition_header(as_attachment=True, filename=file_name)
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    return response


def seal_state(request: HttpRequest, using: str) -> SealState | None:
    """Return what the dashboard shows; None where nothing is sealed, and for users who may not see what goes wrong."""
    may_view: bool = request.user.has_perm("django_signal_audit.view_notification")
    if not may_view or not has_table(AuditCheckpoint, using):
        return None
    newest = latest_checkpoint(using)
    if newest is None and not get_settings().evidence:
        return None
    waiting = backlog(using, MOST_WAITING + 1)
    receipt = AuditReceipt.objects.using(using).order_by("-size").first()
    age = utc_now() - newest.sealed_at if newest else dt.timedelta.max
    return SealState(
        size=newest.size if newest else 0,
        age=timesince(newest.sealed_at, utc_now()) if newest else "",
        anchored=timesince(receipt.anchored_at, utc_now()) if receipt else "",
        waiting=min(waiting, MOST_WAITING),
        is_most=waiting > MOST_WAITING,
        is_late=bool(waiting) and age > 2 * get_evidence().interval,
    )
