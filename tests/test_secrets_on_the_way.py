"""Secrets in paths of requests, in what channels report, and in what visitors send too much of."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import quopri
import sys
import textwrap
import unicodedata
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from django.core import serializers
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import include, path, re_path
from django.utils.functional import SimpleLazyObject
from django.views.generic import DetailView

from django_signal_audit import audit_context, record
from django_signal_audit.context.clients import clean_path, client_ip
from django_signal_audit.context.scopes import context_scope
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.testing import fake_notifications

from .app.models import Product, Tag
from .conftest import Audit, last
from .model_admins import registered
from .notices import calling
from .vault.models import Token

TOKEN = "c9x4ue-8f14e45fceea167a5a36dedd4bea2543"


def make_tag(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    Tag.objects.create(name="x")
    return HttpResponse("ok")


class Upper:
    regex = "[A-Z0-9-]+"

    def to_python(self, value: str) -> str:
        return value.lower()

    def to_url(self, value: str) -> str:
        return value.upper()


from django.urls import converters  # noqa: E402

if "shouted" not in converters.get_converters():
    converters.register_converter(Upper, "shouted")


class TagView(DetailView):
    queryset = Tag.objects.all()


urlpatterns = [
    path("keys/<str:pk>/", DetailView.as_view(model=Token)),
    path("tags/<str:pk>/", TagView.as_view()),
    path("reset/<uidb64>/<token>/", make_tag, name="password_reset_confirm"),
    path("shout/<shouted:api_token>/", make_tag),
    re_path(r"^confirm-email/(?P<key>[-:\w]+)/$", make_tag, name="account_confirm_email"),
    re_path(r"^password/old/([^/]+)/$", make_tag, name="reset_by_position"),
    path("api/<slug:session_key>/", include([path("items/<int:pk>/", make_tag)])),
    path("products/<slug:code>/<int:pk>/", make_tag, name="product"),
    path("signed/<str:sig>/<signature>/", make_tag),
    path("enter/<magic>/", make_tag),
    path("files/<share>/", make_tag),
    path("cas/<ticket>/", make_tag),
    path("l/<t>/", make_tag),
    path("invitations/<uuid:pk>/accept/", make_tag),
    path("orders/<uuid:pk>/", make_tag),
    path("users/<id>/password/", make_tag),
    path("login/<code>/", make_tag),
    path("login/help/<slug:slug>/", make_tag),
    path("2fa/<str:code>/", make_tag),
    path("verify-email/<str:data>/", make_tag),
    path("unsubscribe/<path:rest>/", make_tag),
    path("calendar/<uuid:uuid>.ics", make_tag),
    path("calendar/<int:year>/<slug:month>/", make_tag),
    path("download/<str:key>/", make_tag),
    path("proxy/<path:url>", make_tag),
]

SECRET_PATHS = [
    (f"/reset/MQ/{TOKEN}/", "/reset/********/********/"),
    (f"/reset/MQ/{TOKEN}", "/reset/********/********"),
    (f"/shout/{TOKEN.upper()}/", "/shout/********/"),
    (f"/confirm-email/MQ:{TOKEN}/", "/confirm-email/********/"),
    (f"/password/old/{TOKEN}/", "/password/old/********/"),
    (f"/api/{TOKEN}/items/3/", "/api/********/items/3/"),
    (f"/nowhere/{TOKEN}/", "/nowhere/********/"),
    ("/login/493812/", "/login/********/"),
    ("/login/help/forgotten/", "/login/help/forgotten/"),
    ("/2fa/493812/", "/2fa/********/"),
    (f"/verify-email/{TOKEN}/", "/verify-email/********/"),
    ("/verify-email/again/", "/verify-email/again/"),
    (f"/unsubscribe/list/{TOKEN}/", "/unsubscribe/********/"),
    ("/calendar/0192f0c1-aaaa-7bbb-8ccc-1234567890ab.ics", "/calendar/********.ics"),
    ("/calendar/2024/january/", "/calendar/2024/january/"),
    (f"/download/{TOKEN}/", "/download/********/"),
    ("/download/annual-report-2024/", "/download/annual-report-2024/"),
    (f"/proxy/https://ann:{TOKEN}@x.example/a", "/proxy/https://ann:********@x.example/a"),
    ("/signed/abc/def/", "/signed/********/********/"),
    ("/enter/sesame/", "/enter/********/"),
    ("/files/aB3dE9xQ/", "/files/********/"),
    ("/cas/ST-1856339-aA5Yuvrxz/", "/cas/********/"),
    ("/l/x7Kp2/", "/l/********/"),
    ("/invitations/0192f0c1-aaaa-7bbb-8ccc-1234567890ab/accept/", "/invitations/********/accept/"),
    ("/reset/MQ/c9x-4ue/old/", "/reset/********/********/********/"),
    ("/account/verify/4938/", "/account/verify/********/"),
    ("/magic/sesame", "/magic/********"),
    ("/invitations/sesame/accept/", "/invitations/********/accept/"),
    ("/Unsubscribe/42", "/Unsubscribe/********"),
    ("/password/reset/confirm/", "/password/reset/confirm/"),
    ("/api/token/refresh", "/api/token/refresh"),
    ("/accounts/password/password-reset/users/", "/accounts/password/password-reset/users/"),
    ("/files/42/", "/files/42/"),
    ("/files/annual-report-2024/", "/files/annual-report-2024/"),
    ("/cas/TCK-123/", "/cas/TCK-123/"),
    ("/l/books/", "/l/books/"),
    ("/orders/0192f0c1-aaaa-7bbb-8ccc-1234567890ab/", "/orders/0192f0c1-aaaa-7bbb-8ccc-1234567890ab/"),
    ("/users/0192f0c1-aaaa-7bbb-8ccc-1234567890ab/password/", "/users/0192f0c1-aaaa-7bbb-8ccc-1234567890ab/password/"),
    ("/nowhere/4938/", "/nowhere/4938/"),
    ("/products/green-tea-2024/7/", "/products/green-tea-2024/7/"),
    ("/nowhere/an-article-about-tea-2024/", "/nowhere/an-article-about-tea-2024/"),
]


def everything_written() -> str:
    return serializers.serialize("json", [*AuditEvent.objects.all(), *Notification.objects.all()])


@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.parametrize(("asked", "kept"), SECRET_PATHS)
def test_paths_have_stars_for_their_secrets(audit: Audit, client: Client, asked: str, kept: str) -> None:
    rules = [{"name": "tags", "model": "app.Tag"}, {"name": "requests", "events": ["request"]}]
    audit(*rules)
    client.get(f"{asked}?token={TOKEN}", HTTP_REFERER=f"http://x/{asked}")
    paths = {event.context["request"]["path"] for event in AuditEvent.objects.all()}
    assert paths == {last().data["path"]} == {kept}
    assert TOKEN.lower() not in everything_written().lower() or TOKEN not in asked + asked.lower()


@pytest.mark.django_db
def test_a_secret_primary_key_in_the_path_of_a_page_of_its_row(audit: Audit, admin_client: Client) -> None:
    audit({"name": "tokens", "model": "vault.Token"}, {"name": "requests", "events": ["request"]})
    token = Token.objects.create(key="S3cr3tK3y99")
    with registered(Token), registered(Tag):
        admin_client.post(f"/admin/vault/token/{token.pk}/change/", {"key": token.pk, "label": "x"})
        admin_client.get(f"/admin/vault/token/{token.pk}/history/")
        admin_client.get("/admin/app/tag/S3cr3tK3y98/change/")
    assert "S3cr3tK3y99" not in everything_written()
    paths = [event.data["path"] for event in AuditEvent.objects.filter(event_type="request").order_by("id")]
    hidden = "/admin/vault/token/********"
    assert paths == [f"{hidden}/change/", f"{hidden}/history/", "/admin/app/tag/S3cr3tK3y98/change/"]


@pytest.mark.parametrize(("asked", "kept"), [("/keys/sesame/", "/keys/********/"), ("/tags/sesame/", "/tags/sesame/")])
def test_a_secret_primary_key_in_the_path_of_a_generic_view(rf: RequestFactory, asked: str, kept: str) -> None:
    request = rf.get(asked)
    request.urlconf = __name__  # type: ignore[attr-defined]
    assert clean_path(request) == kept


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_rules_match_the_path_that_was_asked_for(audit: Audit, client: Client) -> None:
    audit({"name": "resets", "events": ["request"], "paths": [f"/reset/MQ/{TOKEN[:4]}*"]})
    client.get(f"/reset/MQ/{TOKEN}/")
    assert last().data["path"] == "/reset/********/********/"


class Channel:
    option_schema: dict[str, Any] = {}

    def __init__(self, **options: Any) -> None:
        self.options = options


SECRET = 'p@ss/w"rd<&>ä+1'
FORMS = {
    "raw": SECRET,
    "percent": quote(SECRET),
    "percent, all": quote(SECRET, safe=""),
    "percent, lower case": quote(SECRET, safe="").lower(),
    "percent, twice": quote(quote(SECRET, safe=""), safe=""),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    "Basic": base64.b64encode(f"bob:{SECRET}".encode()).decode(),
    "Basic of another": base64.b64encode(f"robert:{SECRET}".encode()).decode(),
    "JSON": json.dumps(SECRET)[1:-1],
    "JSON of JSON": json.dumps(json.dumps(SECRET))[1:-1],
    "JSON in UTF-8": json.dumps(SECRET, ensure_ascii=False)[1:-1],
    "UTF-8 that was read as Latin-1": SECRET.encode().decode("latin-1"),
    "UTF-8 that was read as Windows' letters": SECRET.encode().decode("cp1252"),
    "UTF-8 that was read as ASCII": SECRET.encode().decode("ascii", "replace"),
    "Latin-1 that was read as UTF-8": SECRET.encode("latin-1").decode("utf-8", "replace"),
    "decomposed": unicodedata.normalize("NFD", SECRET),
    "HTML": html.escape(SECRET),
    "HTML in numbers": "".join(f"&#{ord(char)};" for char in SECRET),
    "repr": repr(SECRET)[1:-1],
    "ascii": ascii(SECRET)[1:-1],
    "bytes": repr(SECRET.encode())[2:-1],
    "octal": "".join(f"\\{byte:03o}" for byte in SECRET.encode()),
    "octal in part": "p\\100ss/w\\042rd<&>\\303\\244+1",
    "base32": base64.b32encode(SECRET.encode()).decode(),
    "base32 without its end": base64.b32encode(SECRET.encode()).decode().rstrip("=").lower(),
    "HTML in names": "p&commat;ss&sol;w&quot;rd&lt;&amp;&gt;&auml;&plus;1",
    "HTML in mixed names": "p&#64;ss&sol;w&QUOT;rd&lt;&AMP;&gt;&auml;&plus;1",
    "quoted printable": quopri.encodestring(SECRET.encode()).decode(),
    "wrapped": SECRET[:5] + "\n" + SECRET[5:],
    "wrapped and indented": SECRET[:5] + "\r\n    " + SECRET[5:],
    "wrapped twice": SECRET[:3] + "\n" + SECRET[3:9] + "\n" + SECRET[9:],
    "wrapped in a quotation": SECRET[:5] + "\n> " + SECRET[5:],
    "wrapped in a repr": (SECRET[:5] + "\\n" + SECRET[5:]),
    "wrapped as quoted printable": SECRET[:5] + "=\n" + SECRET[5:],
    "wrapped by a soft hyphen": SECRET[:5] + "\u00ad" + SECRET[5:],
    "wrapped by a tag": SECRET[:5] + "<wbr>" + SECRET[5:],
    "wrapped base64": textwrap.fill(base64.b64encode(SECRET.encode()).decode(), 9),
    "wrapped hex": textwrap.fill(SECRET.encode().hex(), 10),
    "hex with colons": SECRET.encode().hex(":"),
    "hex": SECRET.encode().hex(),
    "HEX": SECRET.encode().hex().upper(),
}


BYTES = bytes(range(170, 202))


@dataclasses.dataclass
class Login:
    user: str
    password: str


class Account(NamedTuple):
    user: str
    password: str


class Plain:
    def __init__(self, token: str) -> None:
        self._token = token
        self.itself = self


class TestErrors:
    def test_a_long_secret_and_a_long_text_take_no_longer_for_each_character(self) -> None:
        channel = Channel(token="ab cd\n" * 80, secret="whsec_" + base64.b64encode(BYTES * 2).decode())
        for text in ("\n" * 20_000, "=\n" * 10_000, " " * 20_000, "\\n" * 10_000, "ab cd\n" * 3_000, "&shy;" * 4_000):
            assert len(describe(ValueError(text), channel)) <= 2000

    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    def test_every_form_of_a_secret_is_hidden(self, form: str) -> None:
        text = describe(ValueError(f"401 for [{form}] at x"), Channel(deep=[{"password": SECRET}]))
        assert form not in text
        assert "********" in text
        assert "401 for [" in text

    @pytest.mark.parametrize(
        ("options", "echo"),
        [
            ({"headers": {"Authorization": f"Bearer {'tok3n'}-abcdef"}}, "tok3n-abcdef"),
            ({"headers": {"Authorization": "Basic " + base64.b64encode(b"bob:hunter2!").decode()}}, "hunter2!"),
            ({"headers": {"Cookie": "sid=8f14e45fceea; theme=dark"}}, "8f14e45fceea"),
            ({"secret": "whsec_c2VjcmV0LWtleQ=="}, "c2VjcmV0LWtleQ=="),
            ({"token_url": "https://bob:hun%2Fter2@hooks.example/T024/B08/XyZ12345"}, "hun/ter2"),
            ({"token_url": "https://hooks.example/T024/B08/XyZ12345?k=abcdefgh"}, "XyZ12345"),
            ({"token_url": "https://hooks.example/T024/B08/XyZ12345?k=abcdefgh"}, "abcdefgh"),
            ({"bot_token": "123456:AAH-abc_def"}, "AAH-abc_def"),
            ({"auth": "bob:hunter2"}, "hunter2"),
            ({"api_key": "key7f3a.s3cr3tpartof20chars"}, "s3cr3tpartof20chars"),
            ({"token": "app|s3cr3tpartof20chars"}, "s3cr3tpartof20chars"),
            ({"secret": "whsec_" + base64.b64encode(b"key of a webhook").decode()}, "key of a webhook"),
            ({"secret": "whsec_" + base64.b64encode(BYTES).decode()}, repr(BYTES)[2:-1]),
            ({"secret": "whsec_" + base64.b64encode(BYTES).decode()}, BYTES.hex()),
            ({"secret": "whsec_" + base64.b64encode(BYTES).decode()}, base64.urlsafe_b64encode(BYTES).decode()),
            ({"secret": ["whsec_" + base64.b64encode(b"key of a webhook").decode()]}, "key of a webhook"),
            ({"login": [("user", "bob"), ("password", "hunter2!")]}, "hunter2!"),
            ({"login": [["password", "hunter2!"]]}, "hunter2!"),
            ({"login": ("password", "hunter2!")}, "hunter2!"),
            ({"login": [{"name": "X-Api-Key", "value": "hunter2!"}]}, "hunter2!"),
            ({"headers_of_ours": ["Accept: */*", "X-Api-Key: hunter2!"]}, "hunter2!"),
            ({"arguments": ["--password", "hunter2!"]}, "hunter2!"),
            ({"query": "user=ann&password=hunter2!"}, "hunter2!"),
            ({"body": '{"password": "hunter2!"}'}, "hunter2!"),
            ({"server": "https://bob:hunter2!@example.com/"}, "hunter2!"),
            ({"server": "https://example.com/?token=hunter2-3"}, "hunter2-3"),
            ({"login": Login("bob", "hunter2!")}, "hunter2!"),
            ({"login": [Login("bob", "hunter2!")]}, "hunter2!"),
            ({"login": {"deep": Account("bob", "hunter2!")}}, "hunter2!"),
            ({"login": SimpleNamespace(password="hunter2!")}, "hunter2!"),
            ({"login": MappingProxyType({"password": "hunter2!"})}, "hunter2!"),
            ({"login": Plain("hunter2!")}, "hunter2!"),
            ({"secret": Login("bob", "hunter2!")}, "hunter2!"),
            ({"secret": SimpleLazyObject(lambda: "hunter2!")}, "hunter2!"),
            ({"pin": 123456}, "123456"),
            ({"password": b"byte-secret"}, "byte-secret"),
        ],
    )
    def test_parts_of_secrets_are_hidden(self, options: dict[str, Any], echo: str) -> None:
        schema = {"headers": type("Option", (), {"confidential": True})()}
        channel = Channel(**options)
        channel.option_schema = schema
        assert echo not in describe(ValueError(f"not allowed: {echo}"), channel)

    @pytest.mark.parametrize("blank", [" ", "\n", "\t", "\\n", "%20", "&#32;", "+"])
    def test_blanks_in_a_secret_and_in_a_text_take_no_longer_for_each(self, blank: str) -> None:
        # Each blank of the secret might be any number of those in the text.
        channel = Channel(token=f"seven{' ' * 40}words{' ' * 40}")
        text = describe(
            ValueError(f"{blank * 4_000} seven{blank * 40}words{blank * 40} seven{blank * 40}wards"), channel
        )
        assert f"seven{blank * 40}words" not in text

    def test_secrets_of_the_project_are_hidden(self, settings: Any) -> None:
        settings.SECRET_KEY = "a-secret-key-of-50"
        settings.CELERY_BROKER_URL = "amqp://worker:rabbit-pass@mq/"
        text = describe(ValueError("a-secret-key-of-50 and rabbit-pass"))
        assert text.count("********") == 2

    def test_other_words_stay(self) -> None:
        text = describe(ValueError("the host said no"), Channel(password="hunter2"))
        assert text.startswith("ValueError: the host said no")


@pytest.mark.django_db
class TestTooMuch:
    LONG = "x" * 2_000_000

    def size(self) -> int:
        return len(everything_written())

    def test_a_failed_login(self, audit: Audit, client: Client) -> None:
        audit({"name": "break-in", "events": ["login_failed"], "notify": ["take"]}, CHANNELS={"take": calling("take")})
        with fake_notifications() as fake:
            client.login(username=self.LONG, password=self.LONG)
        assert last().data["credentials"]["username"]["length"] == 2_000_000
        assert self.size() < 10_000
        assert len(fake.sent[0].subject) < 1000
        assert len(fake.sent[0].body) < 70_000

    @pytest.mark.slow
    def test_data_context_and_texts(self, audit: Audit) -> None:
        audit({"name": "all", "model": "app.Tag"})
        request = RequestFactory().get(f"/{self.LONG}", HTTP_USER_AGENT=self.LONG, HTTP_X_REQUEST_ID=self.LONG)
        with context_scope(request=request):
            Tag.objects.create(name="x")
        with audit_context(
            actor=self.LONG, reason=self.LONG, note=self.LONG, **{f"k{n}": "y" * 900 for n in range(300)}
        ):
            record(
                "said", data={self.LONG: 1, "list": ["z" * 60_000] * 30, "many": {str(n): n for n in range(100_000)}}
            )
        assert self.size() < 300_000

    def test_the_subject_and_body_of_a_template(self, audit: Audit) -> None:
        rule = {"name": "r", "model": "app.Product", "notify": ["take"], "subject": "{{ new.attributes }}"}
        audit(
            {**rule, "message": "{{ new.attributes }}" * 10}, CHANNELS={"take": calling("take")}, MAX_VALUE_BYTES=5000
        )
        with fake_notifications() as fake:
            Product.objects.create(name="x", attributes={"a": "y" * 4000})
        assert len(fake.sent[0].subject) <= 900
        assert len(fake.sent[0].body) <= 5000


def nested(depth: int, inner: Any = 1) -> Any:
    for _ in range(depth):
        inner = {"a": [inner]}
    return inner


@pytest.mark.django_db
class TestDeepDocuments:
    @pytest.mark.parametrize("depth", [14, 40, 90])
    def test_data_is_written_and_shown(self, audit: Audit, admin_client: Client, depth: int) -> None:
        audit(
            {"name": "r", "events": ["said"], "notify": [{"channel": "take", "digest": "1h"}]},
            CHANNELS={"take": calling("take")},
        )
        record("said", data={"deep": nested(depth)})
        self.shown(admin_client)

    @pytest.mark.parametrize("depth", [1_500, pytest.param(100_000, marks=pytest.mark.slow)])
    def test_what_nothing_can_walk_is_a_digest(self, audit: Audit, admin_client: Client, depth: int) -> None:
        audit()
        with audit_context(deep=nested(depth)):
            record("said", data={"deep": nested(depth), "flat": 1})
        assert last().data["flat"] == 1
        assert "$digest" in json.dumps(last().data)
        self.shown(admin_client)

    def test_a_value_that_contains_itself(self, audit: Audit) -> None:
        audit()
        loop: dict[str, Any] = {}
        loop["again"] = [loop, loop]
        record("said", data=loop)
        assert "$digest" in json.dumps(last().data)

    def test_a_field_as_deep_as_the_database_takes_it(self, audit: Audit, admin_client: Client) -> None:
        from django.db import connection

        from django_signal_audit.replay import Replay
        from django_signal_audit.rules.registry import get_registry

        audit({"name": "r", "model": "app.Product", "notify": ["take"]}, CHANNELS={"take": calling("take")})
        # Python 3.11 counts the levels of a document to its limit of recursion, with the frames around it.
        deepest = 485 if sys.version_info >= (3, 12) else 300
        depth = 15 if connection.vendor == "mysql" else deepest
        document = nested(depth)
        product = Product.objects.create(name="x", attributes=document)
        product.attributes = {**document, "b": 1}
        product.save()
        Product.objects.update(attributes=document)
        assert list(Replay(get_registry().plans.values(), "default").differences()) == []
        assert deliver("default").sent == 3
        self.shown(admin_client)

    @pytest.mark.parametrize(
        "command",
        [
            ("audit_export",),
            ("audit_export", "--format", "ocsf"),
            ("audit_export", "--format", "cloudevents"),
            ("audit_report", "--by", "field"),
            ("audit_report", "--by", "object", "--format", "html"),
            ("audit_replay",),
        ],
    )
    @pytest.mark.parametrize("depth", [40, 1_500])
    def test_commands_take_deep_documents(
        self, audit: Audit, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], depth: int
    ) -> None:
        audit({"name": "r", "events": ["said"]}, {"name": "products", "model": "app.Product"})
        with audit_context(deep=nested(depth)):
            record("said", data={"deep": nested(depth), "text": "[" * depth})
            Product.objects.create(pk=1, name="x", attributes=nested(14))
        call_command(*command)
        call_command("audit_history", "app.product", "1", "--format", "json")
        assert capsys.readouterr().out

    def shown(self, client: Client) -> None:
        log = "/admin/django_signal_audit/auditevent/"
        assert client.get(log).status_code == 200
        assert client.get(f"{log}{last().pk}/", follow=True).status_code == 200


class TestClients:
    @pytest.mark.parametrize(
        ("proxies", "peer", "forwarded", "expected"),
        [
            (["10.0.0.0/8"], "::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
            (["::ffff:10.0.0.0/104"], "10.0.0.1", "203.0.113.9", "203.0.113.9"),
            (["10.0.0.1"], "10.0.0.1", "203.0.113.9, ::ffff:10.0.0.1", "203.0.113.9"),
            ([], "::ffff:192.0.2.1", "203.0.113.9", "192.0.2.1"),
            (["unix"], "", "203.0.113.9", "203.0.113.9"),
            (["unix", "10.0.0.1"], "unix:", "198.51.100.7, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
            (["10.0.0.1"], "", "203.0.113.9", ""),
            (["unix"], "192.0.2.1", "203.0.113.9", "192.0.2.1"),
            (["10.0.0.1"], "10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
            (["fe80::/10"], "fe80::1%eth0", "[2001:db8::1]:443", "2001:db8::1"),
            (["unix"], "", "nonsense", ""),
            (["10.0.0.1"], "10.0.0.1", ",,, ,", "10.0.0.1"),
            (["10.0.0.1"], "10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"),
            (["10.0.0.1"], "10.0.0.1", 'for="203.0.113.9"', "10.0.0.1"),
            (["10.0.0.1"], "10.0.0.1", "10.0.0.1, " * 10_000, "10.0.0.1"),
            (["10.0.0.1"], "10.0.0.1", "\x00\u06f1.2.3.4", "10.0.0.1"),
            (["10.0.0.1"], "nonsense", "203.0.113.9", ""),
        ],
    )
    def test_the_client_behind_a_proxy(
        self, settings: Any, proxies: list[str], peer: str, forwarded: str, expected: str
    ) -> None:
        settings.SIGNAL_AUDIT = {"TRUSTED_PROXIES": proxies}
        request = RequestFactory().get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded)
        assert client_ip(request) == expected

    def test_check_knows_the_socket(self, settings: Any) -> None:
        from django_signal_audit.checks import check_plugins

        settings.SIGNAL_AUDIT = {"TRUSTED_PROXIES": ["unix", "10.0.0.0/8"]}
        assert check_plugins() == []
