from __future__ import annotations

import ast
import html
import re
from functools import cache
from pathlib import Path

import django
import polib
import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation.template import templatize

import django_signal_audit
from django_signal_audit.delivery.texts import content_of, subject_of
from django_signal_audit.enums import EventType
from django_signal_audit.models import Notification
from django_signal_audit.reports.formatter import Reader
from django_signal_audit.rules.schema import Rule

from .notices import INBOX, audit_settings
from .samples import make_event

PACKAGE = Path(django_signal_audit.__file__).parent
ROOT = PACKAGE.parent
LOCALE = PACKAGE / "locale"
# As gettext names them: pt_BR. A language is added by its directory, and tested by all that follows.
LOCALES = sorted(path.name for path in LOCALE.iterdir())
# What a translation must have as it is: placeholders, tags, and names of settings and commands.
KEPT = re.compile(r"%\(\w+\)[sd]|%[sd%]|\{\w*\}|</?\w[^>]*>|\b[A-Z]+_[A-Z_]+\b|\baudit_\w+|\bmanage\.py \w+")
FUNCTIONS = {
    "_": 1, "gettext": 1, "gettext_lazy": 1, "ngettext": 2, "ngettext_lazy": 2, "pgettext": 2, "pgettext_lazy": 2,
    "npgettext": 3, "npgettext_lazy": 3,
}  # fmt: skip
STRING = r"""u?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
CALL = re.compile(rf"\b(?:_|n?p?gettext)\((?:\s*{STRING}\s*,?)+")

LOG = reverse("admin:django_signal_audit_auditevent_changelist")
DASHBOARD = reverse("admin:django_signal_audit_auditevent_dashboard")
OUTBOX = reverse("admin:django_signal_audit_notification_changelist")
INBOX_PAGE = reverse("signal_audit:inbox")
PREFERENCES = reverse("signal_audit:preferences")

# What each page says, as the sources say it.
PAGES = {
    LOG: ("Audit", "Audit events", "Actor, time, reason", "Last 24 hours", "critical"),
    DASHBOARD: ("Dashboard", "Most active users", "None in this period.", "Deletions", "Failed deliveries"),
    OUTBOX: ("Status", "Retry all matching…", "sent"),
    INBOX_PAGE: ("Messages", "Preferences", "Mark all as read"),
    PREFERENCES: ("Notification preferences", "Quiet hours", "Time zone", "Save"),
}


@cache
def catalog(locale):
    return polib.pofile(str(LOCALE / locale / "LC_MESSAGES" / "django.po"))


def key(entry):
    """Return what gettext looks a text up by."""
    return entry.msgctxt or "", entry.msgid, entry.msgid_plural or ""


def texts(entry):
    """Return what the entry is translated to, one text per plural form."""
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


def translated(entries):
    return {key(entry): texts(entry) for entry in entries}


def kept(text):
    return sorted(KEPT.findall(text))


def ends(text):
    """Return the white space around a text."""
    return text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]


def calls(path):
    """Yield each call in a module or a template that translates a text, as name and arguments."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py" and "gettext" not in source:
        found = []
    elif path.suffix == ".py":
        found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    else:
        found = [ast.parse(f"{call[0]})", mode="eval").body for call in CALL.finditer(templatize(source))]
    for call in found:
        name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        if name in FUNCTIONS:
            yield (
                name,
                [argument.value for argument in call.args[: FUNCTIONS[name]] if isinstance(argument, ast.Constant)],
            )


@cache
def of_the_sources():
    """Return the keys of all texts that the package translates."""
    found = set()
    for path in PACKAGE.rglob("*"):
        if path.suffix in {".py", ".html", ".txt"}:
            for name, arguments in calls(path):
                context = arguments.pop(0) if "pgettext" in name else ""
                if arguments:
                    found.add((context, arguments[0], arguments[1] if name.startswith("n") else ""))
    return found


def of_django(locale):
    """Return what Django translates the strings of its own apps to."""
    found = {}
    for path in Path(django.__file__).parent.glob(f"**/locale/{locale}/LC_MESSAGES/django.po"):
        for entry in polib.pofile(str(path)).translated_entries():
            found.setdefault(key(entry), set()).add(tuple(texts(entry)))
    return found


# Texts whose number is a limit, or one of many: it is never 1.
OF_MANY = re.compile(
    r"(?i)more than %|at most %|the newest %|The search is too long|You have muted|oldest %|the %\(count\)s with"
)


