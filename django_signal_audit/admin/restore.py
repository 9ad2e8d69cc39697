"""Restore an object as it was at a point of its history, field by field.

A version is restored as the change is reverted that would have led from it to what the object is now: what a revert
checks is checked here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.crypto import salted_hmac
from django.utils.html import format_html
from django.utils.translation import gettext as _

from django_signal_audit.enums import EventType
from django_signal_audit.events.values import canonical_json, clean_text
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.renames import current_label
from django_signal_audit.models.state import Recorded
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.display import label_of
from django_signal_audit.rules.plans import ModelPlan

from .access import access_of
from .base import ReadOnlyAdmin, render_page
from .links import event_url, history_url, restore_url
from .reverting import RefusedError, Revert, refusal_of, revert_of, run
from .reverting.base import is_stamp
from .reverting.deletions import is_optional
from .subjects import Subject, crumbs_of, subject_of
from .versions import CURRENT, FieldRow, Version, changes_between, is_key, rows_between, version_of

TEMPLATE = "django_signal_audit/admin/restore.html"
MAX_REASON = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRow:
    """A field that differs from the version.

    Attributes:
        row: What it holds now, and what it would hold.
        cause: Why it can't be restored, ``""`` if it can.
        token: What the form sends back: it says what was seen.
        is_required: Whether a row that is gone can't come back without it.

    """

    row: FieldRow
    cause: str
    token: str
    is_required: bool


def may_restore(site: AdminSite, request: HttpRequest, subject: Subject) -> bool:
    """Return whether the user may restore versions of an object: it takes to change it, or to add it again."""
    user: Any = request.user
    if subject.last is None or not user.has_perm("django_signal_audit.restore_auditevent"):
        return False
    action = "add" if subject.last.event_type == EventType.DELETE else "change"
    return access_of(request, site).limits(subject.change({}), action) is not None


class Restore:
    """What it takes to bring an object back to a version."""

    def __init__(self, subject: Subject, version: Version, current: Version) -> None:
        self.subject = subject
        self.version = version
        self.current = current

    @property
    def is_deleted(self) -> bool:
        """Return whether the object has to be added again."""
        return self.current.values is None

    @cached_property
    def changes(self) -> Recorded:
        """Return the changes that led from the version to what the object is now."""
        values = {name: one for name, one in (self.version.values or {}).items() if self._is_set(name)}
        current = {name: one for name, one in (self.current.values or {}).items() if self._is_set(name)}
        return changes_between(self.subject, values, current, is_whole=self.is_deleted)

    def _is_set(self, name: str) -> bool:
        """Return whether the user may see a field, and it does not set itself whenever the object is saved."""
        field = self.subject.change({}).field(name)
        return self.subject.shows(name) and (field is None or not (is_stamp(field) or field.generated))

    def revert_of(self, names: Collection[str]) -> Revert | None:
        """Return what restores the fields of these names, None if the user may not."""
        changes = {name: change for name, change in self.changes.items() if name in names}
        kind = EventType.DELETE if self.is_deleted else EventType.UPDATE
        event = self.subject.change(changes, kind)
        revert, access = revert_of(event), self.subject.access
        limits = access.limits(event, revert.permission) if revert else None
        if revert is None or limits is None:
            return None
        revert.limits = limits
        revert.is_seen = lambda: access.finds_row(event)
        return revert

    @cached_property
    def rows(self) -> list[RestoreRow]:
        """Return the fields that differ, in the order of the model."""
        revert = self.revert_of(self.changes)
        if revert is None:
            return []
        rows = rows_between(self.subject, self.current, self.version)
        return [self._row(row, revert) for row in rows if row.name in self.changes]

    def _row(self, row: FieldRow, revert: Revert) -> RestoreRow:
        cause = revert.cause(row.name) or _not_recorded(row.name, self.subject.plan, revert)
        field = revert.event.field(row.name)
        is_required = self.is_deleted and field is not None and not field.many_to_many and not is_optional(field)
        return RestoreRow(row=row, cause=cause, token=self._token(row.name), is_required=is_required)

    def _token(self, name: str) -> str:
        """Return the name of a field with a hash of what it holds, and of what it would hold."""
        seen = canonical_json([self.subject.label, self.subject.key, name, self.changes[name]])
        return f"{name}:{salted_hmac('django_signal_audit.restore', seen, algorithm='sha256').hexdigest()[:32]}"

    @cached_property
    def possible(self) -> list[str]:
        """Return the names of the fields that can be restored."""
        return [one.row.name for one in self.rows if not one.cause]

    def chosen(self, tokens: Iterable[str]) -> list[str]:
        """Return the names of the fields that were chosen.

        Raises:
            RefusedError: One of them holds something else than what was seen, or can't be restored.

        """
        found = {one.token: one for one in self.rows}
        wanted = dict.fromkeys([*tokens, *(one.token for one in self.rows if one.is_required)])
        if not wanted:
            raise RefusedError(_("Select at least one field."))
        if not found.keys() >= wanted.keys():
            raise RefusedError(_("The object has changed in the meantime. Nothing was saved."))
        for token in wanted:
            if found[token].cause:
                raise RefusedError(found[token].cause)
        return [found[token].row.name for token in wanted]

    def run(self, names: Collection[str], user: object, reason: str) -> None:
        """Restore fields in one transaction; raise RefusedError if that is not possible."""
        revert = self.revert_of(names)
        if revert is None:
            raise PermissionDenied
        point = str(self.version.event.uid) if is_key(self.version.point) and self.version.event else None
        at = point or self.version.point
        said = reason or (f"Restore of the version of event {point}" if point else f"Restore of the version of {at}")
        run([revert], user, said, using=revert.using, extra={"restored_version": at})


def _not_recorded(name: str, plan: ModelPlan | None, revert: Revert) -> str:
    """Return that no rule would record the change of a field, ``""`` if one might."""
    field, traces = revert.event.field(name), revert.traces
    is_m2m = isinstance(revert.event.changes[name], dict)
    kind = EventType.CREATE if EventType.CREATE in traces else EventType.M2M if is_m2m else EventType.UPDATE
    if kind == EventType.CREATE or (plan is not None and name in plan.names_for(kind)):
        return ""
    text = _("No rule records changes of “%(field)s” any more, so restoring it wouldn't be recorded.")
    return text % {"field": label_of(field, name)}


def restore_page(model_admin: ReadOnlyAdmin, request: HttpRequest, label: str, segment: str) -> HttpResponse:
    """Ask for confirmation, and restore what was chosen once it is given."""
    subject, site = subject_of(model_admin, request, label, segment), model_admin.admin_site
    # The model may be gone, and with it everybody's right to change its rows.
    if subject.model is not None and not may_restore(site, request, subject):
        raise PermissionDenied
    restore, wrong = _find(subject, request.GET.get("version", ""))
    if restore is None:
        return _render(model_admin, request, subject, None, wrong)
    if child_url := _child_url(site, restore):
        return HttpResponseRedirect(child_url)
    if request.method != "POST":
        possible = restore.revert_of(restore.possible) if restore.possible else None
        return _render(model_admin, request, subject, restore, refusal_of(possible) if possible else "")
    reason = clean_text(request.POST.get("reason", "")).strip()[:MAX_REASON]
    try:
        restore.run(restore.chosen(request.POST.getlist("field")), request.user, reason)
    except RefusedError as refused:
        # What is seen now may be none of what was seen then.
        again, wrong = _find(subject_of(model_admin, request, label, segment), request.GET.get("version", ""))
        return _render(model_admin, request, subject, again, wrong or str(refused), status=409)
    new = subject_of(model_admin, request, label, segment).last
    text = _("“%(object)s” was restored.") % {"object": subject.name}
    link = format_html(' <a href="{}">{}</a>', event_url(site.name, new.pk), _("View the new event")) if new else ""
    model_admin.message_user(request, format_html("{}{}", text, link), messages.SUCCESS)
    return HttpResponseRedirect(history_url(site.name, label, subject.key))


def _child_url(site: AdminSite, restore: Restore) -> str:
    """Return the address that restores all of a deleted child, ``""`` for others; its parent's row alone is no child.

    A restored parent's row would even be in the child's way.
    """
    event = restore.version.event if restore.is_deleted else None
    label = current_label(event.model) if event else restore.subject.label
    if event is None or label == restore.subject.label:
        return ""
    return restore_url(site.name, label, event.object_id, restore.version.point)


def _find(subject: Subject, point: str) -> tuple[Restore | None, str]:
    """Return what restores the version at a point, or what is in the way."""
    try:
        version, current = version_of(subject, point), version_of(subject, CURRENT)
    except WrongArgument as wrong:
        return None, str(wrong)
    event = version.event
    if version.values is None and event is not None and event.event_type == EventType.DELETE:
        # What a deletion ended is meant: the object as it was until then.
        version = replace(version, values=subject.visible_state(_ended(event), subject.events.filter(pk__lte=event.pk)))
    if version.is_current or version.values is None:
        return None, _("The object didn't exist yet, or has no recorded history at that time.")
    return Restore(subject, version, current), ""


def _ended(event: AuditEvent) -> Recorded:
    values = {name: change[0] for name, change in event.changes.items() if isinstance(change, list)}
    members = {name: change["removed"] for name, change in event.changes.items() if isinstance(change, dict)}
    return {**values, **members}


def _render(
    model_admin: ReadOnlyAdmin,
    request: HttpRequest,
    subject: Subject,
    restore: Restore | None,
    refusal: str,
    status: int = 200,
) -> HttpResponse:
    site = model_admin.admin_site.name
    back = history_url(site, subject.label, subject.key)
    rows: Sequence[RestoreRow] = restore.rows if restore else []
    revert = restore.revert_of(restore.possible) if restore and restore.is_deleted else None
    chosen = request.POST.getlist("field") if request.method == "POST" else [one.token for one in rows]
    names = {token.partition(":")[0] for token in chosen}
    context = {
        "title": _("Restore"),
        "subject": subject,
        "restore": restore,
        "rows": rows,
        "checked": [one.token for one in rows if one.row.name in names],
        "is_possible": bool(restore and restore.possible),
        "unchanged": _unchanged(restore) if restore else 0,
        "refusal": refusal,
        "notes": revert.notes() if revert else [],
        "reason": request.POST.get("reason", ""),
        "max_reason": MAX_REASON,
        "back": back,
    }
    crumbs = [*crumbs_of(model_admin, subject), (_("History"), back)]
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs, status=status)


def _unchanged(restore: Restore) -> int:
    """Return how many fields are what they were; nothing is said of an object that is gone."""
    values = [] if restore.is_deleted else restore.version.values or {}
    return sum(restore.subject.shows(name) and name not in restore.changes for name in values)
