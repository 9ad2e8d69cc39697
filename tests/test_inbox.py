from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.urls import include, path, reverse
from django.utils import timezone

from django_signal_audit.models import Notification

from .notices import INBOX, audit_settings, make_event

pytestmark = pytest.mark.django_db

PAGE = reverse("signal_audit:inbox")
MARK = reverse("signal_audit:inbox-mark")
MESSAGES = reverse("signal_audit:inbox-messages")
UNREAD = reverse("signal_audit:inbox-unread")
READ = reverse("signal_audit:inbox-read")

HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture(autouse=True)
def rules(settings):
    settings.SIGNAL_AUDIT = audit_settings(channels={"inbox": {"BACKEND": INBOX}, "desk": {"BACKEND": INBOX}})


@pytest.fixture
def ada(client):
    user = User.objects.create_user("ada")
    client.force_login(user)
    return user


def message(user, text="Oil", **values):
    given = {"channel": "inbox", "status": "sent", "sent_at": timezone.now(), **values}
    data = {"subject": text, "body": f"{text} changed"}
    return Notification.objects.create(event=make_event().uid, rule="watch", recipient=str(user.pk), data=data, **given)


def text_of(response):
    assert response.status_code == 200
    return response.content.decode()


def subjects(client, query=""):
    return [found["subject"] for found in client.get(f"{MESSAGES}?{query}").json()["messages"]]


def post_json(client, said, **extra):
    return client.post(READ, said if isinstance(said, str) else json.dumps(said), "application/json", **extra)


