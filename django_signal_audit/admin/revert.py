"""Putting the change of one event back: asked for, and done in one transaction that is itself recorded."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite, ModelAdmin
from django.core.exceptions import PermissionDenied, ValidationError
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
from django_signal_audit.delivery.errors import describe
from django_signal_audit.enums import EventType, Source
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.reports.display import ShownField, show_fields
from django_signal_audit.transient import is_transient

from .access import Access, access_of, readable
from .base import crumbs_to_list, render_page
from .links import event_url, events_url, history_url
from .reverting import RefusedError, Reversal, reversal_of

logger = logging.getLogger(__name__)

TEMPLATE = "django_signal_audit/admin/put_back.html"


def reversal_for(site: AdminSite, request: HttpRequest, event: AuditEvent) -> Reversal | None:
    """Return how the user may put this change back: it takes the permission to, and to do it to the object by hand."""
    user: Any = request.user
    reversal = reversal_of(event)
    if reversal is None or not user.has_perm("django_signal_audit.revert_auditevent"):
        return None
    access = access_of(request, site)
    limits = access.limits(event, reversal.permission)
    if limits is None:
        return None
    reversal.limits = limits
    reversal.is_seen = lambda: access.finds_row(event)
    return reversal


def refusal_of(reversal: Reversal) -> str:
    """Return why the change cannot be put back as things are, ``""`` if it can."""
    try:
        reversal.check()
    except RefusedError as refused:
        return str(refused)
    return ""


def put_back_page(model_admin: ModelAdmin[Any], request: HttpRequest, event_id: int) -> HttpResponse:
    """Ask for confirmation, and put the change back once it is given."""
    access = access_of(request, model_admin.admin_site)
    event = next(iter(access.filter(readable(access, AuditEvent.objects.all()).filter(pk=event_id))), None)
    if event is None:
        raise Http404
    reversal = reversal_for(model_admin.admin_site, request, event)
    if reversal is None or not model_admin.has_view_permission(request, event):
        raise PermissionDenied
    site = model_admin.admin_site.name
    if request.method == "POST":
        try:
            put_back(reversal, request.user)
        except RefusedError as refused:
            return _render(model_admin, request, reversal, str(refused), status=409)
        model_admin.message_user(request, _("The change was put back."), messages.SUCCESS)
        return HttpResponseRedirect(history_url(site, event.model, event.object_id))
    return _render(model_admin, request, reversal, refusal_of(reversal))


def _render(
    model_admin: ModelAdmin[Any], request: HttpRequest, reversal: Reversal, refusal: str, status: int = 200
) -> HttpResponse:
    event, site = reversal.event, model_admin.admin_site.name
    back = event_url(site, event.pk)
    context = {
        "title": _("Put this change back"),
        "event": event,
        "event_url": back,
        "is_deletion": event.event_type == EventType.DELETE,
        "together_url": events_url(site, q=event.correlation_id, event_type=event.event_type)
        if event.correlation_id and event.source != Source.CASCADE
        else "",
        "refusal": refusal,
        "notes": reversal.notes(),
        "fields": _reversed(event, access_of(request, model_admin.admin_site)),
    }
    crumbs = [*crumbs_to_list(model_admin), (Truncator(event).chars(60), back)]
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs, status=status)


def put_back(reversal: Reversal, user: Any) -> None:
    """Undo a change, in one transaction that is itself recorded.

    Raises:
        RefusedError: A value is not known, has changed since, or cannot be stored; nothing was changed.

    """
    reason = f"put back event {reversal.event.uid}"
    try:
        with transaction.atomic(using=reversal.using), audit_context(actor=user, reason=reason):
            lock_database(reversal.using)
            before = _newest_trace(reversal)
            reversal.undo()
            if not reversal.is_seen():
                raise RefusedError(_("You could not view the object that this would make."))
            if _newest_trace(reversal) == before:
                raise RefusedError(
                    _("No rule records changes of this object any more, so this one would leave no trace.")
                )
    except Error as error:
        raise _refused_by_database(reversal, error) from error
    except (ValueError, TypeError, OSError, ValidationError, EventNotWritten) as error:
        logger.warning("Event %s could not be put back.", reversal.event.uid, exc_info=True)
        raise RefusedError(_("It cannot be saved: %(error)s") % {"error": describe(error)}) from error


def _newest_trace(reversal: Reversal) -> int | None:
    """Return the newest event of the object of the type that tells of such a reversal."""
    labels = {reversal.event.model, *labels_including_children(reversal.model)}
    same = AuditEvent.objects.using(reversal.using).filter(model__in=labels, object_id=reversal.event.object_id)
    found: int | None = same.filter(event_type=reversal.trace).aggregate(newest=Max("pk"))["newest"]
    return found


def _refused_by_database(reversal: Reversal, error: Error) -> Exception:
    """Return the refusal that an error of the database amounts to, or the error if it is none."""
    if is_transient(error):
        return RefusedError(_("Others are changing it at this moment. Look at it again, and then try again."))
    if isinstance(error, (OperationalError, ProgrammingError, InternalError, InterfaceError, NotSupportedError)):
        return error
    # Somebody else may have been faster, and now it can be seen. PostgreSQL's further lines show the whole row.
    [text, *_rest] = str(error).splitlines() or [""]
    return RefusedError(refusal_of(reversal) or _("The database refuses it: %(error)s") % {"error": text})


def _reversed(event: AuditEvent, access: Access) -> list[ShownField]:
    """Return the diff of what would happen, as far as the user may see it."""
    [shown] = access.redact([event])
    return [
        ShownField(name=line.name, label=line.label, old=line.new, new=line.old, added=line.removed, removed=line.added)
        for line in show_fields(shown, access.reader_of([shown]))
    ]
