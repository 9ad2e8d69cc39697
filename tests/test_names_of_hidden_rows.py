"""What pages and messages call the rows that other rows refer to: no more than their readers may know."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import reverse

from django_signal_audit.admin.links import history_url
from django_signal_audit.models import AuditEvent, Notification

from .app.models import Country, Person, Picture, Product
from .conftest import Audit
from .model_admins import person_who_may, registered
from .notices import INBOX
from .samples import make_event

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")
MESSAGES = reverse("admin:django_signal_audit_notification_changelist")
KEPT = {
    "CHANNELS": {"inbox": {"BACKEND": INBOX, "OPTIONS": {"to": "superusers"}}},
    "DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher",
}


class NoHidden(admin.ModelAdmin):
    def get_queryset(self, request):
        return super().get_queryset(request).exclude(name__startswith="HIDDEN")


class NoHiddenCodes(admin.ModelAdmin):
    def get_queryset(self, request):
        return super().get_queryset(request).exclude(code__startswith="hidden")


class TestMessages:
    """A message is written for its recipient, who may know more rows by name than who reads it on our pages."""

    @pytest.fixture
    def own(self, audit: Audit):
        audit({"name": "all", "model": "app.Person", "notify": [{"channel": "inbox"}]}, **KEPT)
        User.objects.create_superuser("root")
        own, foreign = Person.objects.create(name="Own"), Person.objects.create(name="HIDDEN one")
        Notification.objects.all().delete()
        own.follows.add(foreign)
        return own

    def pages(self, client):
        names = ("change", "html")
        yield client.get(MESSAGES).content.decode()
        for row in Notification.objects.all():
            for name in names:
                address = reverse(f"admin:django_signal_audit_notification_{name}", args=(row.pk,))
                yield client.get(address).content.decode()

    @pytest.mark.parametrize("is_kept", [False, True])
    def test_a_row_that_is_hidden(self, client, own, is_kept):
        if is_kept:
            for row in Notification.objects.all():
                row.status, row.data = "sent", {**row.data, "subject": "Follows (+HIDDEN one)", "body": "HIDDEN one"}
                row.save()
        client.force_login(person_who_may("eve", "view_person", "view_notification"))
        with registered(Person, NoHidden):
            assert [text for text in self.pages(client) if "HIDDEN" in text] == []
        with registered(Person):
            assert any("HIDDEN" in text for text in self.pages(client))

    def test_a_model_that_is(self, client, audit):
        audit({"name": "all", "model": "app.Picture", "notify": [{"channel": "inbox"}]}, **KEPT)
        User.objects.create_superuser("root")
        first, second = (Product.objects.create(name=f"HIDDEN {name}") for name in ("one", "two"))
        picture = Picture.objects.create(product=first, file="a.jpg")
        picture.product = second
        picture.save()
        client.force_login(person_who_may("eve", "view_picture", "view_notification"))
        addresses = [
            MESSAGES,
            *(
                reverse(f"admin:django_signal_audit_notification_{page}", args=(row.pk,))
                for row in Notification.objects.all()
                for page in ("change", "html")
            ),
        ]
        assert len(addresses) == 5
        assert [address for address in addresses if "HIDDEN" in client.get(address).content.decode()] == []


@pytest.mark.usefixtures("other_methods")
def test_the_name_of_a_related_row_hides_the_secrets_of_the_row(admin_client, audit, monkeypatch):
    monkeypatch.setattr(Product, "__str__", lambda product: f"{product.name} with {product.api_token}")
    audit({"name": "pictures", "model": "app.Picture"}, {"name": "tagged", "model": "app.Tag.products.through"})
    product = Product.objects.create(name="Oil", api_token="s3cr3t-of-oil")
    picture = Picture.objects.create(product=product, file="a.jpg")
    event = AuditEvent.objects.filter(model="app.picture").get()
    history = history_url("admin", "app.picture", str(picture.pk))
    pages = [
        LIST,
        reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,)),
        history,
        f"{history}?at=2999-01-01T00:00",
        f"{history}?older={event.pk}&newer=current",
    ]
    for page in pages:
        text = admin_client.get(page).content.decode()
        assert "s3cr3t-of-oil" not in text
    assert "Oil with" in admin_client.get(history).content.decode()


class TestHowAValueIsRead:
    """A value of a filter is a key if there is such an event: one that the user may see."""

    @pytest.mark.parametrize("name", ["object", "actor"])
    def test_a_key_of_a_hidden_row_is_read_as_any_other_text(self, client, audit, name):
        audit({"name": "countries", "model": "app.Country"})
        Country.objects.create(code="hidden@bank.example", name="x")
        own = Country.objects.create(code="own", name="mine")
        hidden = {"model": "app.country", "object_id": "hidden@bank.example", "actor_id": "hidden@bank.example"}
        make_event(**hidden, event_type="update")
        make_event(model="app.country", object_id=own.pk, **{f"{name}_repr": "hidden@bank.example of mine"})
        client.force_login(person_who_may("eve", "view_country"))
        with registered(Country, NoHiddenCodes):
            for text in ("hidden@bank.example", "hidden@bank.exampl"):
                found = client.get(f"{LIST}?{name}={text}").context["cl"].result_list
                assert len(found) == 1, text
