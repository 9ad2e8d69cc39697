from __future__ import annotations

import re
from pathlib import Path

import django
import polib
import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone, translation

import django_signal_audit
from django_signal_audit.delivery.rendering import default_body, default_subject
from django_signal_audit.enums import EventType
from django_signal_audit.models import Notification

from .notices import INBOX, audit_settings
from .samples import make_event

LOCALE = Path(django_signal_audit.__file__).parent / "locale"
LANGUAGES = sorted(path.name for path in LOCALE.iterdir())
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd%]|\{\w*\}")

LOG = reverse("admin:django_signal_audit_auditevent_changelist")
DASHBOARD = reverse("admin:django_signal_audit_auditevent_dashboard")
OUTBOX = reverse("admin:django_signal_audit_notification_changelist")
INBOX_PAGE = reverse("signal_audit:inbox")

WORDS = {
    LOG: {
        "de": ("Audit-Protokoll", "Audit-Ereignisse", "Ereignis und Regeln", "Letzte 24 Stunden", "kritisch"),
        "fr": ("Journal d\u2019audit", "Évènements", "Évènement et règles", "Les 24 dernières heures", "critique"),
    },
    DASHBOARD: {
        "de": (
            "Übersicht",
            "30 Tage",
            "Ereignisse nach Akteur",
            "Keine in diesem Zeitraum.",
            "Fehlgeschlagene Benachrichtigungen",
        ),
        "fr": (
            "Tableau de bord",
            "30 jours",
            "Évènements par acteur",
            "Aucun élément durant cette période.",
            "Notifications échouées",
        ),
    },
    OUTBOX: {
        "de": ("Benachrichtigungen", "Empfänger", "0 Versuche", "Fehlgeschlagene erneut senden", "gesendet"),
        "fr": ("Événement et destinataire", "0 tentative", "Renvoyer les notifications échouées", "envoyée"),
    },
    INBOX_PAGE: {
        "de": ("<h1>Mitteilungen</h1>", "1 ungelesen", "Alle als gelesen markieren", 'lang="de"'),
        "fr": ("1 non lu<", "Tout marquer comme lu", 'lang="fr"'),
    },
}


def catalog(language):
    return polib.pofile(str(LOCALE / language / "LC_MESSAGES" / "django.po"))


def texts(entry):
    """Return what the entry is translated to, one text per plural form."""
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


def told(entries):
    return {(entry.msgctxt, entry.msgid, entry.msgid_plural or ""): texts(entry) for entry in entries}


def placeholders(text):
    return sorted(PLACEHOLDER.findall(text))


def ends(text):
    """Return the white space around a text."""
    return text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]


def of_django(language):
    """Return what Django translates the strings of its own apps to."""
    found = {}
    for path in Path(django.__file__).parent.glob(f"**/locale/{language}/LC_MESSAGES/django.po"):
        for entry in polib.pofile(str(path)).translated_entries():
            found.setdefault((entry.msgctxt, entry.msgid), set()).add(tuple(texts(entry)))
    return found


def test_the_languages_that_the_docs_name_are_there():
    assert LANGUAGES == ["de", "fr"]


@pytest.mark.parametrize("language", LANGUAGES)
class TestCatalogs:
    def test_every_text_is_translated_and_none_is_a_guess(self, language):
        wrong = [e.msgid for e in catalog(language) if e.fuzzy or e.obsolete or not all(texts(e))]
        assert wrong == []

    def test_every_plural_form_of_the_language_is_there(self, language):
        found = catalog(language)
        forms = int(re.search(r"nplurals=(\d)", found.metadata["Plural-Forms"])[1])
        plurals = [entry for entry in found if entry.msgid_plural]
        assert plurals
        assert [e.msgid for e in plurals if sorted(e.msgstr_plural) != list(range(forms))] == []

    def test_translations_have_the_placeholders_of_the_text(self, language):
        # The singular need not say the number; with it said in English, a translation says it too.
        wrong = {
            text: entry.msgid
            for entry in catalog(language)
            for text in texts(entry)
            if placeholders(text) != placeholders(entry.msgid_plural or entry.msgid)
        }
        assert wrong == {}

    def test_translations_have_the_white_space_around_the_text(self, language):
        wrong = [entry.msgid for entry in catalog(language) for text in texts(entry) if ends(text) != ends(entry.msgid)]
        assert wrong == []

    def test_the_compiled_catalog_is_that_of_the_source(self, language):
        source = catalog(language)
        compiled = polib.mofile(str(LOCALE / language / "LC_MESSAGES" / "django.mo"))
        assert told(compiled) == told(source), (
            f"Run in django_signal_audit/: django-admin compilemessages -l {language}"
        )
        assert compiled.metadata["Plural-Forms"] == source.metadata["Plural-Forms"]

    def test_no_other_app_has_a_word_of_django_changed(self, language):
        # All apps share one catalog: what we translate otherwise than Django, it would read so on its own pages.
        known = of_django(language)
        shared = [entry for entry in catalog(language) if (entry.msgctxt, entry.msgid) in known]
        assert shared
        assert [e.msgid for e in shared if tuple(texts(e)) not in known[e.msgctxt, e.msgid]] == []


@pytest.mark.django_db
@pytest.mark.parametrize("language", LANGUAGES)
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

    def read(self, client, address, language):
        with translation.override(language):
            response = client.get(address)
            assert response.status_code == 200
            return response.content.decode()

    @pytest.mark.parametrize("address", WORDS)
    def test_a_page_is_in_the_language_of_who_reads_it(self, reader, language, address):
        text = self.read(reader, address, language)
        assert [word for word in WORDS[address][language] if word not in text] == []

    def test_an_event_is_called_by_its_name_in_that_language(self, reader, language):
        text = self.read(reader, LOG, language)
        name = {"de": "Änderung", "fr": "modification"}[language]
        assert f'<span class="audit-badge audit-update">{name}</span>' in text
        assert {"de": "leer", "fr": "vide"}[language] in text

    def test_the_text_of_an_event_is_the_same_in_every_language(self, language):
        # An export has it, and what a machine reads must not depend on who runs the command.
        with translation.override(language):
            assert str(make_event(event_type="update", object_repr="ada")) == "update ada"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "count", "subject"),
    [
        ("de", 1, "Änderung User: ada"),
        ("de", 2, "Änderung User: 2 Ereignisse"),
        ("fr", 1, "modification User: ada"),
        ("fr", 2, "modification User: 2 évènements"),
    ],
)
def test_the_subject_of_a_message_has_the_plural_of_its_language(language, count, subject, monkeypatch):
    monkeypatch.setattr(User._meta, "verbose_name", "user")  # Django translates its own
    events = [make_event(event_type="update", model="auth.user", object_repr="ada") for _ in range(count)]
    with translation.override(language):
        assert default_subject(events, "watch") == subject


@pytest.mark.django_db
@pytest.mark.parametrize(("language", "lines"), [("de", ("von root", "am 2026-")), ("fr", ("par root", "le 2026-"))])
def test_the_text_of_a_message_says_by_whom_and_when(language, lines):
    event = make_event(actor_repr="root")
    with translation.override(language):
        found = default_body([event]).splitlines()[-2:]
    assert [line.startswith(start) for line, start in zip(found, lines, strict=True)] == [True, True]


def test_an_event_of_your_own_keeps_its_name():
    with translation.override("de"):
        assert EventType.label_of("price_alarm") == "price_alarm"
        assert EventType.label_of("login_failed") == "Anmeldung fehlgeschlagen"
