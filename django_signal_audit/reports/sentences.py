"""What this package records by itself, in a sentence."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.utils.formats import number_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_signal_audit.models import AuditEvent


def sentence_of(event: AuditEvent) -> str:
    """Return what an event of this package's own says, ``""`` for any other."""
    data: Any = event.data if isinstance(event.data, dict) else {}
    return {
        "events_pruned": _pruned,
        "auditing_suspended": _suspended,
        "auditing_resumed": _resumed,
        "events_exported": _exported,
    }.get(event.event_type, _nothing)(data)


def _nothing(data: object) -> str:
    return ""


def _pruned(data: Any) -> str:
    count = data.get("count")
    if not isinstance(count, int):
        return ""
    text = ngettext("%(count)s event was pruned.", "%(count)s events were pruned.", count)
    return text % {"count": number_format(count)}


def _suspended(data: Any) -> str:
    text = _("Auditing of %(models)s was suspended: %(reason)s")
    return text % {"models": _models(data), "reason": data.get("reason", "")}


def _resumed(data: object) -> str:
    return _("Auditing of %(models)s was resumed.") % {"models": _models(data)}


def _exported(data: Any) -> str:
    filters = data.get("filters")
    pairs = [pair for pair in filters if isinstance(pair, list)] if isinstance(filters, list) else []
    named = [":".join(map(str, pair)) for pair in pairs]
    asked = " ".join(filter(None, [*named, str(data.get("search") or "")])) or _("no filters")
    return _("Events were exported as %(format)s: %(filters)s") % {"format": data.get("format", ""), "filters": asked}


def _models(data: Any) -> str:
    labels = data.get("models")
    names = [_name(str(label)) for label in labels] if isinstance(labels, list) else []
    return _("all models") if not names or "*" in names else ", ".join(names)


def _name(label: str) -> str:
    try:
        return str(capfirst(apps.get_model(label)._meta.verbose_name_plural))
    except (LookupError, ValueError):
        return label
