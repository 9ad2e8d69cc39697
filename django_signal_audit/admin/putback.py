"""Putting the change of one event back: asked for, and done in one transaction that is itself recorded."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.db import Error, IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.contention import is_passing
from django_signal_audit.context import audit_context
from django_signal_audit.enums import EventType
from django_signal_audit.models import AuditEvent
from django_signal_audit.recorder import recorded_count
from django_signal_audit.reports.display import ShownField, label_of, show_fields

from .base import render_page
from .links import event_url, events_url
from .reversals import RefusedError, Reversal, reversal_of
from .visibility import reader_of

TEMPLATE = "django_signal_audit/admin/put_back.html"


def reversal_for(request: HttpRequest, event: AuditEvent) -> Reversal | None:
    """Return how the user may put this change back: it takes the permission to, and to do it to the object by hand."""
    user: Any = request.user
    reversal = reversal_of(event)
    if reversal is None:
        return None
    options = reversal.model._meta
    codename = get_permission_codename(reversal.permission, options)
    wanted = ("django_signal_audit.revert_auditevent", f"{options.app_label}.{codename}")
    return reversal if user.has_perms(wanted) else None


def refusal_of(reversal: Reversal) -> str:
    """Return why the change cannot be put back as things are, ``""`` if it can."""
    try:
        reversal.check()
    except RefusedError as refused:
        return str(refused)
    return ""


def put_back_page(model_admin: ModelAdmin[Any], request: HttpRequest, event_id: int) -> HttpResponse:
    """Ask for confirmation, and put the change back once it is given."""
    event = model_admin.get_queryset(request).filter(pk=event_id).first()
    if event is None:
        raise Http404
    reversal = reversal_for(request, event)
    if reversal is None or not model_admin.has_view_permission(request, event):
        raise PermissionDenied
    site = model_admin.admin_site.name
    if request.method == "POST":
        try:
            put_back(reversal, request.user)
        except RefusedError as refused:
            return _render(model_admin, request, reversal, str(refused), status=409)
        model_admin.message_user(request, _("The change was put back."), messages.SUCCESS)
        return HttpResponseRedirect(event_url(site, event.pk))
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
        "correlation_url": events_url(site, q=event.correlation_id),
        "refusal": refusal,
        "left_out": [label_of(field, field.name) for field in reversal.left_out()],
        "fields": _reversed(event, request.user),
    }
    crumbs = [(Truncator(event).chars(60), back)]
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
            before = recorded_count()
            reversal.undo()
            if recorded_count() == before:
                raise RefusedError(
                    _("No rule records changes of this object any more, so this one would leave no trace.")
                )
    except IntegrityError as error:
        # Somebody else may have been faster, and now it can be seen.
        reason = refusal_of(reversal) or _("The database refuses it: %(error)s") % {"error": error}
        raise RefusedError(reason) from error
    except Error as error:
        if not is_passing(error):
            raise
        raise RefusedError(_("Others are changing it at this moment. Look at it again, and then try again.")) from error


def _reversed(event: AuditEvent, user: Any) -> list[ShownField]:
    """Return the diff of what would happen."""
    return [
        ShownField(name=line.name, label=line.label, old=line.new, new=line.old, added=line.removed, removed=line.added)
        for line in show_fields(event, reader_of(user, [event]))
    ]
