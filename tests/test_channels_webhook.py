from __future__ import annotations

import base64
import datetime as dt
import json
import socket
import ssl
import threading

import pytest
import time_machine
import trustme
from standardwebhooks import Webhook, WebhookVerificationError

from django_signal_audit.channels.webhook import WebhookChannel, wait_seconds
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .notices import audit_settings, make_event, make_notification
from .receivers import receiver

pytestmark = pytest.mark.django_db

WEBHOOK = "django_signal_audit.channels.webhook.WebhookChannel"
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two characters").decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"the one before, nearly as long").decode()


@pytest.fixture
def hook():
    with receiver() as found:
        yield found


@pytest.fixture
def hooked(settings):
    """Put a webhook channel in force."""

    def configure(url, **options):
        options = {"secret": SECRET, "allow_http": True, "allow_private": True, "timeout": 5, **options}
        settings.SIGNAL_AUDIT = audit_settings({"hook": {"BACKEND": WEBHOOK, "OPTIONS": {"url": url, **options}}})

    return configure


def send(**values):
    row = make_notification(channel="hook", **values)
    deliver()
    row.refresh_from_db()
    return row


def again(row):
    Notification.objects.update(status="pending", available_at=row.created)
    deliver()
    row.refresh_from_db()


@pytest.fixture
def names(monkeypatch):
    """Have names of hosts resolve to addresses of the test's choice."""
    real, table = socket.getaddrinfo, {}

    def look_up(host, port, *args, **kwargs):
        answers = table.get(host)
        if answers is None:
            return real(host, port, *args, **kwargs)
        addresses = answers.pop(0) if isinstance(answers[0], list) else answers
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


class TestRequest:
    def test_it_is_signed_by_the_rules_of_standard_webhooks(self, hook, hooked):
        hooked(hook.url("/in?shop=1"), headers={"X-Shop": "tea"})
        row = send(event=make_event(object_repr="Öl"))
        assert row.status == "sent", row.last_error
        (request,) = hook.requests
        assert request.path == "/in?shop=1"
        assert request.headers["Host"] == f"127.0.0.1:{hook.port}"
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["X-Shop"] == "tea"
        assert request.headers["webhook-id"] == row.message_id
        found = Webhook(SECRET).verify(request.body, request.headers)
        assert found["type"] == "app.product.update"
        assert found["data"]["subject"] == "Product “Öl”: Price changed from 10.00 to 9.00"
        assert found["data"]["events"][0]["changes"] == {"price": ["10.00", "9.00"]}

    def test_a_changed_body_is_not_what_was_signed(self, hook, hooked):
        hooked(hook.url())
        send()
        (request,) = hook.requests
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(request.body.replace(b"9.00", b"8.00"), request.headers)

    def test_while_a_secret_is_rotated_either_verifies(self, hook, hooked):
        hooked(hook.url(), secret=[SECRET, OLD_SECRET])
        send()
        (request,) = hook.requests
        for secret in (SECRET, OLD_SECRET):
            assert Webhook(secret).verify(request.body, request.headers)["data"]["rule"] == "watch"
        with pytest.raises(WebhookVerificationError):
            Webhook(base64.b64encode(b"another").decode()).verify(request.body, request.headers)

    def test_each_attempt_has_the_same_id_and_a_time_of_its_own(self, hook, hooked):
        hooked(hook.url())
        with time_machine.travel(dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC), tick=False) as clock:
            hook.status = 500
            row = send()
            hook.status = 200
            clock.shift(dt.timedelta(hours=1))
            again(row)
        first, second = (request.headers for request in hook.requests)
        assert first["webhook-id"] == second["webhook-id"] == row.message_id
        assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 3600
        assert int(first["webhook-timestamp"]) == 1773144000
        assert first["webhook-signature"] != second["webhook-signature"]

    def test_a_masked_value_is_stars_and_its_tag_stays_at_home(self, hook, hooked):
        hooked(hook.url())
        masked = {"$masked": "hmac-sha256:abc"}
        send(event=make_event(changes={"api_token": [None, masked]}, data={"deep": [{"pin": masked}]}))
        (request,) = hook.requests
        assert b"hmac" not in request.body
        (event,) = json.loads(request.body)["data"]["events"]
        assert event["changes"] == {"api_token": [None, "********"]}
        assert event["data"] == {"deep": [{"pin": "********"}]}

    def test_a_digest_counts_all_its_events_and_names_the_first(self, hook, hooked):
        hooked(hook.url())
        events = [make_event(object_id=str(number)) for number in range(120)]
        row = Notification.objects.create(
            rule="watch", channel="hook", data={"events": [str(event.uid) for event in events]}
        )
        deliver()
        row.refresh_from_db()
        assert row.status == "sent", row.last_error
        found = json.loads(hook.requests[0].body)
        assert (found["data"]["count"], len(found["data"]["events"])) == (120, 100)
        assert found["type"] == "app.product.update"


