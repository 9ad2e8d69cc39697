"""What a row holds now, as an event would have it."""

from __future__ import annotations

from django.db import models

from django_signal_audit.capture.tables import stored_value
from django_signal_audit.capture.through_rows import M2MRelation
from django_signal_audit.events.values import encode, plain_field
from django_signal_audit.models.state import Recorded, member_order, own_fields
from django_signal_audit.rules.plans import ModelPlan

from .m2m import held_members


def present_values(instance: models.Model, plan: ModelPlan, using: str) -> Recorded:
    """Return what a row holds of its audited fields, in the JSON of events: secrets are tags, what is long a digest."""
    names = own_fields(type(instance))
    values = {
        name: plan.serializers[name](stored_value(instance, field), instance.pk)
        for name, field in plan.fields.items()
        if name in names
    }
    for name, field in plan.members.items():
        if name in names:
            target = plain_field(M2MRelation(field, ()).member_link.target_field)
            keys = (encode(target, key) for key in held_members(field, instance, using))
            values[name] = sorted(keys, key=member_order)
    return values
