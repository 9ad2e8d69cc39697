"""People who revert the same change at the same moment, and others who write the row meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags

from django_signal_audit.models import AuditEvent
from tests.app.models import Product
from tests.processes.proof import prove
from tests.processes.stage import together

PLAIN = ("has changed since", "no longer exists", "exists again", "Someone else is changing the object right now.")


def main(processes: int, rounds: int, meanwhile: str = "", what: str = "update") -> dict[str, Any]:
    """Have processes post the same confirmation, again and again.

    Args:
        processes: How many of them.
        rounds: How often.
        meanwhile: What one more process does to the row: a name of ``WRITES``, nothing if empty.
        what: What is reverted, ``"update"`` or ``"delete"``.

    """
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    outcomes: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for _ in range(rounds):
        product = Product.objects.create(name="old")
        key = product.pk
        CHANGES[what](product)
        event = AuditEvent.objects.filter(model="app.product", object_id=str(key)).latest("id").pk
        start = time.time() + 0.3
        works: list[Callable[[], Any]] = [partial(_post, start, client, event) for _ in range(processes)]
        works += [partial(_write, start, key, meanwhile)] if meanwhile else []
        found = [outcome for outcome in together(works) if outcome]
        outcomes[" ".join(sorted(found))] += 1
        kept = Product.objects.filter(pk=key).first()
        left[f"{kept.name} {kept.stock}" if kept else "nothing"] += 1
    return {"outcomes": outcomes, "left": left, "problems": prove(notified=False).problems}


def _post(start: float, client: Client, event: int) -> str:
    """Confirm, and return what came of it in a word."""
    AuditEvent.objects.exists()  # it is connected when it begins
    time.sleep(max(0, start - time.time()))
    response = client.post(reverse("admin:django_signal_audit_auditevent_revert", args=(event,)))
    if response.status_code == 302:
        return "done"
    text = strip_tags(response.content.decode())
    is_plain = response.status_code == 409 and any(reason in text for reason in PLAIN)
    return "refused" if is_plain else f"{response.status_code}: {text[-500:]}"


def _update(product: Product) -> None:
    product.name = "new"
    product.save()


CHANGES: dict[str, Callable[[Product], Any]] = {"update": _update, "delete": Product.delete}
WRITES: dict[str, Callable[[Any], Any]] = {
    "rename": lambda rows: rows.update(name="other"),
    "save": lambda rows: _save(rows.get()),
    "count": lambda rows: rows.update(stock=F("stock") + 1),
    "delete": lambda rows: rows.get().delete(),
}


def _save(product: Product) -> None:
    product.name = "other"
    product.save()


def _write(start: float, product: int, name: str) -> None:
    rows = Product.objects.filter(pk=product)
    rows.exists()  # it is connected when it begins
    time.sleep(max(0, start - time.time()))
    time.sleep(0.01)  # a page takes longer than a write
    WRITES[name](rows)
