"""Revert the change of one event: after a confirmation, in one transaction that is itself recorded."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite, ModelAdmin
from django.core.exceptions import PermissionDenied
from django.db import (
    Error,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    transaction,
)
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.context.scopes import audit_context
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.enums import EventType, Source
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.reports.display import ShownField, show_fields
from django_signal_audit.transient import is_transient

from .access import Access, access_of, readable
from .base import crumbs_to_list, render_page
from .links import event_url, events_url, history_url
from .reverting import RefusedError, Revert, revert_of

logger = logging.getLogger(__name__)

TEMPLATE = "django_signal_audit/admin/revert.html"


def revert_for(site: AdminSite, request: HttpRequest, event: AuditEvent) -> Revert | None:
    """Return how the user may revert this change, None if they may not.

    It takes the permission to revert, and the permission to make the same change by hand.
    """
    user: Any = request.user
    revert = revert_of(event)
    if revert is None or not user.has_perm("django_signal_audit.revert_auditevent"):
        return None
    access = access_of(request, site)
    limits = access.limits(event, revert.permission)
    if limits is None:
        return None
    revert.limits = limits
    revert.is_seen = lambda: access.finds_row(event)
    return revert


def refusal_of(revert: Revert) -> str:
    """Return why the change can't be reverted now, ``""`` if it can."""
    try:
        revert.check()
    except RefusedError as refused:
        return str(refused)
    return ""


def revert_page(model_admin: ModelAdmin[Any], request: HttpRequest, event_id: int) -> HttpResponse:
    """Ask for confirmation, and revert the change once it is given."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    access = access_of(request, model_admin.admin_site)
    event = next(iter(access.filter(readable(access, AuditEvent.objects.all()).filter(pk=event_id))), None)
    if event is None:
        raise Http404
    revert = revert_for(model_admin.admin_site, request, event)
    if revert is None:
        raise PermissionDenied
    site = model_admin.admin_site.name
    if request.method == "POST":
        try:
            revert_change(revert, request.user)
        except RefusedError as refused:
            return _render(model_admin, request, revert, str(refused), status=409)
        model_admin.message_user(request, _("The change was reverted."), messages.SUCCESS)
        return HttpResponseRedirect(history_url(site, event.model, event.object_id))
    return _render(model_admin, request, revert, refusal_of(revert))


def _render(
    model_admin: ModelAdmin[Any], request: HttpRequest, revert: Revert, refusal: str, status: int = 200
) -> HttpResponse:
    event, site = revert.event, model_admin.admin_site.name
    back = event_url(site, event.pk)
    context = {
        "title": _("Revert this change"),
        "event": event,
        "event_url": back,
        "is_deletion": event.event_type == EventType.DELETE,
        "together_url": events_url(site, q=event.correlation_id, event_type=event.event_type)
        if event.correlation_id and event.source != Source.CASCADE
        else "",
        "refusal": refusal,
        "notes": revert.notes(),
        "fields": _reverted_fields(event, access_of(request, model_admin.admin_site)),
    }
    crumbs = [*crumbs_to_list(model_admin), (Truncator(event).chars(60), back)]
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs, status=status)


def revert_change(revert: Revert, user: object) -> None:
    """Undo a change, in one transaction that is itself recorded.

    Raises:
        RefusedError: A value is not known, has changed since, or cannot be stored; nothing was changed.

    """
    reason = f"Revert of event {revert.event.uid}"
    try:
        with transaction.atomic(using=revert.using), audit_context(actor=user, reason=reason):
            lock_database(revert.using)
            before = _newest_trace(revert)
            revert.undo()
            if not revert.is_seen():
                raise RefusedError(_("You couldn't view the restored object."))
            if _newest_trace(revert) == before:
                raise RefusedError(
                    _("No rule records changes of this object any more, so the revert wouldn't be recorded.")
                )
    except Error as error:
        raise _refused_by_database(revert, error) from error
    except RefusedError:
        raise
    except Exception as error:
        # The model's save and the receivers are the project's code, and may raise anything.
        logger.warning("Event %s could not be reverted.", revert.event.uid, exc_info=True)
        raise RefusedError(_("It can't be saved: %(error)s") % {"error": describe(error)}) from error


def _newest_trace(revert: Revert) -> int | None:
    """Return the newest event of the object of the type that a revert writes."""
    labels = {revert.event.model, *labels_including_children(revert.model)}
    same = AuditEvent.objects.using(revert.using).filter(model__in=labels, object_id=revert.event.object_id)
    found: int | None = same.filter(event_type=revert.trace).aggregate(newest=Max("pk"))["newest"]
    return found


def _refused_by_database(revert: Revert, error: Error) -> Exception:
    """Return the refusal that an error of the database amounts to, or the error if it is none."""
    if is_transient(error):
        return RefusedError(_("Someone else is changing the object right now. Reload the page and try again."))
    if isinstance(error, (OperationalError, ProgrammingError, InternalError, InterfaceError, NotSupportedError)):
        return error
    # Somebody else may have been faster, and now it can be seen. PostgreSQL's further lines show the whole row.
    [text, *_rest] = str(error).splitlines() or [""]
    return RefusedError(refusal_of(revert) or _("The database rejects it: %(error)s") % {"error": text})


def _reverted_fields(event: AuditEvent, access: Access) -> list[ShownField]:
    """Return the diff of what would happen, as far as the user may see it."""
    [shown] = access.redact([event])
    return [
        ShownField(name=line.name, label=line.label, old=line.new, new=line.old, added=line.removed, removed=line.added)
        for line in show_fields(shown, access.reader_of([shown]))
    ]