class TestAnswers:
    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_what_passes_is_tried_again(self, hook, hooked, status):
        hooked(hook.url())
        hook.status, hook.text = status, "come back\nlater"
        row = send()
        assert (row.status, row.last_error) == ("failed", f"It answered {status}: come back later")

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
    def test_what_would_be_refused_again_is_given_up(self, hook, hooked, status):
        hooked(hook.url())
        hook.status = status
        row = send()
        assert (row.status, row.attempts) == ("dead", 1)
        assert row.last_error.startswith(f"It answered {status}")

    def test_retry_after_is_honoured(self, hook, hooked):
        hooked(hook.url())
        hook.status, hook.headers = 429, {"Retry-After": "3600"}
        with time_machine.travel(dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC), tick=False):
            row = send()
        assert row.available_at == dt.datetime(2026, 3, 10, 13, tzinfo=dt.UTC)

    @pytest.mark.parametrize(
        ("text", "attempt", "seconds"),
        [
            ("90", 1, 90),
            ("Tue, 10 Mar 2026 12:30:00 GMT", 1, 1800),
            ("Tue, 10 Mar 2026 11:30:00 GMT", 3, 8),
            ("0", 1, 2),
            ("999999999", 1, 86400),
            ("", 1, None),
            ("soon", 1, None),
            ("-5", 1, None),
            ("٣", 1, None),
            ("9" * 5000, 1, None),
        ],
    )
    def test_retry_after_is_read_and_clamped(self, text, attempt, seconds):
        with time_machine.travel(dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC), tick=False):
            assert wait_seconds(text, attempt) == seconds

    def test_a_redirect_is_followed_nowhere(self, hook, hooked):
        hooked(hook.url())
        hook.status, hook.headers = 307, {"Location": hook.url("/private")}
        row = send()
        assert row.status == "dead"
        assert "a redirect, and none is followed" in row.last_error
        assert [request.path for request in hook.requests] == ["/hook"]

    def test_of_a_long_answer_little_is_kept(self, hook, hooked):
        hooked(hook.url())
        hook.status, hook.text = 500, "x" * 1_000_000
        assert len(send().last_error) < 300


class TestNetwork:
    def test_a_receiver_that_is_down_is_tried_again(self, hooked):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        hooked(f"http://127.0.0.1:{port}/hook")
        row = send()
        assert row.status == "failed"
        assert row.last_error.startswith("127.0.0.1 could not be reached: ConnectionRefusedError")

    def test_a_name_that_cannot_be_looked_up_is_tried_again(self, hooked):
        hooked("https://no-such-host.invalid/hook")
        assert send().status == "failed"

    def test_one_that_never_answers_is_left_after_the_timeout(self, hook, hooked):
        hooked(hook.url(), timeout=0.2)
        over = threading.Event()
        hook.pause = lambda _: over.wait(10)
        try:
            row = send()
        finally:
            over.set()
        assert (row.status, row.last_error) == ("failed", "127.0.0.1 did not answer within 0.2 s.")

    def test_one_that_lets_its_answer_drip_is_cut_off_at_the_same_moment(self, hook, hooked):
        hooked(hook.url(), timeout=0.3)
        over = threading.Event()

        def drip(handler):
            while not over.wait(0.05):
                handler.wfile.write(b"HTTP/1.0 200 OK"[:1])
                handler.wfile.flush()

        hook.pause = drip
        try:
            row = send()
        finally:
            over.set()
        assert (row.status, row.last_error) == ("failed", "127.0.0.1 did not answer within 0.3 s.")

    def test_one_that_hangs_up_is_tried_again(self, hook, hooked):
        hooked(hook.url())
        hook.pause = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
        assert send().status == "failed"

    def test_the_next_address_is_tried_if_one_does_not_answer(self, hook, hooked, names):
        names["shop.example"] = ["127.0.0.2", "127.0.0.1"]
        hooked(hook.url(host="shop.example"))
        assert send().status == "sent"
        assert hook.requests[0].headers["Host"] == f"shop.example:{hook.port}"


