"""The page of the inbox: what changed, by whom and why, the way to the object, by day, unread or all."""

from __future__ import annotations

import datetime as dt
import html as html_module
import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags

from django_signal_audit import audit_context
from django_signal_audit.models import AuditEvent, Notification
from testproject.shop.models import Category, Product

from .app.models import Country
from .app.models import Product as Other
from .conftest import Audit
from .model_admins import registered
from .notices import INBOX

pytestmark = pytest.mark.django_db

PAGE = reverse("signal_audit:inbox")
MARK = reverse("signal_audit:inbox-mark")
READ = reverse("signal_audit:inbox-read")
SHOP = {"name": "shop", "model": "shop.Product"}


@pytest.fixture
def rules(audit: Audit) -> None:
    audit(SHOP, {"name": "countries", "model": "app.Country"}, CHANNELS={"inbox": {"BACKEND": INBOX}})


@pytest.fixture
def tea(rules: None) -> Product:
    product = Product.objects.create(
        sku="tea", name="Mombasa tea", price=Decimal("10.00"), category=Category.objects.create(name="Tea")
    )
    with audit_context(actor="bruno", reason="Market prices"):
        product.price = Decimal("9.00")
        product.save()
    return product


@pytest.fixture
def ada(client: Client) -> User:
    user = User.objects.create_superuser("ada")
    client.force_login(user)
    return user


@pytest.fixture
def reader(client: Client) -> User:
    """Return a user who may view the events of products, and no more."""
    user = User.objects.create_user("reader")
    models = Permission.objects.filter(content_type__app_label__in=["shop", "django_signal_audit"])
    user.user_permissions.set(models.filter(codename__in=["view_auditevent", "view_product"]))
    client.force_login(user)
    return user


def message(user: User, event: AuditEvent | None = None, subject: str = "It dropped", **values: Any) -> Notification:
    event = AuditEvent.objects.latest("id") if event is None else event
    data = {"subject": subject, "body": "The whole message."}
    given = {"channel": "inbox", "status": "sent", "sent_at": timezone.now(), "rule": "shop", **values}
    return Notification.objects.create(event=event.uid, recipient=str(user.pk), data=data, **given)


def html(client: Client, query: str = "") -> str:
    response = client.get(f"{PAGE}?{query}")
    assert response.status_code == 200
    return response.content.decode()


def text(page: str) -> str:
    return re.sub(r"\s+", " ", strip_tags(page)).strip()


