"""The page that erases personal values from the events about one object, as ``audit_erase`` does."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_signal_audit.context.scopes import audit_context
from django_signal_audit.events.values import clean_text
from django_signal_audit.evidence.erasure import Erasure, OnLegalHold
from django_signal_audit.evidence.sealing import CannotSeal
from django_signal_audit.exceptions import EventNotWritten, InvalidSettings
from django_signal_audit.models import AuditEvent

from .base import ReadOnlyAdmin, render_page, written_in
from .links import history_url
from .restore import MAX_REASON
from .subjects import crumbs_of, subject_of

TEMPLATE = "django_signal_audit/admin/erase.html"
# A request would take too long for more.
MOST_EVENTS = 2000


def may_erase(request: HttpRequest) -> bool:
    """Return whether the user may erase personal data."""
    return request.user.has_perm("django_signal_audit.erase_auditevent")


def erase_page(model_admin: ReadOnlyAdmin, request: HttpRequest, label: str, segment: str) -> HttpResponse:
    """Ask whether the personal data of an object is to be erased, and erase it once that is confirmed."""
    subject = subject_of(model_admin, request, label, segment)
    if not may_erase(request):
        raise PermissionDenied
    if subject.model is None:
        raise Http404
    site, back = model_admin.admin_site, history_url(model_admin.admin_site.name, subject.label, subject.key)
    using = written_in(AuditEvent.objects.all())
    erasure = Erasure(subject.model, subject.key, using)
    count, is_held = erasure.events().count(), erasure.is_held
    if request.method == "POST" and count <= MOST_EVENTS and not is_held:
        reason = clean_text(request.POST.get("reason", "")).strip()[:MAX_REASON]
        _erase(request, erasure, reason)
        return HttpResponseRedirect(back)
    dry = Erasure(subject.model, subject.key, using, is_dry=True)
    context = {
        "title": _("Erase personal data"),
        "subject": subject,
        "report": dry.run() if count <= MOST_EVENTS else None,
        "most": MOST_EVENTS,
        "is_held": is_held,
        "max_reason": MAX_REASON,
        "back": back,
    }
    crumbs = [*crumbs_of(model_admin, subject), (_("History"), back)]
    request.current_app = site.name
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs)


def _erase(request: HttpRequest, erasure: Erasure, reason: str) -> None:
    try:
        with audit_context(actor=request.user, reason=reason):
            report = erasure.run()
    except (EventNotWritten, CannotSeal, InvalidSettings, OnLegalHold, DatabaseError) as error:
        text = _("Nothing more could be erased: %(error)s Run audit_erase as the owner of the tables.")
        messages.error(request, text % {"error": error})
        return
    text = ngettext(
        "%(values)s value in %(events)s was erased.", "%(values)s values in %(events)s were erased.", report.values
    )
    events = ngettext("%(count)s event", "%(count)s events", report.events) % {"count": report.events}
    messages.success(request, text % {"values": report.values, "events": events})
