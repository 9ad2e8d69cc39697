"""The packages that keep the differences of a change in one table for all models."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .base import Calls, Package, Recorded
from .readings import as_text, of_members, tag_names

if TYPE_CHECKING:
    from django.db.models import Manager, Model


def _from_pairs(kind: str, pairs: Mapping[str, Sequence[Any]]) -> Recorded:
    new = {field: pair[1] for field, pair in pairs.items()}
    return Recorded(kind, new=as_text(new), old=as_text({field: pair[0] for field, pair in pairs.items()}))


class AuditLog(Package):
    """Registered by settings; values as JSON."""

    name = "django-auditlog"
    apps = ("auditlog",)
    middleware = ("auditlog.middleware.AuditlogMiddleware",)
    settings = {
        "AUDITLOG_INCLUDE_TRACKING_MODELS": [
            {"model": "claims.Product", "m2m_fields": ["tags"]},
            {"model": "claims.Account", "mask_fields": ["iban"], "exclude_fields": ["remark"]},
        ],
        "AUDITLOG_USE_BASE_MANAGER": True,
    }
    has_registry = True
    admin_list = "/admin/auditlog/logentry/"

    def logs(self) -> Sequence[type[Model]]:
        """Return its log."""
        from auditlog.models import LogEntry

        return (LogEntry,)

    def _entries(self, key: int) -> Any:
        from auditlog.models import LogEntry

        from .models import Product

        return LogEntry.objects.get_for_model(Product).filter(object_pk=str(key)).order_by("pk")

    def records(self, key: int) -> Iterator[Recorded]:
        """Yield the entries of a product."""
        for entry in self._entries(key):
            changes = dict(entry.changes_dict)
            members = changes.pop("tags", None)
            if isinstance(members, dict):
                names = frozenset(map(str, members["objects"]))
                is_added = members["operation"] == "add"
                yield of_members(names, is_added)
            else:
                yield _from_pairs(("create", "update", "delete", "access")[entry.action], changes)

    def actor(self, key: int) -> str:
        """Return the user and the copy of their address."""
        entry = list(self._entries(key))[-1]
        return f"{entry.actor_id} {entry.actor} {entry.actor_email}"

    def prune(self) -> object:
        """Delete entries before a date."""
        from django.core.management import call_command

        return call_command("auditlogflush", yes=True, before_date=dt.date.today(), verbosity=0)  # noqa: DTZ011


class EasyAudit(Package):
    """Records every model unless settings name some."""

    name = "django-easy-audit"
    apps = ("easyaudit",)
    middleware = ("easyaudit.middleware.easyaudit.EasyAuditMiddleware",)
    settings = {
        "DJANGO_EASY_AUDIT_REGISTERED_CLASSES": ["claims.Product", "claims.Account"],
        "DJANGO_EASY_AUDIT_CRUD_EVENT_NO_CHANGED_FIELDS_SKIP": True,
    }
    admin_list = "/admin/easyaudit/crudevent/"

    def logs(self) -> Sequence[type[Model]]:
        """Return its log of changes."""
        from easyaudit.models import CRUDEvent

        return (CRUDEvent,)

    def _events(self, key: int) -> Any:
        from django.contrib.contenttypes.models import ContentType
        from easyaudit.models import CRUDEvent

        from .models import Product

        kind = ContentType.objects.get_for_model(Product)
        return CRUDEvent.objects.filter(content_type=kind, object_id=str(key)).order_by("pk")

    def records(self, key: int) -> Iterator[Recorded]:
        """Yield the events of a product."""
        from easyaudit.models import CRUDEvent

        kinds = {CRUDEvent.CREATE: "create", CRUDEvent.UPDATE: "update", CRUDEvent.DELETE: "delete"}
        tags: frozenset[str] = frozenset()
        for event in self._events(key):
            after = json.loads(event.object_json_repr or "[{}]")[0].get("fields", {})
            now = tag_names(after.get("tags", ()))
            changed = event.changed_fields
            pairs = json.loads(changed) if changed and event.event_type == CRUDEvent.UPDATE else None
            if event.event_type in kinds:
                made = _from_pairs("update", pairs) if pairs else Recorded(kinds[event.event_type], new=as_text(after))
                yield made
            else:
                yield Recorded("m2m", added=now - tags, removed=tags - now)
            tags = now

    def actor(self, key: int) -> str:
        """Return the user and the copy of their primary key."""
        event = list(self._events(key))[-1]
        return f"{event.user_pk_as_string} {event.user}"

    def price_at(self, key: int, time: dt.datetime) -> str:
        """Return the price in the last copy before a time."""
        events = [event for event in self._events(key) if event.datetime <= time]
        return str(json.loads(events[-1].object_json_repr)[0]["fields"]["price"])

    def logins(self) -> int:
        """Return the number of login events."""
        from easyaudit.models import LoginEvent

        return int(LoginEvent.objects.filter(login_type=LoginEvent.LOGIN).count())


class FieldAudit(Package):
    """Decorates the model; its manager audits bulk calls by an argument at every call."""

    name = "django-field-audit"
    apps = ("field_audit",)
    middleware = ("field_audit.middleware.FieldAuditMiddleware",)
    settings = {
        # Its first migration names an argument that Django 6 has dropped; the tables are made from its models instead.
        "MIGRATION_MODULES": {"field_audit": None},
        # Outside requests it would start the program "who" at every event.
        "FIELD_AUDIT_AUDITORS": ["field_audit.auditors.RequestAuditor"],
    }

    def manager(self) -> Manager[Any]:
        """Return the manager that its bulk calls need."""
        from field_audit.models import AuditingManager

        manager: Manager[Any] = AuditingManager()
        return manager

    def register(self, model: type[Model], left_out: Sequence[str] = ()) -> None:
        """Decorate the model; it audits the fields that are named."""
        from field_audit import audit_fields

        fields = [*model._meta.local_fields, *model._meta.local_many_to_many]
        names = [field.name for field in fields if not field.primary_key and field.name not in left_out]
        audit_fields(*names, audit_special_queryset_writes=True)(model)

    def logs(self) -> Sequence[type[Model]]:
        """Return its log."""
        from field_audit.models import AuditEvent

        return (AuditEvent,)

    def _events(self, key: int) -> list[Any]:
        from field_audit.models import AuditEvent

        events = AuditEvent.objects.filter(object_class_path__endswith="models.Product").order_by("pk")
        return [event for event in events if event.object_pk == key]

    def records(self, key: int) -> Iterator[Recorded]:
        """Yield the events of a product."""
        for event in self._events(key):
            delta = dict(event.delta)
            members = delta.pop("tags", {})
            kind = "create" if event.is_create else "delete" if event.is_delete else "update"
            yield Recorded(
                kind,
                new=as_text({field: pair["new"] for field, pair in delta.items() if "new" in pair}),
                old=as_text({field: pair["old"] for field, pair in delta.items() if "old" in pair}),
                added=tag_names(members.get("add", ())),
                removed=tag_names(members.get("remove", ())),
            )

    def actor(self, key: int) -> str:
        """Return the context of the change."""
        return str(self._events(key)[-1].change_context)

    def own_calls(self) -> Calls:
        """Return the calls with its argument."""
        from field_audit.models import AuditAction

        from .models import Product

        audit = AuditAction.AUDIT
        products: Any = Product.objects
        return {
            "bulk_create": lambda rows: products.bulk_create(rows, audit_action=audit),
            "bulk_update": lambda rows: products.bulk_update(rows, ["price"], audit_action=audit),
            "update": lambda key, **values: products.filter(pk=key).update(**values, audit_action=audit),
            "delete": lambda key: products.filter(pk=key).delete(audit_action=audit),
        }
