from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Package, Recorded, other_than_django
from .readings import as_text, tag_names

if TYPE_CHECKING:
    from django.db.models import Model
    from django.test import Client

RULES: list[dict[str, Any]] = [
    {"name": "products", "model": "claims.Product", "retention": "1d"},
    {"name": "accounts", "model": "claims.Account", "exclude": ["remark"], "mask": ["iban"]},
    {"name": "logins", "events": ["login"]},
    {
        "name": "price-drop",
        "model": "claims.Product",
        "events": ["update"],
        "fields": ["price"],
        "when": {"price": "decreased"},
        "notify": ["mail"],
        "retention": "1d",
    },
]


class Ours(Package):
    """The package itself: a rule for the product, one for logins, and one that notifies."""

    name = "django-signal-audit"
    apps = ("django_signal_audit",)
    middleware = ("django_signal_audit.middleware.AuditMiddleware",)
    settings = {
        "SIGNAL_AUDIT": {
            "RULES": RULES,
            "CHANNELS": {
                "mail": {
                    "BACKEND": "django_signal_audit.channels.email.EmailChannel",
                    "OPTIONS": {"to": ["shop@example.com"]},
                },
            },
        },
        "MAILERS": {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}},
    }
    admin_list = "/admin/django_signal_audit/auditevent/"

    @property
    def version(self) -> str:
        """Return the version of the source tree, which need not be installed."""
        from django_signal_audit import __version__

        return __version__

    def requirements(self) -> list[str]:
        """Return what the source tree asks for."""
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
        return other_than_django(project["project"]["dependencies"])

    def logs(self) -> Sequence[type[Model]]:
        """Return the model of its events."""
        from django_signal_audit.models import AuditEvent

        return (AuditEvent,)

    def _events(self, key: int) -> Iterable[Any]:
        from django_signal_audit.models import AuditEvent

        return AuditEvent.objects.filter(model="claims.product", object_id=str(key)).order_by("id")

    def records(self, key: int) -> Iterator[Recorded]:
        """Yield the events of a product."""
        for event in self._events(key):
            members = event.changes.get("tags", {})
            values = {field: pair for field, pair in event.changes.items() if field != "tags"}
            yield Recorded(
                event.event_type,
                new=as_text({field: pair[1] for field, pair in values.items()}),
                old=as_text({field: pair[0] for field, pair in values.items()}),
                added=tag_names(members.get("added", ())),
                removed=tag_names(members.get("removed", ())),
            )

    def actor(self, key: int) -> str:
        """Return the actor's key and text."""
        event = list(self._events(key))[-1]
        return f"{event.actor_id} {event.actor_repr}"

    def restore_in_admin(self, key: int, client: Client) -> object:
        """Follow the link on the page of the newest event, and confirm."""
        event = list(self._events(key))[-1]
        page = str(client.get(f"{self.admin_list}{event.pk}/change/").content, "utf-8")
        [link] = set(re.findall(rf'href="({self.admin_list}{event.pk}/(?!change|history)[\w-]+/)', page))
        return client.post(link)

    def price_at(self, key: int, time: dt.datetime) -> str:
        """Return the price in the recorded state."""
        from django_signal_audit.models import AuditEvent

        from .models import Product

        state = AuditEvent.objects.state_of(Product, key, at=time) or {}
        return str(state.get("price"))

    def logins(self) -> int:
        """Return the number of login events."""
        from django_signal_audit.models import AuditEvent

        return AuditEvent.objects.of_type("login").count()

    def notified(self) -> int:
        """Return the number of sent notifications."""
        from django_signal_audit.models import Notification

        return Notification.objects.of_status("sent").count()

    def prune(self) -> object:
        """Prune by the retention of the rules."""
        from django.core.management import call_command

        return call_command("audit_prune", older_than="1d", verbosity=0)
