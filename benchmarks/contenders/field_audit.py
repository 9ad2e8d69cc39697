from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .base import Contender, Run

if TYPE_CHECKING:
    from django.db.models import Manager, Model


class FieldAudit(Contender):
    """Audits bulk calls through a manager of its own, with an argument at every call."""

    name = "django-field-audit"
    distribution = "django-field-audit"
    apps = ("field_audit",)
    settings = {
        # Its first migration names an argument that Django 6 has dropped; the tables are made from its models instead.
        "MIGRATION_MODULES": {"field_audit": None},
        # Outside requests it would start the program "who" at every event.
        "FIELD_AUDIT_AUDITORS": ["field_audit.auditors.RequestAuditor"],
    }

    def manager(self) -> Manager[Any]:
        """Return the manager that its bulk calls need."""
        from field_audit.models import AuditingManager

        return AuditingManager()

    def adapt(self, product: type[Model]) -> None:
        """Decorate the model."""
        from field_audit import audit_fields

        fields = [field for field in product._meta.local_fields if not field.primary_key]
        names = [field.name for field in [*fields, *product._meta.local_many_to_many]]
        audit_fields(*names, audit_special_queryset_writes=True)(product)

    def logs(self) -> Sequence[type[Model]]:
        """Return its log."""
        from field_audit.models import AuditEvent

        return (AuditEvent,)

    def runs(self) -> Mapping[str, Run]:
        """Return its own bulk calls."""
        from django.db.models import F
        from field_audit.models import AuditAction

        from benchmarks.shop.models import Product

        audit = AuditAction.AUDIT
        return {
            "bulk_create": lambda rows: Product.objects.bulk_create(rows, audit_action=audit),
            "bulk_update": lambda rows: Product.objects.bulk_update(
                rows, ["price", "stock"], batch_size=500, audit_action=audit
            ),
            "query_update": lambda query: query.update(price=F("price") + 1, audit_action=audit),
            "query_delete": lambda query: query.delete(audit_action=audit),
        }
