"""The setting EVIDENCE: what check says of it, keys from everywhere, and anchors."""

from __future__ import annotations

import io
import json
import logging
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.core import mail
from django.core.checks import run_checks
from django.core.management import CommandError, call_command

from django_signal_audit.evidence.anchoring import anchor
from django_signal_audit.evidence.anchors.base import Anchor, Publication
from django_signal_audit.evidence.config import get_anchors, get_signer, verifying_keys
from django_signal_audit.evidence.notes import PrivateKey, signers_of
from django_signal_audit.evidence.sealing import seal
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditReceipt

from .conftest import Audit
from .samples import make_event

pytest.importorskip("cryptography")
pytestmark = pytest.mark.django_db

ANCHORS = "django_signal_audit.evidence.anchors"
KEY = PrivateKey.generate("example.com/audit")
OTHER_KEY = PrivateKey.generate("example.com/audit")


class BrokenAnchor(Anchor):
    def publish(self, publication: Publication) -> str:
        raise ConnectionError("it is away")


class Unsure(BrokenAnchor):
    def problems(self) -> Any:
        raise RuntimeError("no way to tell")


def key() -> str:
    return KEY


def asking_for_more(name: str) -> str:
    return name


def of_a_vault() -> str:
    raise RuntimeError("the vault is sealed")


def of_no_environment() -> str:
    return {}["AUDIT_KEY"]


def of_nobody() -> None:
    return None


def found() -> list[tuple[str, str]]:
    prefix = "django_signal_audit."
    codes = ("E066", "E067", "E068", "W066", "W067")
    messages = [message for message in run_checks(tags=["signals"]) if str(message.id).endswith(codes)]
    return [(str(message.id).removeprefix(prefix), f"{message.msg} {message.hint}") for message in messages]


def file_anchor(path: Path) -> dict[str, Any]:
    return {"BACKEND": f"{ANCHORS}.file.FileAnchor", "OPTIONS": {"path": str(path)}}


@pytest.mark.parametrize(
    ("evidence", "code", "words"),
    [
        ({"KEYS": "x"}, "E066", "KEY"),
        ({"INTERVAL": "often"}, "E066", "60s"),
        ({"INTERVAL": 60}, "E066", "60s"),
        ({"ORIGIN": "a b"}, "E066", "without spaces"),
        ({"KEY": "file:/nowhere/at/all"}, "E067", "--generate-key"),
        ({"KEY": "env:AUDIT_TEST_NO_SUCH_VARIABLE"}, "E067", "is empty"),
        ({"KEY": "tests.test_evidence_settings.kex"}, "E067", "kex"),
        ({"KEY": "audit.key"}, "E067", 'Write "file:audit.key"'),
        ({"KEY": "/etc/shop/audit"}, "E067", 'Write "file:/etc/shop/audit"'),
        ({"KEY": "tests.test_evidence_settings.asking_for_more"}, "E067", "without arguments"),
        ({"KEY": "tests.test_evidence_settings.of_a_vault"}, "E067", "the vault is sealed"),
        ({"KEY": "tests.test_evidence_settings.of_no_environment"}, "E067", "KeyError"),
        ({"KEY": "tests.test_evidence_settings.of_nobody"}, "E067", "--generate-key"),
        ({"ANCHORS": {"a": {"BACKEND": "tests.test_evidence_settings.Unsure"}}}, "E068", "no way to tell"),
        ({"PUBLIC_KEYS": ["x"]}, "E067", 'PUBLIC_KEYS"][0]'),
        ({"ANCHORS": {"a": {}}}, "E068", "BACKEND"),
        ({"ANCHORS": {"a": {"BACKEND": f"{ANCHORS}.file.FileAncho"}}}, "E068", "FileAnchor"),
        ({"ANCHORS": {"a": {"BACKEND": f"{ANCHORS}.file.FileAnchor"}}}, "E068", "path"),
        ({"ANCHORS": {"a": {"BACKEND": f"{ANCHORS}.log.LogAnchor", "OPTIONS": {"loger": "x"}}}}, "E068", "logger"),
        ({"ANCHORS": {"a": {"BACKEND": f"{ANCHORS}.webhook.WebhookAnchor", "OPTIONS": {"url": "x"}}}}, "E068", "http"),
        (
            {"ANCHORS": {"a": {"BACKEND": f"{ANCHORS}.storage.StorageAnchor", "OPTIONS": {"storage": "defalt"}}}},
            "E068",
            "default",
        ),
        ({"INTERVAL": "60s"}, "W066", "KEY"),
        ({"INTERVAL": "60s"}, "W067", "ANCHORS"),
    ],
)
def test_a_mistake_in_evidence_is_reported(audit: Audit, evidence: dict[str, Any], code: str, words: str) -> None:
    audit(EVIDENCE=evidence)
    assert any(words in text for name, text in found() if name == code), found()


def test_evidence_that_is_complete_has_no_mistakes(audit: Audit, tmp_path: Path) -> None:
    audit(EVIDENCE={"KEY": "tests.test_evidence_settings.key", "ANCHORS": {"file": file_anchor(tmp_path / "a")}})
    assert found() == []