class TestAddresses:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"])
    def test_this_machine_is_refused(self, hook, hooked, host):
        hooked(hook.url(host=host), allow_private=False)
        row = send()
        assert row.status == "dead"
        assert "is not on the Internet" in row.last_error
        assert hook.requests == []

    @pytest.mark.parametrize(
        "address",
        [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "fe80::1",
            "fc00::1",
            "fec0::1",
            "ff02::1",
            "::7f00:1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
        ],
    )
    def test_a_name_that_resolves_to_a_private_address_is_refused(self, hooked, names, address):
        names["innocent.example"] = [address]
        hooked("https://innocent.example/hook", allow_private=False)
        row = send()
        assert row.status == "dead"
        assert row.last_error.startswith(f"innocent.example is {address}, which is not on the Internet.")

    def test_what_was_checked_is_what_is_connected_to(self, hook, hooked, names):
        """A name that resolves to another address the second time is not asked a second time."""
        names["rebind.example"] = [["127.0.0.1"], ["127.0.0.9"]]
        hooked(hook.url(host="rebind.example"), allow_private=["127.0.0.1/32"])
        assert send().status == "sent"
        assert names["rebind.example"] == [["127.0.0.9"]]

    def test_of_several_addresses_only_the_allowed_ones_are_used(self, hook, hooked, names):
        names["mixed.example"] = ["127.0.0.2", "127.0.0.1"]
        hooked(hook.url(host="mixed.example"), allow_private="127.0.0.1/32")
        assert send().status == "sent"

    def test_a_network_that_is_allowed_lets_no_other_in(self, hook, hooked):
        hooked(hook.url(), allow_private=["10.0.0.0/8"])
        assert send().status == "dead"


