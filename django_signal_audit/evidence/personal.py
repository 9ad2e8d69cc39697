"""Which fields of a model hold personal values: those that its rules name, and those that sound like it."""

from __future__ import annotations

from functools import cache, lru_cache

from django.apps import apps

from django_signal_audit.conf import on_settings_changed
from django_signal_audit.models.renames import current_label, current_name
from django_signal_audit.rules.registry import get_registry

# Whole words of a field's name, split at "_".
PERSONAL_WORDS = (
    "address",
    "avatar",
    "birth",
    "birthdate",
    "birthday",
    "city",
    "dob",
    "email",
    "fax",
    "first_name",
    "full_name",
    "gender",
    "iban",
    "ip",
    "last_name",
    "latitude",
    "longitude",
    "mail",
    "middle_name",
    "mobile",
    "nationality",
    "passport",
    "phone",
    "postal",
    "postcode",
    "street",
    "surname",
    "tax_id",
    "telephone",
    "username",
    "zip",
    "zipcode",
)


@cache
def _named_by_rules(label: str) -> frozenset[str]:
    try:
        plan = get_registry().plan_for(apps.get_model(current_label(label)))
    except (LookupError, ValueError):
        return frozenset()  # the project no longer has the model
    return frozenset(name for rule in plan.rules for name in rule.personal) if plan else frozenset()


on_settings_changed(_named_by_rules.cache_clear)


@lru_cache(4096)
def _sounds_personal(name: str) -> bool:
    return any(f"_{word}_" in f"_{name.lower()}_" for word in PERSONAL_WORDS)


def is_personal(label: str, name: str) -> bool:
    """Return whether a field of a model holds personal values; the model may be gone from the project."""
    return _sounds_personal(name) or current_name(label, name) in _named_by_rules(label)
