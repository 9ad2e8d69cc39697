"""Revert all changes of one request, task or command: the newest first, all of them or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.crypto import salted_hmac
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_signal_audit.context.scopes import current_context
from django_signal_audit.enums import ROW_EVENTS, EventType
from django_signal_audit.events.values import clean_text
from django_signal_audit.models import AuditEvent

from .access import Access, access_of, forget_access
from .base import ReadOnlyAdmin, crumbs_to_list, render_page
from .keyset import IndexScan, newest_keys
from .links import events_url
from .listing import by_day, kind_of
from .restore import MAX_REASON
from .revert import revert_for
from .reverting import RefusedError, Revert, run

TEMPLATE = "django_signal_audit/admin/request_revert.html"
# More changes than this are no slip of anybody's that a page can undo.
MOST_CHANGES = 200


def may_revert_requests(request: HttpRequest) -> bool:
    """Return whether the user may revert anything."""
    return request.user.has_perm("django_signal_audit.revert_auditevent")


class RequestRevert:
    """What it takes to revert a request.

    Args:
        model_admin: The admin of the events.
        request: The request of the user who reverts.
        correlation: What the events have in common.

    """

    def __init__(self, model_admin: ReadOnlyAdmin, request: HttpRequest, correlation: str) -> None:
        self.request = request
        self.site = model_admin.admin_site
        self.access: Access = access_of(request, self.site)
        self.correlation = correlation
        events = AuditEvent.objects.all()
        # A baseline says what was there already.
        found = events.filter(event_type__in=set(ROW_EVENTS) - {EventType.BASELINE})
        keys = newest_keys([IndexScan(found, "correlation_id", correlation)], MOST_CHANGES + 1) if correlation else []
        # Some databases find "a" where "A" was asked for.
        rows = [one for one in events.filter(pk__in=keys) if one.correlation_id == correlation]
        self.is_too_long = len(keys) > MOST_CHANGES
        self.events: Sequence[AuditEvent] = self.access.filter(sorted(rows, key=lambda one: -one.pk))
        self.hides_some = len(self.events) < len(rows)

    @property
    def token(self) -> str:
        """Return what the form sends back: it says which changes were seen."""
        seen = [event.pk for event in self.events]
        return salted_hmac("django_signal_audit.request", f"{self.correlation}{seen}", algorithm="sha256").hexdigest()

    @cached_property
    def changes(self) -> list[AuditEvent]:
        """Return the events that there is something to revert of: not those of what came and went in the request."""
        first: dict[tuple[str, str], AuditEvent] = {}
        last: dict[tuple[str, str], AuditEvent] = {}
        for event in self.events:
            place = event.model, event.object_id
            last.setdefault(place, event)
            first[place] = event
        passing = {
            place
            for place, event in first.items()
            if event.event_type == EventType.CREATE and last[place].event_type == EventType.DELETE
        }
        return [event for event in self.events if (event.model, event.object_id) not in passing]

    def check(self) -> None:
        """Raise RefusedError if one of the changes can't be reverted, as far as that can be known before."""
        if self.is_too_long:
            text = _("It has more than %(count)s changes.") % {"count": number_format(MOST_CHANGES)}
            raise RefusedError(text)
        if self.hides_some:
            raise RefusedError(_("You may not view all of its changes."))
        if not self.changes:
            raise RefusedError(_("All that it created is deleted already."))
        gone: set[tuple[str, str]] = set()
        for event in self.changes:
            # Of what comes again on the way, it is known then.
            if (event.model, event.object_id) not in gone:
                self._revert_of(event)
            if event.event_type == EventType.DELETE:
                gone.add((event.model, event.object_id))

    def _revert_of(self, event: AuditEvent) -> Revert:
        revert = revert_for(self.site, self.request, event, with_creations=True)
        if revert is None:
            raise RefusedError(_("You may not revert it, or there is no way to."), event)
        return revert

    def _reverts(self) -> Iterator[Revert]:
        for event in self.changes:
            forget_access(self.request)
            yield self._revert_of(event)

    def is_open(self) -> bool:
        """Return whether all changes can probably be reverted."""
        try:
            self.check()
        except RefusedError:
            return False
        return True

    def run(self, token: str, reason: str) -> None:
        """Revert all of it; raise RefusedError, with nothing changed, if that is not possible."""
        if token != self.token:
            raise RefusedError(_("More has been recorded in the meantime. Nothing was saved."))
        self.check()
        using = self._revert_of(self.changes[0]).using
        said = reason or f"Revert of request {self.correlation}"
        run(self._reverts(), self.request.user, said, using=using, extra={"reverted_request": self.correlation})


def request_revert_page(model_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Ask for confirmation, and revert all changes once it is given."""
    if not (model_admin.has_view_permission(request) and may_revert_requests(request)):
        raise PermissionDenied
    found = RequestRevert(model_admin, request, clean_text(request.GET.get("request", "")))
    if not found.events:
        raise Http404
    reason = clean_text(request.POST.get("reason", "")).strip()[:MAX_REASON]
    try:
        if request.method != "POST":
            found.check()
            return _render(model_admin, request, found, None)
        found.run(request.POST.get("seen", ""), reason)
    except RefusedError as refused:
        again = RequestRevert(model_admin, request, found.correlation)
        return _render(model_admin, request, again, refused, status=409 if request.method == "POST" else 200)
    count = len(found.events)
    text = ngettext("%(count)s change was reverted.", "%(count)s changes were reverted.", count)
    model_admin.message_user(request, text % {"count": number_format(count)}, messages.SUCCESS)
    mine = current_context().correlation_id or found.correlation
    return HttpResponseRedirect(events_url(model_admin.admin_site.name, request=mine))


def _render(
    model_admin: ReadOnlyAdmin,
    request: HttpRequest,
    found: RequestRevert,
    refused: RefusedError | None,
    status: int = 200,
) -> HttpResponse:
    site = model_admin.admin_site
    shown = found.access.redact(found.events)
    reader = found.access.reader_of(shown)
    for event in shown:
        event.reader = reader  # type: ignore[attr-defined]  # the list reads it there
    back = events_url(site.name, request=found.correlation)
    refusal = str(refused) if refused else ""
    if refused and refused.event:
        refusal = f"{refused.event.object_repr or refused.event.object_id} ({kind_of(refused.event)}): {refusal}"
    context = {
        "title": _("Revert all changes of a request"),
        "days": by_day(site, shown),
        "count": len(shown),
        "refusal": refusal,
        "is_open": found.is_open(),
        "seen": found.token,
        "reason": request.POST.get("reason", ""),
        "max_reason": MAX_REASON,
        "back": back,
    }
    crumbs = [*crumbs_to_list(model_admin), (_("Request"), back)]
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs, here=_("Revert"), status=status)