def test_a_text_that_counts_has_a_singular():
    plural = re.compile(r"%\(\w+\)[ds] (?:[a-z]+ )?(?!pass|is\b|was\b|has\b|as\b)[a-z]{3,}s\b")
    counting = re.compile(r"%\(\w+\)d|%\((?:count|values|events|size|pruned|rows)\)s")
    sources = of_the_sources()
    found = [text for _, text, many in sources if plural.search(text) and counting.search(text) and not many]
    assert [text for text in found if not OF_MANY.search(text)] == []
    assert any(many for _, _, many in sources)


@pytest.mark.parametrize("page", ["README.md", "docs/reference/admin.md"])
def test_the_docs_name_the_languages_that_are_there(page):
    named = re.search(r"available in ([\w ,]+)\.", (ROOT / page).read_text(encoding="utf-8"))[1]
    there = {translation.get_language_info(translation.to_language(locale))["name"] for locale in LOCALES}
    assert set(re.split(", | and ", named)) == {"English"} | there


def test_the_comparison_counts_the_languages_that_are_there():
    text = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert re.search(r"\| Languages of its pages, besides English \| (\d+) \|", text)[1] == str(len(LOCALES))


@pytest.mark.parametrize("locale", LOCALES)
class TestCatalogs:
    def test_the_catalog_has_the_texts_of_the_sources_and_no_others(self, locale):
        sources, there = of_the_sources(), {key(entry) for entry in catalog(locale)}
        assert sources
        assert sources - there == set(), f"Translate these in django_signal_audit/locale/{locale}"
        assert there - sources == set(), f"Remove these from django_signal_audit/locale/{locale}"

    def test_every_text_is_translated_and_none_is_a_guess(self, locale):
        wrong = [e.msgid for e in catalog(locale) if e.fuzzy or e.obsolete or not all(texts(e))]
        assert wrong == []

    def test_every_plural_form_of_the_language_is_there(self, locale):
        found = catalog(locale)
        forms = int(re.search(r"nplurals=(\d)", found.metadata["Plural-Forms"])[1])
        plurals = [entry for entry in found if entry.msgid_plural]
        assert plurals
        assert [e.msgid for e in plurals if sorted(e.msgstr_plural) != list(range(forms))] == []

    def test_translations_have_the_placeholders_tags_and_names_of_the_text(self, locale):
        # The singular need not say the number; with it said in English, a translation says it too.
        wrong = {
            text: entry.msgid
            for entry in catalog(locale)
            for text in texts(entry)
            if kept(text) != kept(entry.msgid_plural or entry.msgid)
        }
        assert wrong == {}

    def test_translations_have_the_white_space_around_the_text(self, locale):
        wrong = [entry.msgid for entry in catalog(locale) for text in texts(entry) if ends(text) != ends(entry.msgid)]
        assert wrong == []

    def test_the_compiled_catalog_is_that_of_the_source(self, locale):
        source = catalog(locale)
        compiled = polib.mofile(str(LOCALE / locale / "LC_MESSAGES" / "django.mo"))
        assert translated(compiled) == translated(source), (
            f"Run in django_signal_audit/: django-admin compilemessages -l {locale}"
        )
        assert compiled.metadata["Plural-Forms"] == source.metadata["Plural-Forms"]

    def test_no_other_app_has_a_word_of_django_changed(self, locale):
        # All apps share one catalog: what we translate otherwise than Django, it would read so on its own pages.
        known = of_django(locale)
        shared = [entry for entry in catalog(locale) if key(entry) in known]
        assert shared
        assert [e.msgid for e in shared if tuple(texts(e)) not in known[key(e)]] == []