class TestTLS:
    @pytest.fixture
    def tls(self, monkeypatch, tmp_path):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("shop.example").configure_cert(context)
        with receiver(context) as found:
            yield found

    def test_the_certificate_is_the_names_though_the_connection_is_to_an_address(self, tls, hooked, names):
        names["shop.example"] = names["evil.example"] = ["127.0.0.1"]
        hooked(tls.url(host="shop.example", scheme="https"), allow_http=False)
        row = send()
        assert row.status == "sent", row.last_error
        hooked(tls.url(host="evil.example", scheme="https"))
        row = send()
        assert row.status == "failed"
        assert "SSLCertVerificationError" in row.last_error

    def test_a_handshake_that_hangs_is_cut_off(self, hooked):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            hooked(f"https://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.2)
            row = send()
        assert (row.status, row.last_error) == ("failed", "127.0.0.1 did not answer within 0.2 s.")


class TestSecrets:
    def test_what_a_receiver_repeats_of_ours_is_hidden(self, hook, hooked):
        hooked(
            hook.url("/services/T024-XYZ-TOKEN?key=k-1234567"),
            secret=[SECRET, OLD_SECRET],
            headers={"X-Auth": "let-me"},
        )
        hook.status = 500
        hook.text = f"no /services/T024-XYZ-TOKEN?key=k-1234567 for let-me {SECRET} {OLD_SECRET}"
        row = send()
        for secret in ("T024", "k-1234567", "let-me", SECRET, OLD_SECRET):
            assert secret not in row.last_error
        assert row.last_error.startswith("It answered 500: no /********/********")

    def test_the_log_has_none_either(self, hook, hooked, caplog):
        hooked(hook.url("/services/T024-XYZ-TOKEN"), headers={"Authorization": "Bearer abcdef"})
        hook.status, hook.text = 403, f"Bearer abcdef {SECRET} /services/T024-XYZ-TOKEN"
        send()
        assert caplog.records
        for secret in ("abcdef", SECRET, "T024"):
            assert secret not in caplog.text

    def test_plain_http_is_not_spoken_unless_allowed_even_if_nobody_ran_the_checks(self, hook, hooked):
        hooked(hook.url(), allow_http=False)
        row = send()
        assert row.status == "dead"
        assert "isn't https" in row.last_error
        assert hook.requests == []


class TestCheck:
    def check(self, **options):
        options = {"url": "https://e.org/hook", "secret": SECRET, **options}
        found = WebhookChannel("hook", {name: value for name, value in options.items() if value is not None}).check()
        assert all(problem.id == "django_signal_audit.E015" and problem.hint for problem in found)
        return " ".join(f"{problem.msg} {problem.hint}" for problem in found)

    def test_right_options_are_no_problem(self):
        assert (
            self.check(
                secret=[SECRET, OLD_SECRET],
                to="erp",
                timeout=2.5,
                headers={"Authorization": "Bearer x"},
                allow_private=["10.0.0.0/8", "fd00::/8"],
            )
            == ""
        )
        assert self.check(url="http://[::1]:8000/", allow_http=True, allow_private=True) == ""

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"url": None}, '["url"] is missing'),
            ({"url": "ftp://e.org/"}, '["url"] must be an http or https URL'),
            ({"url": "https:///hook"}, '["url"] must be'),
            ({"url": "https://e.org:99999/"}, '["url"] must be'),
            ({"url": "https://e.org/a b"}, '["url"] must be'),
            ({"url": "https://e.org/\r\nX: y"}, '["url"] must be'),
            ({"url": "https://exämple.org/"}, '["url"] must be'),
            ({"url": "http://e.org/"}, "isn't https"),
            ({"secret": None}, '["secret"] is missing'),
            ({"secret": []}, '["secret"] must be a secret such as'),
            ({"secret": "whsec_no base64!"}, '["secret"] has one that is not base64'),
            ({"secret": [SECRET, "whsec_"]}, '["secret"] has one that is not base64'),
            ({"timeout": 0}, '["timeout"] must be seconds'),
            ({"timeout": True}, '["timeout"] must be seconds'),
            ({"timeout": 600}, '["timeout"] must be seconds'),
            ({"headers": {"X-A": "b\r\nX-C: d"}}, '["headers"] must be a dict of header names'),
            ({"headers": {"X A": "b"}}, '["headers"] must be'),
            ({"headers": {"Webhook-Id": "1"}}, "has 'Webhook-Id', which the channel sets itself"),
            ({"headers": {"host": "x"}}, "has 'host', which the channel sets itself"),
            ({"allow_private": "10.0.0.1/8"}, '["allow_private"] must be True, False, or a list'),
            ({"allow_private": 1}, '["allow_private"] must be'),
            ({"allow_http": "yes"}, '["allow_http"] must be True or False'),
            ({"urls": "https://e.org"}, "Did you mean 'url'?"),
        ],
    )
    def test_wrong_ones_are_named(self, options, expected):
        assert expected in self.check(**options)

    @pytest.mark.parametrize(
        "options",
        [
            {"url": "https://bob:hunter22@e.org/"},
            {"secret": ["whsec_hunter22!"]},
            {"headers": {"X-Auth": "hunter22\n"}},
            {"secret": {"hunter22": 1}},
        ],
    )
    def test_no_problem_shows_a_secret(self, options):
        found = self.check(**options)
        assert found
        assert "hunter22" not in found
