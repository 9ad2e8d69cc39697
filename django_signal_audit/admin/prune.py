"""The page that prunes events past the retention of their rules, as ``audit_prune`` does."""

from __future__ import annotations

from time import monotonic

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_signal_audit.context.scopes import audit_context
from django_signal_audit.events.values import clean_text
from django_signal_audit.evidence.sealing import CannotSeal
from django_signal_audit.exceptions import EventNotWritten, InvalidSettings
from django_signal_audit.models.events import utc_now
from django_signal_audit.retention.pruning import Pruning, Retention, counts_of, periods_of
from django_signal_audit.rules.registry import get_registry

from .base import ReadOnlyAdmin, crumbs_to_list, render_page, written_in
from .links import events_url
from .restore import MAX_REASON

TEMPLATE = "django_signal_audit/admin/prune.html"
# A request should end soon: after so many events or seconds. audit_prune has no limit.
MOST_EVENTS, MOST_SECONDS, BATCH_SIZE = 2000, 10, 500


def may_prune(request: HttpRequest) -> bool:
    """Return whether the user may prune events."""
    return request.user.has_perm("django_signal_audit.prune_auditevent")


def retention_of_rules() -> Retention | None:
    """Return what the rules say of keeping; None where they say nothing, or where a mistake hides what they say."""
    registry = get_registry()
    if any(problem.is_error for problem in registry.problems):
        return None
    rules = [item.rule for item in registry.parsed]
    periods, counts = periods_of(rules), counts_of(rules)
    return Retention(now=utc_now(), periods=periods, counts=counts) if periods or counts else None


def prune_page(model_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Say what the rules keep for how long, and prune the rest once that is confirmed.

    The user decides when and not what: that is up to the settings, so nobody can take away the traces of one object.
    """
    if not (model_admin.has_view_permission(request) and may_prune(request)):
        raise PermissionDenied
    site, retention = model_admin.admin_site, retention_of_rules()
    if request.method == "POST" and retention is not None:
        reason = clean_text(request.POST.get("reason", "")).strip()[:MAX_REASON]
        _prune(model_admin, request, retention, reason)
        return HttpResponseRedirect(events_url(site.name))
    rules = [item.rule for item in get_registry().parsed if item.rule.retention is not None]
    context = {
        "title": _("Prune events"),
        "rules": [] if retention is None else [(rule.name, _shown(rule.retention)) for rule in rules],
        "max_reason": MAX_REASON,
        "back": events_url(site.name),
    }
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs_to_list(model_admin))


def _shown(retention: object) -> str:
    return f"last {retention['last']}" if isinstance(retention, dict) else str(retention)


def _prune(model_admin: ReadOnlyAdmin, request: HttpRequest, retention: Retention, reason: str) -> None:
    using = written_in(model_admin.get_queryset(request))
    pruned, is_cut, end = 0, False, monotonic() + MOST_SECONDS
    try:
        with audit_context(actor=request.user, reason=reason):
            for batch in Pruning(retention, using).run(BATCH_SIZE):
                pruned += batch.pruned
                is_cut = pruned >= MOST_EVENTS or monotonic() > end
                if is_cut:
                    break
    except (EventNotWritten, CannotSeal, InvalidSettings, DatabaseError) as error:
        messages.error(request, " ".join(str(error).split()))
    text = ngettext("%(count)s event was pruned.", "%(count)s events were pruned.", pruned)
    messages.success(request, text % {"count": pruned})
    if is_cut:
        messages.warning(request, _("There may be more. Prune again, or run audit_prune."))