@pytest.mark.django_db
@pytest.mark.parametrize("locale", LOCALES)
class TestPages:
    @pytest.fixture
    def reader(self, settings, client):
        settings.SIGNAL_AUDIT = audit_settings(channels={"inbox": {"BACKEND": INBOX}})
        user = User.objects.create_superuser("ada")
        event = make_event(event_type="update", level="critical", changes={"email": ["a@x", ""]})
        Notification.objects.create(
            event=event.uid, rule="watch", channel="inbox", recipient=str(user.pk), status="sent",
            sent_at=timezone.now(), data={"subject": "Oil", "body": "changed"},
        )  # fmt: skip
        client.force_login(user)
        return client

    def read(self, client, address, locale):
        with translation.override(translation.to_language(locale)):
            response = client.get(address)
            assert response.status_code == 200
            return html.unescape(response.content.decode())

    def said(self, locale, text):
        return catalog(locale).find(text, include_obsolete_entries=False).msgstr

    @pytest.mark.parametrize("address", PAGES)
    def test_a_page_is_in_the_language_of_who_reads_it(self, reader, locale, address):
        page = self.read(reader, address, locale)
        assert f'lang="{translation.to_language(locale)}"' in page
        # The head of a column begins with a capital.
        assert [text for text in PAGES[address] if self.said(locale, text).lower() not in page.lower()] == []

    def test_a_number_has_the_plural_form_of_the_language(self, reader, locale):
        page = self.read(reader, DASHBOARD, locale)
        forms = texts(catalog(locale).find("%(count)d day", include_obsolete_entries=False))
        assert [form for form in forms if form % {"count": 30} in page]

    def test_an_event_is_called_by_its_name_in_that_language(self, reader, locale):
        page = self.read(reader, LOG, locale)
        assert f'<span class="visually-hidden">{self.said(locale, "changed")}</span>' in page
        assert self.said(locale, "empty") in page

    def test_the_text_of_an_event_is_the_same_in_every_language(self, locale):
        # An export has it, and what a machine reads must not depend on who runs the command.
        with translation.override(translation.to_language(locale)):
            assert str(make_event(event_type="update", object_repr="ada")) == "update ada"


READER, WATCH = Reader(is_localised=True), Rule(name="watch")
EVENTS = {
    "update": {"first_name": ["Ada", "Eva"]},
    "create": {"first_name": [None, "Ada"]},
    "delete": {"first_name": ["Ada", None]},
    "m2m": {"groups": {"added": [3], "removed": []}},
    "price_alarm": {},
    "login": {},
}
# Sentences as someone who speaks the language reads them: of each event, of a digest, its title, and by whom and when.
SENTENCES = {
    "de": {
        "update": "User „ada“: First name von Ada auf Eva geändert",
        "create": "User „ada“ wurde angelegt",
        "delete": "User „ada“ wurde gelöscht",
        "m2m": "User „ada“ wurde geändert: Groups (+3)",
        "price_alarm": "price_alarm: User „ada“",
        "login": "root hat sich angemeldet",
        "digest": "watch: 2 Änderungen, 2 users (ada und bob)",
        "title": "2 Änderungen, 2 users",
        "by": "root hat es am ",
    },
    "fr": {
        "update": "User « ada » : First name passe de Ada à Eva",
        "create": "Création : User « ada »",
        "delete": "Suppression : User « ada »",
        "m2m": "Modification : User « ada », Groups (+3)",
        "price_alarm": "price_alarm : User « ada »",
        "login": "Connexion de root",
        "digest": "watch: 2 modifications sur 2 users (ada et bob)",
        "title": "2 modifications sur 2 users",
        "by": "Modification par root le ",
    },
    "es": {
        "update": "User “ada”: First name cambió de Ada a Eva",
        "create": "Se creó User “ada”",
        "delete": "Se eliminó User “ada”",
        "m2m": "Se modificó User “ada”: Groups (+3)",
        "price_alarm": "price_alarm: User “ada”",
        "login": "root inició sesión",
        "digest": "watch: 2 cambios en 2 users (ada y bob)",
        "title": "2 cambios en 2 users",
        "by": "root lo modificó el ",
    },
    "it": {
        "update": "User “ada”: First name passa da Ada a Eva",
        "create": "Creazione di User “ada”",
        "delete": "Eliminazione di User “ada”",
        "m2m": "Modifica di User “ada”: Groups (+3)",
        "price_alarm": "price_alarm: User “ada”",
        "login": "root ha effettuato l\u2019accesso",
        "digest": "watch: 2 modifiche su 2 users (ada e bob)",
        "title": "2 modifiche su 2 users",
        "by": "Modificato da root in data ",
    },
    "pt_BR": {
        "update": "User “ada”: First name mudou de Ada para Eva",
        "create": "Criação de User “ada”",
        "delete": "Remoção de User “ada”",
        "m2m": "Alteração de User “ada”: Groups (+3)",
        "price_alarm": "price_alarm: User “ada”",
        "login": "root acessou o sistema",
        "digest": "watch: 2 alterações em 2 users (ada e bob)",
        "title": "2 alterações em 2 users",
        "by": "Alterado por root em ",
    },
    "ja": {
        "update": "User “ada”: First name が Ada から Eva に変更されました",
        "create": "User “ada” が作成されました",
        "delete": "User “ada” が削除されました",
        "m2m": "User “ada” が変更されました: Groups (+3)",
        "price_alarm": "price_alarm: User “ada”",
        "login": "root がログインしました",
        "digest": "watch: 2 個の users に対する 2 件の変更 (ada と bob)",
        "title": "2 個の users に対する 2 件の変更",
        "by": " に root が変更しました。",
    },
    "nl": {
        "update": "User ‘ada’: First name gewijzigd van Ada in Eva",
        "create": "User ‘ada’ is aangemaakt",
        "delete": "User ‘ada’ is verwijderd",
        "m2m": "User ‘ada’ is gewijzigd: Groups (+3)",
        "price_alarm": "price_alarm: User ‘ada’",
        "login": "root heeft zich aangemeld",
        "digest": "watch: 2 wijzigingen in 2 users (ada en bob)",
        "title": "2 wijzigingen in 2 users",
        "by": "Gewijzigd door root op ",
    },
    "pl": {
        "update": "User „ada”: zmieniono First name z Ada na Eva",
        "create": "Utworzono: User „ada”",
        "delete": "Usunięto: User „ada”",
        "m2m": "Zmieniono: User „ada”, Groups (+3)",
        "price_alarm": "price_alarm: User „ada”",
        "login": "Zalogowano: root",
        "digest": "watch: 2 zmiany, 2 users (ada i bob)",
        "title": "2 zmiany, 2 users",
        "by": "Zmieniono przez root, ",
    },
}


