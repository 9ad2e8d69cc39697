"""Putting the change of one event back: the fields get the values, and the members, that they had before it."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.db import Error, IntegrityError, models, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from django_signal_audit.capture.rows import locked, rows_of
from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.contention import is_passing
from django_signal_audit.context import audit_context
from django_signal_audit.enums import EventType
from django_signal_audit.keys import parse_id
from django_signal_audit.models import AuditEvent
from django_signal_audit.recorder import recorded_count
from django_signal_audit.reports.display import ShownField, label_of, show_fields
from django_signal_audit.values import Digest, Masked, decode, encode

from .base import render_page
from .exchanges import exchanges
from .links import event_url
from .refusals import RefusedError
from .visibility import reader_of

TEMPLATE = "django_signal_audit/admin/put_back.html"


def may_put_back(request: HttpRequest, event: AuditEvent) -> bool:
    """Tell whether the user may put this change back: it takes the permission to, and to change the object."""
    user: Any = request.user
    model = event.model_class
    if model is None or event.event_type not in (EventType.UPDATE, EventType.M2M):
        return False
    change = get_permission_codename("change", model._meta)
    wanted = ("django_signal_audit.revert_auditevent", f"{model._meta.app_label}.{change}")
    return bool(user.has_perms(wanted))


def still_holds(event: AuditEvent, instance: models.Model) -> bool:
    """Tell whether the object has what the event left in it, and what was there before is known; no query is made."""
    try:
        return all(_is(instance, field, new) for field, (_old, new) in _values(event).items())
    except RefusedError:
        return False


def put_back_page(model_admin: ModelAdmin[Any], request: HttpRequest, event_id: int) -> HttpResponse:
    """Ask for confirmation, and put the change back once it is given."""
    event = model_admin.get_queryset(request).filter(pk=event_id).first()
    if event is None:
        raise Http404
    if not model_admin.has_view_permission(request, event) or not may_put_back(request, event):
        raise PermissionDenied
    refusal = ""
    try:
        if request.method == "POST":
            put_back(event, request.user)
            model_admin.message_user(request, _("The change was put back."), messages.SUCCESS)
            return HttpResponseRedirect(event_url(model_admin.admin_site.name, event.pk))
        _check(event, lock=False)
    except RefusedError as refused:
        refusal = str(refused)
    back = event_url(model_admin.admin_site.name, event.pk)
    context = {
        "title": _("Put this change back"),
        "event": event,
        "event_url": back,
        "refusal": refusal,
        "fields": _reversed(event, request.user),
    }
    crumbs = [(Truncator(event).chars(60), back)]
    status = 409 if refusal and request.method == "POST" else 200
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs, status=status)


def put_back(event: AuditEvent, user: Any) -> None:
    """Undo what the event tells of the fields or members of its object, in one transaction that is itself recorded.

    Raises:
        RefusedError: A value is not known, has changed since, or cannot be stored; nothing was changed.

    """
    try:
        with transaction.atomic(using=event._state.db), audit_context(actor=user, reason=f"put back event {event.uid}"):
            lock_database(event._state.db or "default")
            instance = _check(event, lock=True)
            before = recorded_count()
            if event.event_type == EventType.M2M:
                for exchange in exchanges(event):
                    exchange.undo(instance)
            else:
                _restore(instance, _values(event))
            if recorded_count() == before:
                raise RefusedError(
                    _("No rule records changes of this object any more, so this one would leave no trace.")
                )
    except IntegrityError as error:
        raise RefusedError(_("The database refuses it: %(error)s") % {"error": error}) from error
    except Error as error:
        if not is_passing(error):
            raise
        raise RefusedError(_("Others are changing it at this moment. Look at it again, and then try again.")) from error


def _restore(instance: models.Model, values: dict[models.Field[Any, Any], list[Any]]) -> None:
    for field, (old, _new) in values.items():
        setattr(instance, field.attname, decode(field, old))
    update_fields = [*(field.name for field in values), *_stamps(instance)]
    instance.save(using=instance._state.db, update_fields=update_fields)


def _values(event: AuditEvent) -> dict[models.Field[Any, Any], list[Any]]:
    """Return old and new value, as JSON, of each field that can be put back."""
    values: dict[models.Field[Any, Any], list[Any]] = {}
    for name, pair in event.changes.items():
        field = event.field(name)
        if field is None or not isinstance(pair, list):
            raise RefusedError(_("The field “%(field)s” is no longer there.") % {"field": name})
        _refuse_unknown(event, name)
        if not _is_stamp(field) and not field.generated:
            values[field] = pair
    if not values:
        raise RefusedError(_("No value is recorded that could be put back."))
    return values


def _refuse_unknown(event: AuditEvent, name: str) -> None:
    label = label_of(event.field(name), name)
    kinds = {type(value) for value in event.field_changes[name]}
    if Masked in kinds:
        raise RefusedError(_("“%(field)s” is masked: what it was is not recorded.") % {"field": label})
    if Digest in kinds:
        raise RefusedError(_("Of “%(field)s” only a digest is recorded, not what it was.") % {"field": label})


def _is_stamp(field: models.Field[Any, Any]) -> bool:
    """Tell whether a save sets the field by itself, whatever it is given."""
    return bool(getattr(field, "auto_now", False))


def _stamps(instance: models.Model) -> list[str]:
    return [field.name for field in instance._meta.concrete_fields if _is_stamp(field)]


def _check(event: AuditEvent, *, lock: bool) -> models.Model:
    """Return the object, which has what the event left in it; raise RefusedError otherwise."""
    model = cast("type[models.Model]", event.model_class)
    using = event._state.db or "default"
    rows = rows_of(model, using).filter(pk=parse_id(model, event.object_id))
    instance = (locked(rows, using) if lock else rows).first()
    if instance is None:
        raise RefusedError(_("The object is no longer there."))
    if event.event_type == EventType.M2M:
        # Asking locks the pairs until its own end.
        with transaction.atomic(using=using):
            for exchange in exchanges(event):
                exchange.check(instance, using)
    else:
        _check_fields(instance, _values(event), using)
    return cast("models.Model", instance)


def _check_fields(instance: models.Model, values: dict[models.Field[Any, Any], list[Any]], using: str) -> None:
    for field, (old, new) in values.items():
        if not _is(instance, field, new):
            raise RefusedError(_("“%(field)s” has changed since.") % {"field": label_of(field, field.name)})
        if isinstance(field, models.ForeignKey) and old is not None and not _exists(field, old, using):
            raise RefusedError(
                _("What “%(field)s” referred to is no longer there.") % {"field": label_of(field, field.name)}
            )


def _is(instance: models.Model, field: models.Field[Any, Any], value: Any) -> bool:
    return bool(encode(field, getattr(instance, field.attname)) == value)


def _exists(field: models.ForeignKey[Any, Any], key: Any, using: str) -> bool:
    target: Any = field.target_field
    return rows_of(target.model, using).filter(**{target.attname: decode(field, key)}).exists()


def _reversed(event: AuditEvent, user: Any) -> list[ShownField]:
    """Return the diff of what would happen."""
    return [
        ShownField(name=line.name, label=line.label, old=line.new, new=line.old, added=line.removed, removed=line.added)
        for line in show_fields(event, reader_of(user, [event]))
    ]