def test_a_project_without_the_setting_gets_no_warning(audit: Audit) -> None:
    audit()
    assert found() == []


def test_the_key_comes_from_a_file_the_environment_or_a_function(
    audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv("AUDIT_TEST_KEY", KEY)
    for source in (f"file:{tmp_path / 'key'}", "env:AUDIT_TEST_KEY", "tests.test_evidence_settings.key"):
        audit(EVIDENCE={"KEY": source})
        signer = get_signer()
        assert signer is not None
        assert signer.public_key == PrivateKey(KEY).public_key


def test_a_damaged_key_is_refused(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_TEST_KEY", KEY[:-8] + "AAAAAAA=")
    audit(EVIDENCE={"KEY": "env:AUDIT_TEST_KEY"})
    with pytest.raises(InvalidSettings, match="KEY"):
        get_signer()


def test_a_key_is_generated_once_and_only_for_its_owner(tmp_path: Path) -> None:
    path, out = tmp_path / "key", io.StringIO()
    call_command("audit_seal", "--generate-key", str(path), stdout=out)
    assert PrivateKey(path.read_text()).public_key == out.getvalue().strip()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CommandError, match="Cannot write"):
        call_command("audit_seal", "--generate-key", str(path), stdout=out)


def test_checkpoints_of_a_former_key_verify_after_a_rotation(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_TEST_KEY", KEY)
    audit(EVIDENCE={"KEY": "env:AUDIT_TEST_KEY"})
    make_event()
    seal("default")
    monkeypatch.setenv("AUDIT_TEST_KEY", OTHER_KEY)
    audit(EVIDENCE={"KEY": "env:AUDIT_TEST_KEY", "PUBLIC_KEYS": [PrivateKey(KEY).public_key]})
    make_event()
    seal("default")
    first, second = AuditCheckpoint.objects.order_by("size")
    assert signers_of(first.note, verifying_keys())[1] == [PrivateKey(KEY).public_key]
    assert signers_of(second.note, verifying_keys())[1] == [PrivateKey(OTHER_KEY).public_key]


def test_the_receipt_of_an_anchor_is_an_event_that_makes_no_checkpoint_of_its_own(audit: Audit, tmp_path: Path) -> None:
    audit(EVIDENCE={"ANCHORS": {"file": file_anchor(tmp_path / "notes")}})
    make_event()
    seal("default")
    assert anchor("default").anchored == ["file"]
    assert anchor("default").anchored == []
    event = AuditEvent.objects.get(event_type="checkpoint_anchored")
    assert (event.data["anchor"], event.data["size"]) == ("file", 1)
    assert AuditReceipt.objects.get().size == 1
    assert seal("default").checkpoints == 0
    make_event()
    assert seal("default").sealed == 2
    anchor("default")
    assert list(get_anchors()["file"].notes()) == list(
        AuditCheckpoint.objects.order_by("size").values_list("note", flat=True)
    )


def test_an_anchor_that_fails_does_not_keep_the_others_from_theirs(
    audit: Audit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anchors = {"broken": {"BACKEND": "tests.test_evidence_settings.BrokenAnchor"}, "file": file_anchor(tmp_path / "n")}
    audit(EVIDENCE={"ANCHORS": anchors})
    make_event()
    error = io.StringIO()
    call_command("audit_seal", stdout=io.StringIO(), stderr=error)
    assert "it is away" in error.getvalue()
    assert list(AuditReceipt.objects.values_list("anchor", flat=True)) == ["file"]
    assert "did not accept checkpoint 1" in caplog.text


def test_anchors_mail_log_and_save_the_note(audit: Audit, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    settings.STORAGES = {**settings.STORAGES, "worm": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
    audit(
        EVIDENCE={
            "ANCHORS": {
                "mail": {"BACKEND": f"{ANCHORS}.email.EmailAnchor", "OPTIONS": {"to": "auditor@example.com"}},
                "log": {"BACKEND": f"{ANCHORS}.log.LogAnchor"},
                "worm": {"BACKEND": f"{ANCHORS}.storage.StorageAnchor", "OPTIONS": {"storage": "worm"}},
            }
        }
    )
    make_event()
    seal("default")
    with caplog.at_level(logging.INFO, "django_signal_audit.checkpoints"):
        assert anchor("default").failed == {}
    note = AuditCheckpoint.objects.get().note
    assert mail.outbox[0].body == note
    assert json.dumps(note) in caplog.text
    assert list(get_anchors()["worm"].notes()) == [note]


def test_an_anchor_posts_the_note_and_keeps_the_answer(audit: Audit) -> None:
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"receipt 7")

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        audit(EVIDENCE={"ANCHORS": {"web": {"BACKEND": f"{ANCHORS}.webhook.WebhookAnchor", "OPTIONS": {"url": url}}}})
        make_event()
        seal("default")
        assert anchor("default").anchored == ["web"]
        server.shutdown()
    assert received == [AuditCheckpoint.objects.get().note.encode()]
    assert AuditReceipt.objects.get().receipt == "receipt 7"