@pytest.fixture
def plain_names(monkeypatch):
    """Have the names of users and their fields in no language: Django translates its own."""
    monkeypatch.setattr(User._meta, "verbose_name", "user")
    monkeypatch.setattr(User._meta, "verbose_name_plural", "users")
    for name in ("first_name", "groups"):
        monkeypatch.setattr(User._meta.get_field(name), "verbose_name", name.replace("_", " "))


def sentences(language):
    """Return what messages say in the language."""
    with translation.override(language):
        found = {name: subject_of([event_of(name, changes)], WATCH, READER) for name, changes in EVENTS.items()}
        events = [
            make_event(event_type="update", model="auth.user", object_repr=name, object_id=name)
            for name in ("ada", "bob")
        ]
        found["digest"] = subject_of(events, WATCH, READER)
        found["title"] = content_of(events, WATCH, READER, has_links=False).title
        event = make_event(actor_repr="root", event_type="update")
        found["by"] = content_of([event], WATCH, READER, has_links=False).text
    return found


def event_of(event_type, changes):
    return make_event(
        event_type=event_type, model="auth.user", object_repr="ada", changes=changes, actor_repr="root", data={}
    )


@pytest.mark.django_db
@pytest.mark.usefixtures("plain_names")
@pytest.mark.parametrize("locale", LOCALES)
class TestSentences:
    def test_a_message_names_what_happened_to_what(self, locale):
        found = sentences(translation.to_language(locale))
        for name, words in (
            ("update", ("User", "ada", "First name", "Ada", "Eva")), ("create", ("User", "ada")),
            ("delete", ("User", "ada")), ("m2m", ("User", "ada", "Groups", "+3")), ("login", ("root",)),
            ("price_alarm", ("price_alarm", "User", "ada")), ("digest", ("watch", "2", "ada", "bob")),
            ("title", ("2", "users")), ("by", ("root",)),
        ):  # fmt: skip
            assert [word for word in words if word not in found[name]] == []

    def test_it_says_so_in_the_language_of_who_reads_it(self, locale):
        found, english = sentences(translation.to_language(locale)), sentences("en")
        # An event of your own keeps its name, and some languages have the quotation marks of English.
        assert [name for name in found if found[name] == english[name]] in ([], ["price_alarm"])


@pytest.mark.django_db
@pytest.mark.usefixtures("plain_names")
@pytest.mark.parametrize("locale", SENTENCES)
def test_a_subject_is_a_sentence(locale):
    expected, found = SENTENCES[locale], sentences(translation.to_language(locale))
    assert {name: text for name, text in found.items() if name != "by"} | {"by": expected["by"]} == expected
    assert expected["by"] in found["by"]


def test_an_event_of_your_own_keeps_its_name():
    with translation.override("de"):
        assert EventType.label_of("price_alarm") == "price_alarm"
        assert EventType.label_of("login_failed") == "Anmeldung fehlgeschlagen"
