"""What the tests of reverts have in common: the pages, and the rows before and after."""

from __future__ import annotations

from django.urls import reverse
from django.utils.html import escape

from django_signal_audit.models import AuditEvent

from .processes.proof import prove

PLAIN = {"name": "all", "model": "app.*"}


def address(event):
    return reverse("admin:django_signal_audit_auditevent_revert", args=(event.pk,))


def page_of(event):
    return reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,))


def text_of(response, status=200):
    assert response.status_code == status
    return response.content.decode()


def deletion(obj):
    """Delete the object and return the event of it."""
    label, key = type(obj)._meta.label_lower, obj.pk
    obj.delete()
    obj.pk = key
    return AuditEvent.objects.of_type("delete").filter(model=label).latest("id")


def stored(obj):
    """Return all columns of the row."""
    return type(obj)._base_manager.filter(pk=obj.pk).values().get()


def problems():
    """Return where the trail and the tables differ."""
    return prove(notified=False).problems


def refused(client, event, reason):
    """Fail unless it is refused on all pages, with the reason, and nothing is written."""
    reason = escape(reason)
    count = AuditEvent.objects.count()
    assert reason in text_of(client.get(page_of(event)))
    assert address(event) not in text_of(client.get(page_of(event)))
    assert reason in text_of(client.get(address(event)))
    assert "Yes, revert</button>" not in text_of(client.get(address(event)))
    assert reason in text_of(client.post(address(event)), 409)
    assert AuditEvent.objects.count() == count
