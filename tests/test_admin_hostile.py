"""No page answers with a server error, whatever the address asks for and whatever is stored."""

from __future__ import annotations

import json
import uuid
from urllib.parse import quote

import pytest
from django.db import connection
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.events import utc_now

from .processes.stage import choose
from .samples import NOON

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

FEW = settings(
    max_examples=choose(10, 50),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ADMIN = reverse("admin:django_signal_audit_auditevent_changelist")
OUTBOX = reverse("admin:django_signal_audit_notification_changelist")
NAMES = [
    "q", "p", "o", "e", "all", "_popup", "_to_field", "_facets", "_changelist_filters", "days", "at", "since", "until",
    "actor", "actor_name", "model", "event_type", "rule", "level", "status", "channel", "before", "after", "ids",
    "up_to", "changes__regex", "data__body__contains", "id__in", "pk", "recorded_at__year",
]  # fmt: skip
# Half a surrogate pair cannot be part of an address, and NUL can.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(
        ["", "\0", "-1", "0", "9" * 30, "older-1-1", "newer-9-9", "oldest", "2026-02-30", "7d", "99999999d",
         "0001-01-01", "9999-12-31", "app.product", "auth.user", "no.such", "a.b.c", ".", "..", "[1,2]", "null",
         "%", "+"]
    ),
)  # fmt: skip
QUERIES = st.lists(st.tuples(st.one_of(st.sampled_from(NAMES), TEXTS), TEXTS), max_size=4)


def address(path, query):
    return path + "?" + "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)


PATHS = [
    ADMIN, OUTBOX, f"{ADMIN}dashboard/", f"{OUTBOX}retry/", f"{ADMIN}add/", f"{OUTBOX}add/",
    reverse("admin:autocomplete"), reverse("signal_audit:inbox"), reverse("signal_audit:inbox-messages"),
    reverse("signal_audit:inbox-unread"),
]  # fmt: skip


@given(path=st.sampled_from(PATHS), query=QUERIES)
@FEW
def test_whatever_the_query_string_says(admin_client, path, query):
    assert admin_client.get(address(path, query)).status_code < 500


@given(
    prefix=st.sampled_from([ADMIN, OUTBOX]),
    part=TEXTS,
    rest=st.sampled_from(["", "change/", "revert/", "retry/", "history/", "delete/"]),
    query=QUERIES,
)
@FEW
def test_whatever_the_path_says(admin_client, prefix, part, rest, query):
    path = f"{prefix}{quote(part, safe='')}/{rest}"
    assert admin_client.get(address(path, query)).status_code < 500
    assert admin_client.post(address(path, query)).status_code < 500


@given(label=TEXTS, key=TEXTS, query=QUERIES)
@FEW
def test_whatever_object_is_asked_for(admin_client, label, key, query):
    path = f"{ADMIN}history/{quote(label, safe='')}/{quote(key, safe='')}/"
    assert admin_client.get(address(path, query)).status_code < 500


@given(
    data=st.dictionaries(
        st.sampled_from(["action", "index", "_selected_action", "select_across", "ids", "up_to", "post"]), TEXTS
    ),
    query=QUERIES,
)
@FEW
def test_whatever_is_posted(admin_client, data, query):
    for path in (
        ADMIN,
        OUTBOX,
        f"{OUTBOX}retry/",
        reverse("signal_audit:inbox-mark"),
        reverse("signal_audit:inbox-read"),
    ):
        assert admin_client.post(address(path, query), data).status_code < 500


# PostgreSQL keeps neither NUL nor half a surrogate pair in JSON, so nothing that is stored has them.
STORED = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**25), 10**25), st.floats(allow_nan=False, allow_infinity=False), STORED,
    st.sampled_from(["2026-02-30", "1e400", "sha256:x", "hmac-sha256:x", "\u202e<b>", "9" * 400]),
)  # fmt: skip
KEYS = st.one_of(STORED, st.sampled_from(["$masked", "$digest", "$", "length", "added", "removed", "reason", "extra"]))
JSON = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)), max_leaves=6
)
FIELDS = st.sampled_from(
    ["name", "price", "stock", "attributes", "released", "modified", "photo", "blob", "category", "tags", "id",
     "pictures", "is_superuser", "groups", "no_such_field", "__class__", "pk", ""]
)  # fmt: skip
CHANGES = st.one_of(
    JSON,
    st.dictionaries(
        FIELDS,
        st.one_of(
            JSON,
            st.tuples(JSON, JSON).map(list),
            st.fixed_dictionaries({"added": st.lists(JSON, max_size=2), "removed": st.lists(JSON, max_size=2)}),
        ),
        max_size=4,
    ),
)


