"""A channel that keeps an order: messages about one object to one recipient go out as their events came."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import override_settings

from django_signal_audit import record
from django_signal_audit.checks import check_plugins
from django_signal_audit.delivery import outbox
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now
from tests.app.models import Tag

from .notices import HERE, INBOX, audit_settings, calling, receiving
from .processes import stage

LATER = dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def messages(settings: Any) -> Any:
    settings.SIGNAL_AUDIT = ordered()
    with receiving() as messages:
        yield messages


def ordered(*entries: Any, dispatcher: str = stage.WORKER) -> dict[str, Any]:
    channels = {
        "in-order": calling("take", ordered=True, check_permission=False),
        "inbox-in-order": {"BACKEND": INBOX, "OPTIONS": {"ordered": True}},
    }
    rule = {"name": "tags", "model": "app.Tag", "notify": entries or ["in-order"], "subject": "{{ new.name }}"}
    return {**audit_settings(channels), "RULES": [rule], "DISPATCHER": dispatcher}


def claim() -> list[int]:
    return [row.pk for row in outbox.claim("default", limit=50, channel="in-order", is_ordered=True)]


def subjects(messages: Any) -> list[str]:
    return [message.subject for message in messages]


@pytest.mark.django_db
class TestOneAfterAnother:
    def test_of_an_object_only_the_first_can_be_claimed_and_of_others_theirs(self):
        tag, _other = Tag.objects.create(name="1"), Tag.objects.create(name="other")
        Tag.objects.filter(pk=tag.pk).update(name="2")
        first, others, second = Notification.objects.order_by("pk")
        assert claim() == [first.pk, others.pk]
        assert claim() == []
        first.refresh_from_db()
        assert outbox.finish(first, "sent")
        assert claim() == [second.pk]

    def test_one_that_failed_is_waited_for_until_it_is_sent(self, messages, monkeypatch):
        tag = Tag.objects.create(name="1")
        tag.name = "2"
        tag.save()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"{HERE}.take", fail)
            assert deliver().failed == 1
        assert deliver().attempted == 0
        Notification.objects.filter(status="failed").update(available_at=utc_now())
        assert deliver().sent == 2
        assert subjects(messages) == ["1", "2"]

    @pytest.mark.parametrize("status", ["dead", "skipped", "sent"])
    def test_what_is_over_holds_up_nothing(self, status):
        Tag.objects.create(name="1").delete()
        first, second = Notification.objects.order_by("pk")
        (row,) = outbox.claim("default", limit=5, channel="in-order", is_ordered=True)
        assert row == first
        outbox.finish(row, status)
        assert claim() == [second.pk]
        # Sent again by hand, it comes late and waits for nobody.
        Notification.objects.filter(pk=first.pk).exclude(status="sent").retry()
        assert claim() == ([] if status == "sent" else [first.pk])

    def test_one_that_no_worker_knows_is_waited_for_while_a_deploy_may_take(self):
        Tag.objects.create(name="1").delete()
        first, second = Notification.objects.order_by("pk")
        for minutes, expected in ((30, [first.pk]), (90, [first.pk, second.pk])):
            since = utc_now() - dt.timedelta(minutes=minutes)
            Notification.objects.filter(pk=first.pk).update(unknown_since=since, status="pending")
            Notification.objects.filter(pk=second.pk).update(status="pending")
            Notification.objects.update(available_at=utc_now())
            assert claim() == expected

    def test_a_critical_one_waits_too(self, messages, settings):
        rules = [
            {"name": "info", "model": "app.Tag", "events": ["create"], "notify": ["in-order"]},
            {"name": "critical", "model": "app.Tag", "events": ["delete"], "level": "critical", "notify": ["in-order"]},
        ]
        settings.SIGNAL_AUDIT = {**ordered(), "RULES": rules}
        Tag.objects.create(name="1").delete()
        deliver()
        assert [message.rule for message in messages] == ["info", "critical"]

    def test_events_of_your_own_too(self, messages):
        settings = ordered()
        settings["RULES"] = [{"name": "told", "events": ["told"], "notify": ["in-order"]}]
        with override_settings(SIGNAL_AUDIT=settings):
            for _ in range(5):
                record("told")
            assert len(claim()) == 1

    def test_a_message_about_many_waits_for_each_of_them_and_they_for_it(self, messages):
        one, two = Tag.objects.create(name="1"), Tag.objects.create(name="2")
        Tag.objects.filter(pk__in=[one.pk, two.pk]).update(name="both")
        one.name = "3"
        one.save()
        third = Tag.objects.create(name="third")
        first, second, both, later, others = Notification.objects.order_by("pk")
        assert (both.data["count"], others.event is not None, third.pk > 0) == (2, True, True)
        assert claim() == [first.pk, second.pk]
        for row in (first, second):
            row.refresh_from_db()
            outbox.finish(row, "sent")
        assert claim() == [both.pk]
        both.refresh_from_db()
        outbox.finish(both, "sent")
        assert claim() == [later.pk, others.pk]

    def test_a_channel_without_it_waits_for_nothing(self, settings):
        settings.SIGNAL_AUDIT = ordered("take")
        Tag.objects.create(name="1").delete()
        assert set(Notification.objects.values_list("order_key", "order_no")) == {("", 0)}
        assert len(outbox.claim("default", limit=5, channel="take")) == 2

    def test_a_digest_has_an_order_of_its_own(self, settings):
        settings.SIGNAL_AUDIT = ordered({"channel": "in-order", "digest": "1h"})
        Tag.objects.create(name="1")
        assert Notification.objects.get().order_key == ""


@pytest.mark.django_db
class TestPeople:
    @pytest.fixture(autouse=True)
    def buyers(self, settings):
        settings.SIGNAL_AUDIT = ordered({"channel": "inbox-in-order", "to": "group:Buyers"})
        group = Group.objects.create(name="Buyers")
        for name in ("ann", "bob"):
            group.user_set.add(User.objects.create(username=name, is_superuser=True))

    def test_each_gets_theirs_in_order_however_late_a_message_is_expanded(self):
        tag = Tag.objects.create(name="1")
        tag.name = "2"
        tag.save()
        deliver(limit=1)
        ann, bob = User.objects.order_by("username")
        rows = Notification.objects.order_by("order_no", "pk")
        assert [(row.recipient, row.order_no == rows[0].order_no) for row in rows] == [
            (str(ann.pk), True),
            (str(bob.pk), True),
            ("group:Buyers", False),
        ]
        # Whoever comes first in the group the next time, what was written before goes first.
        Group.objects.get().user_set.remove(ann)
        Notification.objects.filter(recipient=str(bob.pk)).update(available_at=utc_now() + LATER)
        deliver()
        assert Notification.objects.filter(status="sent").count() == 1
        Notification.objects.filter(recipient=str(bob.pk)).update(available_at=utc_now())
        deliver()
        sent = Notification.objects.filter(recipient=str(bob.pk)).order_by("sent_at", "order_no")
        assert [row.subject for row in sent] == ["1", "2"]
        assert not Notification.objects.exclude(order_key="").exists()


@pytest.mark.django_db(transaction=True)
def test_the_default_dispatcher_sends_all_of_a_commit_in_order(messages, settings):
    settings.SIGNAL_AUDIT = ordered(dispatcher="django_signal_audit.dispatchers.OnCommitDispatcher")
    with transaction.atomic():
        tag = Tag.objects.create(name="1")
        for name in ("2", "3"):
            tag.name = name
            tag.save()
    assert subjects(messages) == ["1", "2", "3"]


def test_the_option_is_a_switch():
    with override_settings(SIGNAL_AUDIT=audit_settings({"it": calling("take", ordered="yes")})):
        (problem,) = check_plugins()
        assert 'OPTIONS"]["ordered"] must be True or False' in problem.msg


def fail(message: Any) -> None:
    raise ValueError("not now")


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_three_workers_keep_the_order_of_few_objects(tmp_path: Path, concurrency: int, record_property: Any) -> None:
    path = str(tmp_path / "arrived")
    report = stage.run(
        "orders",
        databases=stage.databases(tmp_path),
        audit={
            "RULES": [{"name": "tags", "model": "app.Tag", "notify": ["in-order"]}],
            "CHANNELS": {
                "in-order": {
                    "BACKEND": "tests.processes.orders.OrderedChannel",
                    "OPTIONS": {"path": path, "ordered": True},
                }
            },
            "DISPATCHER": stage.WORKER,
        },
        path=path,
        objects=5,
        rounds=stage.choose(31, 121),
        workers=3,
        concurrency=concurrency,
    )
    record_property("order", report)
    assert report["late"] == 0
    assert report["statuses"] == ["sent"]
    assert report["waiting"] == 0
    assert report["sent"] > 150
    assert report["retried"] > 5