class Elements(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


class TestWhose:
    def test_only_his_own_and_only_what_was_sent_to_an_inbox(self, client, ada):
        bob = User.objects.create_user("bob")
        message(ada, "hers")
        message(ada, "at the desk", channel="desk")
        message(bob, "his")
        message(ada, "not yet", status="pending")
        message(ada, "elsewhere", channel="take")
        assert subjects(client) == ["at the desk", "hers"]
        assert client.get(UNREAD).json() == {"unread": 2}
        text = text_of(client.get(PAGE))
        assert "hers changed" in text
        for other in ("his changed", "not yet", "elsewhere"):
            assert other not in text

    def test_nobody_marks_what_is_somebody_elses(self, client, ada):
        his = message(User.objects.create_user("bob"))
        assert post_json(client, {"ids": [his.pk], "up_to": his.pk}).json() == {"marked": 0, "unread": 0}
        client.post(MARK, {"ids": his.pk})
        his.refresh_from_db()
        assert (his.read_at, his.seen_at) == (None, None)

    @pytest.mark.parametrize("address", [PAGE, MARK])
    def test_pages_ask_for_a_login(self, client, address):
        response = client.get(address) if address == PAGE else client.post(address, {"ids": 1})
        assert response.status_code == 302
        assert response.url.startswith("/accounts/login/")

    def test_json_says_so(self, client):
        for response in (client.get(MESSAGES), client.get(UNREAD), post_json(client, {"ids": [1]})):
            assert (response.status_code, response.json()) == (401, {"error": "Log in first."})

    def test_a_channel_that_cannot_be_made_is_no_inbox(self, client, ada, settings):
        settings.SIGNAL_AUDIT = audit_settings(channels={"inbox": {"BACKEND": INBOX}, "gone": {"BACKEND": "no.such"}})
        message(ada)
        assert subjects(client) == ["Oil"]


class TestMarking:
    def test_what_is_shown_is_seen_and_what_is_marked_is_read(self, client, ada):
        shown = message(ada)
        assert client.get(UNREAD).json() == {"unread": 1}
        shown.refresh_from_db()
        assert shown.seen_at is None
        client.get(PAGE)
        shown.refresh_from_db()
        assert shown.seen_at is not None
        assert shown.read_at is None
        seen_at = shown.seen_at
        client.get(MESSAGES)
        assert client.post(MARK, {"ids": shown.pk}).url == PAGE
        shown.refresh_from_db()
        assert shown.seen_at == seen_at
        assert shown.read_at is not None
        assert client.get(UNREAD).json() == {"unread": 0}

    def test_the_time_of_the_first_reading_stays(self, client, ada):
        found = message(ada)
        post_json(client, {"ids": [found.pk]})
        found.refresh_from_db()
        read_at = found.read_at
        assert post_json(client, {"ids": [found.pk]}).json() == {"marked": 0, "unread": 0}
        found.refresh_from_db()
        assert found.read_at == read_at

    def test_all_up_to_the_newest_that_was_shown(self, client, ada):
        shown = [message(ada) for _ in range(3)]
        late = message(ada, "came meanwhile")
        assert post_json(client, {"up_to": shown[-1].pk}).json() == {"marked": 3, "unread": 1}
        late.refresh_from_db()
        assert late.read_at is None

    def test_a_form_goes_back_to_the_page_it_was_on(self, client, ada):
        found = message(ada)
        assert client.post(f"{MARK}?before=900", {"ids": [found.pk]}).url == f"{PAGE}?before=900"

    @pytest.mark.parametrize(
        "said",
        [
            "{", "[]", "7", {}, {"ids": []}, {"ids": "7"}, {"ids": [True]}, {"ids": [1.5]}, {"ids": ["x"]},
            {"ids": [[1]]}, {"ids": [-1]}, {"ids": [2**63]}, {"ids": ["9" * 5000]}, {"up_to": {}}, {"ids": [1] * 1001},
            "[" * 200_000,
        ],
        ids=str,
    )  # fmt: skip
    def test_what_cannot_be_meant_is_refused(self, client, ada, said):
        response = post_json(client, said)
        assert response.status_code == 400
        assert response.json()["error"]

    @pytest.mark.parametrize("address", [PAGE, MESSAGES])
    @pytest.mark.parametrize("query", ["before=x", "after=-1", "before=1e3", "after=99999999999999999999", "before=²"])
    def test_cursors_that_are_none_are_refused(self, client, ada, address, query):
        assert client.get(f"{address}?{query}").status_code == 400

    def test_the_largest_key_finds_nothing_and_breaks_nothing(self, client, ada):
        message(ada)
        assert subjects(client, f"after={2**63 - 1}") == []
        assert subjects(client, f"before={2**63 - 1}") == ["Oil"]
        assert post_json(client, {"ids": [2**63 - 1]}).json()["marked"] == 0


class TestRequests:
    def test_marking_takes_the_token(self, ada):
        client = Client(enforce_csrf_checks=True)
        client.force_login(ada)
        found = message(ada)
        assert post_json(client, {"ids": [found.pk]}).status_code == 403
        assert client.post(MARK, {"ids": found.pk}).status_code == 403
        client.get(PAGE)
        token = client.cookies["csrftoken"].value
        assert post_json(client, {"ids": [found.pk]}, headers={"X-CSRFToken": token}).json()["marked"] == 1
        assert client.post(MARK, {"ids": found.pk, "csrfmiddlewaretoken": token}).status_code == 302

    def test_reading_does_not_post_and_marking_does_not_get(self, client, ada):
        assert [client.post(address).status_code for address in (PAGE, MESSAGES, UNREAD)] == [405] * 3
        assert [client.get(address).status_code for address in (MARK, READ)] == [405] * 2

    def test_nobody_keeps_a_copy(self, client, ada):
        for address in (PAGE, MESSAGES, UNREAD):
            assert "no-store" in client.get(address)["Cache-Control"], address

    def test_what_a_message_is_in_json(self, client, ada):
        found = message(ada)
        [shown] = client.get(MESSAGES).json()["messages"]
        assert shown.pop("seen_at")
        assert shown.pop("sent_at")
        why = "You're receiving this because the rule watch notifies you."
        assert shown == {
            "id": found.pk, "subject": "Oil", "body": "Oil changed", "rule": "watch", "read_at": None,
            "reason": f"{why} To stop these messages, change your notification preferences.",
        }  # fmt: skip


class TestPaging:
    def test_from_the_newest_to_the_oldest_and_back(self, client, ada):
        keys = [message(ada, str(number)).pk for number in range(45)]
        pages, query = [], ""
        while True:
            answer = client.get(f"{MESSAGES}?{query}").json()
            pages.append([found["id"] for found in answer["messages"]])
            if answer["older"] is None:
                break
            query = f"before={answer['older']}"
        assert [len(page) for page in pages] == [20, 20, 5]
        assert [key for page in pages for key in page] == keys[::-1]
        back = client.get(f"{MESSAGES}?after={answer['newer']}").json()
        assert [found["id"] for found in back["messages"]] == pages[1]
        first = client.get(f"{MESSAGES}?after={back['newer']}").json()
        assert [found["id"] for found in first["messages"]] == pages[0]
        assert first["newer"] is None

    def test_what_comes_meanwhile_moves_nothing(self, client, ada):
        for number in range(25):
            message(ada, str(number))
        older = client.get(MESSAGES).json()["older"]
        message(ada, "late")
        assert subjects(client, f"before={older}") == ["4", "3", "2", "1", "0"]

    def test_the_page_has_the_links_and_they_lead_on(self, client, ada):
        for number in range(21):
            message(ada, f"number {number}")
        text = text_of(client.get(PAGE))
        [older] = [attributes["href"] for tag, attributes in Elements(text).found if attributes.get("rel") == "next"]
        assert "number 0 " not in text
        text = text_of(client.get(older))
        assert "number 0 " in text
        [newer] = [attributes["href"] for tag, attributes in Elements(text).found if attributes.get("rel") == "prev"]
        assert "number 20 " in text_of(client.get(newer))

    def test_it_takes_as_few_queries_for_many_as_for_one(self, client, ada, django_assert_max_num_queries):
        for _ in range(20):
            message(ada)
        with django_assert_max_num_queries(8):  # session, user, messages, seen, events, two of permissions, unread
            client.get(PAGE)


class TestPage:
    def test_what_somebody_typed_is_shown_as_text(self, client, ada):
        message(ada, HOSTILE)
        text = text_of(client.get(PAGE))
        assert "<script>" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;" in text

    def test_neither_scripts_nor_styles_nor_handlers_stand_in_it(self, client, ada):
        message(ada)
        message(ada, read_at=timezone.now())
        found = Elements(text_of(client.get(PAGE))).found
        assert "style" not in {tag for tag, _ in found}
        assert all(attributes.get("src") for tag, attributes in found if tag == "script")
        assert not [name for _, attributes in found for name in attributes if name == "style" or name.startswith("on")]

    def test_an_empty_one_says_so(self, client, ada):
        text = text_of(client.get(PAGE))
        assert "No messages." in text
        assert "<form" not in text

    def test_included_under_another_name(self, ada, settings):
        settings.ROOT_URLCONF = __name__
        client = Client()
        client.force_login(ada)
        found = message(ada)
        assert 'action="/post/read/"' in text_of(client.get("/post/"))
        assert client.post("/post/read/", {"ids": found.pk}).url == "/post/"


urlpatterns = [
    path("inbox/", include("django_signal_audit.urls")),
    path("post/", include("django_signal_audit.urls", namespace="post")),
]


class TestTag:
    template = Template("{% load audit_inbox %}{% audit_unread_count as unread %}{{ unread }}")

    def shown(self, user):
        request = RequestFactory().get("/")
        if user is not None:
            request.user = user
        return self.template.render(Context({"request": request}))

    def test_the_number_of_unread_messages(self, ada):
        message(ada)
        message(ada, read_at=timezone.now())
        assert self.shown(ada) == "1"

    def test_nobody_has_none(self, ada):
        message(ada)
        assert self.shown(AnonymousUser()) == "0"
        assert self.shown(None) == "0"
        assert self.template.render(Context()) == "0"

    def test_it_counts_no_further_than_somebody_cares(self, ada):
        Notification.objects.bulk_create(
            Notification(rule="watch", channel="inbox", recipient=str(ada.pk), status="sent") for _ in range(1003)
        )
        assert self.shown(ada) == "1000"