def test_a_document_of_sql_with_a_reserved_key_is_shown_whatever_its_shape(admin_client):
    event = AuditEvent.objects.create(
        event_type="odd", source="orm", model="app.product", object_id="1", object_repr="p", recorded_at=NOON
    )
    page = reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,))
    for odd in ({"$digest": None, "length": None}, {"$digest": [1]}, {"$digest": "x", "length": [1]}, {"$masked": {}}):
        store(event, changes={"name": [odd, "x"]}, data={"inner": odd}, context=odd, rules=[odd])
        for url in (ADMIN, page, f"{ADMIN}history/app.product/1/"):
            assert admin_client.get(url).status_code == 200, (odd, url)


@pytest.mark.parametrize("key", ["9" * 40, f"-{'9' * 40}", str(2**63), "-0", "1e5", "0x10", "\uff11"])
@pytest.mark.parametrize("model", ["app.restaurant", "app.product", "auth.user"])
def test_a_key_that_no_column_holds_has_a_history(admin_client, model, key):
    AuditEvent.objects.create(
        event_type="create", source="orm", model=model, object_id=key, object_repr="x", recorded_at=NOON
    )
    page = reverse("admin:django_signal_audit_auditevent_object_history", args=(model, quote(key, safe="")))
    assert admin_client.get(page).status_code == 200


@given(
    changes=CHANGES, data=JSON, context=JSON, rules=JSON,
    model=st.sampled_from(["app.product", "auth.user", "app.line", "app.restaurant", "gone.thing", "odd", "..", ""]),
    key=st.one_of(STORED, st.sampled_from(["1", "[1, 2]", "9" * 40, "\u2026", ".", "a/b"])),
    event_type=st.sampled_from(["create", "update", "delete", "m2m", "baseline", "login", "odd"]),
)  # fmt: skip
@FEW
def test_whatever_is_stored_in_an_event(admin_client, changes, data, context, rules, model, key, event_type):
    event = AuditEvent.objects.create(
        event_type=event_type, source="orm", model=model, object_id=key, object_repr="\u202e<b>", recorded_at=NOON
    )
    store(event, changes=changes, data=data, context=context, rules=rules)
    notification = Notification.objects.create(event=event.uid, rule="all", channel="no such", data=data or {})
    page = reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,))
    pages = [ADMIN, page, page.replace("change/", "revert/"), f"{ADMIN}dashboard/?days=90", OUTBOX]
    pages.append(reverse("admin:django_signal_audit_notification_change", args=(notification.pk,)))
    if model and key:
        history = reverse("admin:django_signal_audit_auditevent_object_history", args=(model, quote(key, safe="")))
        pages += [history, f"{history}?at=2100-01-01"]
    for url in pages:
        assert admin_client.get(url).status_code < 500, url
    assert admin_client.post(page.replace("change/", "revert/")).status_code < 500


def store(event, **documents):
    """Write columns of an event by SQL, as somebody may who has the database."""
    columns = ", ".join(f"{name} = %s" for name in documents)
    values = [json.dumps(value) for value in documents.values()]
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {AuditEvent._meta.db_table} SET {columns} WHERE id = %s", [*values, event.pk])


@given(data=JSON, recipient=STORED, error=STORED, event=st.sampled_from([None, uuid.UUID(int=0)]))
@FEW
def test_whatever_is_stored_in_a_notification(admin_client, admin_user, settings, data, recipient, error, event):
    inbox = {"BACKEND": "django_signal_audit.channels.inbox.InboxChannel", "OPTIONS": {"to": ["superusers"]}}
    settings.SIGNAL_AUDIT = {
        "RULES": [{"name": "all", "model": "app.*", "notify": ["inbox"]}],
        "CHANNELS": {"inbox": inbox},
    }
    kinds = [data, {"events": data}, {"subject": data, "body": data}, {"user": data, "address": data, "to": data}]
    for number, one in enumerate(kinds):
        row = Notification.objects.create(
            event=event, rule="all", channel="inbox", recipient=str(admin_user.pk) if number % 2 else recipient,
            status=["sent", "dead"][number // 2], sent_at=utc_now(), last_error=error, data=one or {},
        )  # fmt: skip
        page = reverse("admin:django_signal_audit_notification_change", args=(row.pk,))
        for url in (page, OUTBOX, reverse("signal_audit:inbox"), reverse("signal_audit:inbox-messages")):
            assert admin_client.get(url).status_code < 500, url
    Notification.objects.all().delete()