class TestAMessage:
    def test_it_shows_the_change_its_actor_and_its_reason(self, tea: Product, client: Client, ada: User) -> None:
        message(ada)
        page = html(client)
        assert "Price 10.0000 → 9.0000 −10.0 %" in text(page)  # noqa: RUF001  # a minus
        assert "bruno, Market prices" in text(page)
        assert page.index("<summary>Show full message</summary>") < page.index("The whole message.")

    def test_it_says_why_one_gets_it_and_how_to_stop_it(
        self, tea: Product, client: Client, ada: User, settings: Any
    ) -> None:
        message(ada, entry="superusers")
        said = "You're receiving this because the rule shop notifies all superusers."
        assert f"{said} To stop these messages, change your notification preferences." in html_module.unescape(
            html(client)
        )
        rules = [{"name": "shop", "model": "shop.Product", "notify": ["inbox"], "locked": True}]
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "RULES": rules}
        assert "These messages can't be switched off." in html_module.unescape(html(client))

    def test_its_subject_and_a_button_lead_to_the_object(self, tea: Product, client: Client, ada: User) -> None:
        message(ada)
        page = html(client)
        assert f'<a href="{tea.get_absolute_url()}">It dropped</a>' in page
        assert f'<a class="audit-open" href="{tea.get_absolute_url()}">Open Mombasa tea</a>' in page

    def test_without_a_page_of_the_project_they_lead_to_the_admin(self, rules: None, client: Client, ada: User) -> None:
        Country.objects.create(code="AT", name="Austria")
        message(ada)
        with registered(Country):
            assert f'href="{reverse("admin:app_country_change", args=["AT"])}">Open ' in html(client)

    def test_the_admin_is_not_named_to_those_who_cannot_log_in_there(
        self, rules: None, client: Client, reader: User
    ) -> None:
        reader.user_permissions.add(Permission.objects.get(codename="view_country"))
        Country.objects.create(code="AT", name="Austria")
        message(reader)
        with registered(Country):
            page = html(client)
        assert "Austria" in page
        assert "audit-open" not in page

    def test_an_object_that_is_gone_is_named_and_not_linked(self, tea: Product, client: Client, ada: User) -> None:
        event = AuditEvent.objects.latest("id")
        tea.delete()
        message(ada, event)
        page = html(client)
        assert "10.0000 → 9.0000" in text(page)
        assert "audit-open" not in page

    def test_a_page_of_the_project_that_fails_is_replaced_by_the_admins(
        self, tea: Product, client: Client, ada: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(self: Product) -> str:
            raise ValueError("no page")

        monkeypatch.setattr(Product, "get_absolute_url", fail)
        message(ada)
        assert reverse("admin:shop_product_change", args=[tea.pk]) in html(client)

    @pytest.mark.parametrize(
        "address",
        [
            "javascript:alert(1)//",
            " JavaScript:alert(1)",
            "java\tscript:alert(1)",
            "\x01javascript:alert(1)",
            "data:text/html,<script>alert(1)</script>",
            "vbscript:x",
            "http://[x",
        ],
    )
    def test_an_address_that_is_none_of_a_page_is_not_opened(
        self, tea: Product, client: Client, ada: User, monkeypatch: pytest.MonkeyPatch, address: str
    ) -> None:
        monkeypatch.setattr(Product, "get_absolute_url", lambda product: address)
        message(ada)
        page = html(client)
        assert "alert" not in page
        assert "[x" not in page
        assert reverse("admin:shop_product_change", args=[tea.pk]) in page

    @pytest.mark.parametrize("address", ["https://shop.example/tea", "/tea/", "tea?x=1#y", "/té é/"])
    def test_an_address_of_a_page_is(
        self, tea: Product, client: Client, ada: User, monkeypatch: pytest.MonkeyPatch, address: str
    ) -> None:
        monkeypatch.setattr(Product, "get_absolute_url", lambda product: address)
        message(ada)
        assert f'href="{address}"' in html(client)

    def test_users_who_may_view_no_events_read_the_message_alone(self, tea: Product, client: Client) -> None:
        nobody = User.objects.create_user("nobody")
        client.force_login(nobody)
        message(nobody)
        page = html(client)
        assert "The whole message." in page
        assert "<summary>" not in page
        for hidden in ("10.0000", "bruno", "Mombasa", tea.get_absolute_url()):
            assert hidden not in page.replace("Mute Mombasa tea", "")

    def test_fields_that_the_user_may_not_see_are_left_out(self, tea: Product, client: Client, reader: User) -> None:
        message(reader)
        assert "9.0000" in html(client)
        with registered(Product, type("WithoutPrice", (admin.ModelAdmin,), {"exclude": ["price"]})):
            assert "9.0000" not in html(client)

    def test_a_digest_has_its_text(self, tea: Product, client: Client, ada: User) -> None:
        events = [str(event.uid) for event in AuditEvent.objects.all()]
        found = message(ada)
        Notification.objects.filter(pk=found.pk).update(
            event=None, data={"subject": "Two changes", "body": "Both of them.", "events": events, "count": 2}
        )
        page = html(client)
        assert "Both of them." in page
        assert "audit-open" not in page

    def test_the_queries_do_not_grow_with_the_messages(self, tea: Product, client: Client, ada: User) -> None:
        message(ada)
        html(client)
        with CaptureQueriesContext(
            connection,
        ) as few:
            html(client)
        for number in range(10):
            tea.price = Decimal(number)
            tea.save()
            message(ada)
        html(client)
        with CaptureQueriesContext(connection) as many:
            html(client)
        assert len(many) == len(few)


class TestWhichMessages:
    def test_they_stand_under_their_days(self, tea: Product, client: Client, ada: User) -> None:
        now = timezone.now()
        for days, subject in [(0, "new"), (0, "newer"), (40, "old")]:
            message(ada, subject=subject, sent_at=now - dt.timedelta(days=days))
        titles = re.findall(r"<h2>(.*?)</h2>", html(client))
        assert len(titles) == 2
        assert all(re.fullmatch(r"\w+day, \w+\.? \d+, \d{4}", title) for title in titles)

    def test_the_unread_ones_have_a_list_of_their_own(self, tea: Product, client: Client, ada: User) -> None:
        message(ada, subject="fresh")
        message(ada, subject="stale", read_at=timezone.now())
        assert {"fresh", "stale"} <= set(re.findall(r"\w+", text(html(client))))
        page = html(client, "show=unread")
        assert "fresh" in page
        assert "stale" not in page
        assert f'<a href="{PAGE}?show=unread" aria-current="page">' in page

    def test_its_pages_have_the_unread_ones_too(self, tea: Product, client: Client, ada: User) -> None:
        for number in range(45):
            message(ada, subject=f"message {number} ", read_at=timezone.now() if number % 2 else None)
        page, seen = html(client, "show=unread"), []
        while True:
            seen += [int(number) for number in re.findall(r">message (\d+) <", page)]
            older = re.search(r'rel="next" href="[^"]*\?([^"]*)"', page)
            if older is None:
                break
            page = html(client, older[1].replace("&amp;", "&"))
        assert seen == list(range(44, -1, -2))

    def test_what_is_read_can_be_unread_again(self, tea: Product, client: Client, ada: User) -> None:
        found = message(ada, read_at=timezone.now())
        page = html(client)
        assert "Mark as unread" in page
        assert client.post(f"{MARK}?show=unread", {"ids": found.pk, "read": "false"}).url == f"{PAGE}?show=unread"  # type: ignore[attr-defined]
        found.refresh_from_db()
        assert found.read_at is None
        assert client.post(READ, {"ids": [found.pk]}, "application/json").json() == {"marked": 1, "unread": 0}
        said = {"ids": [found.pk], "read": False}
        assert client.post(READ, said, "application/json").json() == {"marked": 1, "unread": 1}
        assert client.post(READ, said, "application/json").json() == {"marked": 0, "unread": 1}

    @pytest.mark.parametrize("said", [{"up_to": 5, "read": False}, {"ids": [1], "read": 0}, {"ids": [1], "read": "no"}])
    def test_what_cannot_be_meant_is_refused(self, client: Client, ada: User, rules: None, said: object) -> None:
        assert client.post(READ, said, "application/json").status_code == 400

    def test_nobody_unreads_what_is_somebody_elses(self, tea: Product, client: Client, ada: User) -> None:
        found = message(User.objects.create_user("bob"), read_at=timezone.now())
        client.post(MARK, {"ids": found.pk, "read": "false"})
        found.refresh_from_db()
        assert found.read_at is not None

    @pytest.mark.parametrize(("query", "said"), [("", "No messages."), ("show=unread", "No unread messages.")])
    def test_an_empty_list_says_so(self, client: Client, ada: User, rules: None, query: str, said: str) -> None:
        assert said in html(client, query)


def test_showing_a_message_is_a_view_of_its_object(audit: Audit, client: Client, ada: User) -> None:
    looked = {"name": "who-looked", "model": "app.Product", "events": ["view"]}
    audit({"name": "all", "model": "app.*"}, looked, CHANNELS={"inbox": {"BACKEND": INBOX}})
    product = Other.objects.create(name="Tea")
    message(ada)
    views = AuditEvent.objects.of_type("view")
    html(client)
    assert [(event.object_id, event.actor_repr) for event in views] == [(str(product.pk), "ada")]
    html(client)
    assert views.count() == 1
