"""The commands of the evidence as a shell sees them: exit codes, output, one-line errors, and what keeps running."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class
from django.db import connections
from django.utils import timezone

from django_signal_audit.evidence.config import evidence_problems, get_signer
from django_signal_audit.evidence.notes import PrivateKey
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditLeaf

from .conftest import Audit
from .small_project import SmallProject

pytest.importorskip("cryptography")

KEY = PrivateKey.generate("django-signal-audit")
SIGNED = {"KEY": "tests.test_evidence_commands.key"}
COMMANDS = {
    "audit_seal": [],
    "audit_verify": [],
    "audit_prove": ["1"],
    "audit_erase": ["--skip-checks", "--subject", "auth.User", "3"],
}
both = pytest.mark.django_db(databases=["default", "other"])
Run = Callable[..., tuple[int, str, str]]


def key() -> str:
    return KEY


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command as ``manage.py`` does, and return its exit code, output and errors."""
    monkeypatch.setattr(connections, "close_all", lambda: None)  # the test goes on with them

    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            load_command_class("django_signal_audit", name).run_from_argv(["manage.py", name, *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def recent(using: str = "default", **values: Any) -> AuditEvent:
    event = AuditEvent(
        **{
            "event_type": "update",
            "source": "orm",
            "model": "auth.user",
            "object_id": "3",
            "recorded_at": timezone.now(),
        }
        | values
    )
    event.save(using=using)
    return event


def tamper(event: AuditEvent) -> None:
    column = AuditEvent._meta.get_field("uid").get_db_prep_value(event.uid, connections["default"])
    with connections["default"].cursor() as cursor:
        cursor.execute(f"UPDATE {AuditEvent._meta.db_table} SET correlation_id = 'x' WHERE uid = %s", [column])


@both
class TestSeal:
    def test_it_seals_and_signs_and_ends_with_0(self, audit: Audit, run: Run) -> None:
        audit(EVIDENCE=SIGNED)
        recent()
        assert run("audit_seal", "--once") == (0, "1 event sealed, 1 in all.\n", "")
        assert "— django-signal-audit " in AuditCheckpoint.objects.get().note
        assert run("audit_seal") == (0, "0 events sealed, 1 in all.\n", "")

    def test_without_a_key_it_says_so_and_ends_with_0(self, audit: Audit, run: Run) -> None:
        audit()
        recent()
        code, out, err = run("audit_seal")
        assert (code, out) == (0, "1 event sealed, 1 in all.\n")
        assert err == 'Checkpoints are not signed: SIGNAL_AUDIT["EVIDENCE"] has no KEY.\n'

    def test_a_key_that_cannot_be_read_is_one_line_and_2(self, audit: Audit, run: Run, tmp_path: Path) -> None:
        audit(EVIDENCE={"KEY": f"file:{tmp_path / 'missing'}"})
        recent()
        code, out, err = run("audit_seal")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert not AuditLeaf.objects.exists()

    def test_it_seals_the_named_database_alone(self, audit: Audit, run: Run) -> None:
        audit(EVIDENCE=SIGNED)
        recent()
        recent("other")
        assert run("audit_seal", "--database", "other")[:2] == (0, "1 event sealed, 1 in all.\n")
        assert not AuditLeaf.objects.exists()
        assert AuditCheckpoint.objects.using("other").get().note.startswith("django-signal-audit/other\n1\n")

    def test_a_new_key_is_written_for_its_owner_alone_and_never_over_another(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "audit.key"
        code, public, err = run("audit_seal", "--generate-key", str(path))
        assert (code, err) == (0, "")
        assert PrivateKey(path.read_text()).public_key == public.strip()
        assert path.stat().st_mode & 0o777 == 0o600
        code, out, err = run("audit_seal", "--generate-key", str(path))
        assert (code, out, err.count("\n")) == (2, "", 1)

    def test_a_key_that_the_settings_name_can_be_made_before_the_tables_are(
        self, audit: Audit, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "new audit.key"
        audit(EVIDENCE={"KEY": f"file:{path}"})
        [problem] = [found for found in evidence_problems() if found.code == "E067"]
        assert problem.hint == f"Make a key with manage.py audit_seal --generate-key '{path}'."
        monkeypatch.setattr("django_signal_audit.reports.arguments.table_exists", lambda *_: False)
        monkeypatch.setattr(connections["default"].introspection, "table_names", list)
        code, public, err = run("audit_seal", "--generate-key", str(path))
        assert (code, err) == (0, "")
        audit(EVIDENCE={"KEY": f"file:{path}"})
        assert public.strip() == get_signer().public_key
        code, out, err = run("audit_seal", "--generate-key", str(tmp_path / "second"), "--database", "oter")
        assert (code, out, err) == (2, "", "CommandError: There is no database 'oter'. Did you mean 'other'?\n")


@both
def test_health_names_an_anchor_that_takes_no_checkpoint(audit: Audit, run: Run) -> None:
    anchors = {
        "broken": {"BACKEND": "tests.test_evidence_settings.BrokenAnchor"},
        "log": {"BACKEND": "django_signal_audit.evidence.anchors.log.LogAnchor"},
    }
    audit(EVIDENCE={**SIGNED, "ANCHORS": anchors})
    recent()
    run("audit_seal")
    assert run("audit_deliver", "--health")[0] == 0
    AuditCheckpoint.objects.update(sealed_at=timezone.now() - dt.timedelta(minutes=7))
    code, out, _ = run("audit_deliver", "--health")
    assert code == 4
    assert out.count("the anchor") == 1
    assert 'the anchor "broken" has accepted no checkpoint since 20' in out
    assert run("audit_deliver", "--health", "--max-age", "10m")[0] == 0


@both
class TestVerify:
    def test_0_if_nothing_differs(self, audit: Audit, run: Run) -> None:
        audit(EVIDENCE=SIGNED)
        recent()
        run("audit_seal")
        code, out, err = run("audit_verify")
        assert (code, err) == (0, "")
        assert out.startswith("1 event and 1 checkpoint verified, 0 differences.\n")

    def test_0_for_a_log_that_is_empty_or_not_signed(self, audit: Audit, run: Run) -> None:
        audit()
        assert run("audit_verify")[0] == 0
        recent()
        run("audit_seal")
        code, out, _ = run("audit_verify")
        assert code == 0
        assert "No checkpoint has a signature of a known key" in out

    def test_2_and_one_line_if_a_key_is_set_and_has_signed_nothing(
        self, audit: Audit, run: Run, tmp_path: Path
    ) -> None:
        audit()
        recent()
        run("audit_seal")
        (tmp_path / "kept").write_text(AuditCheckpoint.objects.get().note)
        audit(EVIDENCE=SIGNED)
        for arguments in ([], ["--sample", "3"], ["--format", "json"]):
            code, out, err = run("audit_verify", *arguments)
            assert (code, err.count("\n")) == (2, 1)
            assert "nothing was sealed since the key was set, or the whole log was rewritten" in err
        assert json.loads(out)["is_unsigned"] is True
        assert run("audit_verify", "--checkpoint", str(tmp_path / "kept"))[0] == 0
        recent()
        run("audit_seal")
        code, out, _ = run("audit_verify")
        assert code == 0
        assert "Checkpoints without a signature of a known key: 1 of 2." in out

    def test_2_if_the_key_of_an_auditor_has_signed_nothing(self, audit: Audit, run: Run) -> None:
        audit(EVIDENCE=SIGNED)
        assert run("audit_verify")[0] == 0
        recent()
        run("audit_seal")
        stranger = PrivateKey(PrivateKey.generate("django-signal-audit")).public_key
        assert run("audit_verify", "--key", stranger)[0] == 2

    def test_1_and_a_line_for_each_finding(self, audit: Audit, run: Run) -> None:
        audit(EVIDENCE=SIGNED)
        event = recent()
        run("audit_seal")
        tamper(event)
        code, out, _ = run("audit_verify")
        assert code == 1
        assert out.splitlines()[0] == f"edited 0 {event.uid}: Event {event.pk} isn't what was sealed."

    def test_json_has_the_verdict_and_the_findings(self, audit: Audit, run: Run) -> None:
        audit(EVIDENCE=SIGNED)
        events = [recent() for _ in range(3)]
        run("audit_seal")
        for event in events:
            tamper(event)
        code, out, err = run("audit_verify", "--format", "json", "--limit", "2")
        record = json.loads(out)
        assert (code, err) == (1, "")
        assert {key: record[key] for key in ("leaves", "size", "signed", "found", "unsealed", "is_late")} == {
            "leaves": 3, "size": 3, "signed": 1, "found": 3, "unsealed": 0, "is_late": False,
        }  # fmt: skip
        assert [item["event"] for item in record["findings"]] == [str(event.uid) for event in events[:2]]

    def test_3_if_events_older_than_the_interval_are_not_sealed(self, audit: Audit, run: Run) -> None:
        audit(EVIDENCE={**SIGNED, "INTERVAL": "5m"})
        recent()
        assert run("audit_verify")[0] == 0
        recent(recorded_at=timezone.now() - dt.timedelta(minutes=6))
        code, out, _ = run("audit_verify", "--format", "json")
        assert code == 3
        assert json.loads(out)["is_late"] is True

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--key", "nonsense"], "The public key"),
            (["--checkpoint", "/nowhere/note"], "No such file"),
            (["--since", "/nowhere/note"], "No such file"),
            (["--sample", "many"], "invalid int value"),
            (["--jobs", "0"], "--jobs 0 isn't a number of processes"),
        ],
    )
    def test_2_and_one_line_if_it_could_not_complete(
        self, audit: Audit, run: Run, arguments: list[str], message: str
    ) -> None:
        audit(EVIDENCE=SIGNED)
        code, out, err = run("audit_verify", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err

    def test_the_named_database_alone_is_verified(self, audit: Audit, run: Run) -> None:
        audit(EVIDENCE=SIGNED)
        event = recent()
        recent("other")
        run("audit_seal")
        run("audit_seal", "--database", "other")
        tamper(event)
        assert run("audit_verify")[0] == 1
        code, out, _ = run("audit_verify", "--database", "other")
        assert code == 0
        assert out.startswith("1 event and 1 checkpoint verified, 0 differences.\n")


@both
class TestProve:
    def test_0_and_a_bundle_that_the_verifier_takes(self, audit: Audit, run: Run, tmp_path: Path) -> None:
        audit(EVIDENCE=SIGNED)
        event = recent(object_repr="ada")
        run("audit_seal")
        bundle, verifier = tmp_path / "bundle.json", tmp_path / "verify.py"
        done = run("audit_prove", str(event.uid), "--output", str(bundle), "--verifier", str(verifier))
        assert done == (0, "", "")
        command = [sys.executable, "-I", str(verifier), str(bundle), "--key", PrivateKey(KEY).public_key]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "ada" in shown.stdout

    def test_1_if_the_event_is_not_sealed_or_not_what_was_sealed(self, audit: Audit, run: Run) -> None:
        audit(EVIDENCE=SIGNED)
        event = recent()
        code, out, err = run("audit_prove", str(event.pk))
        assert (code, out, err) == (1, "", "CommandError: The event is not sealed yet. Run manage.py audit_seal.\n")
        run("audit_seal")
        tamper(event)
        code, out, err = run("audit_prove", str(event.pk))
        assert (code, out, err.count("\n")) == (1, "", 1)

    @pytest.mark.parametrize("arguments", [[], ["99"], ["no-uid"], ["--since", "x"], ["9" * 40]])
    def test_2_and_one_line_for_a_wrong_option_or_event(self, run: Run, arguments: list[str]) -> None:
        code, out, err = run("audit_prove", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)

    def test_an_event_of_another_database(self, audit: Audit, run: Run) -> None:
        audit(EVIDENCE=SIGNED)
        event = recent("other")
        run("audit_seal", "--database", "other")
        assert run("audit_prove", str(event.uid))[0] == 2
        code, out, _ = run("audit_prove", str(event.uid), "--database", "other")
        assert code == 0
        assert json.loads(out)["checkpoint"].startswith("django-signal-audit/other\n")


@both
class TestErase:
    def test_0_and_what_was_erased(self, audit: Audit, run: Run) -> None:
        audit(EVIDENCE=SIGNED)
        event = recent(object_repr="ada")
        run("audit_seal")
        shown = "1 value in 1 event would be erased, 0 messages emptied.\n"
        assert run("audit_erase", "--skip-checks", "--subject", "auth.User", "3", "--dry-run") == (0, shown, "")
        assert run("audit_erase", "--skip-checks", "--subject", "auth.User", "3")[:2] == (
            0,
            shown.replace("would be ", ""),
        )
        event.refresh_from_db()
        assert event.object_repr == ""
        assert run("audit_erase", "--skip-checks", "--subject", "auth.User", "4")[0] == 0

    @pytest.mark.parametrize("subject", [["auth.Usr", "3"], ["nothing", "3"], ["auth.User"]])
    def test_2_and_one_line_for_a_wrong_subject(self, run: Run, subject: list[str]) -> None:
        code, out, err = run("audit_erase", "--skip-checks", "--subject", *subject)
        assert (code, out, err.count("\n")) == (2, "", 1)

    def test_1_and_nothing_erased_if_it_cannot_be_recorded(
        self, audit: Audit, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        audit(EVIDENCE=SIGNED)
        event = recent(object_repr="ada")
        monkeypatch.setattr("django_signal_audit.evidence.erasure.record_changes", lambda *_: [])
        code, out, err = run("audit_erase", "--skip-checks", "--subject", "auth.User", "3")
        assert (code, out, err.count("\n")) == (1, "", 1)
        event.refresh_from_db()
        assert event.object_repr == "ada"


@both
@pytest.mark.parametrize("name", ["audit_seal", "audit_verify", "audit_erase"])
def test_long_work_shows_a_bar_on_a_terminal_and_none_in_a_pipe(
    audit: Audit, run: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit(EVIDENCE=SIGNED)
    recent(object_repr="ada")
    if name == "audit_verify":
        run("audit_seal")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, _, err = run(name, *COMMANDS[name])
    assert code == 0
    assert "event" in err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert run(name, *COMMANDS[name])[2] == ""


@both
def test_several_processes_need_settings_that_they_can_import(
    audit: Audit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit(EVIDENCE=SIGNED)
    monkeypatch.setattr("django_signal_audit.evidence.verification.can_share", lambda _using: True)
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    code, _, err = run("audit_verify", "--jobs", "2")
    assert (code, err.count("\n")) == (2, 1)
    assert "Several processes need the settings in a module" in err


@pytest.mark.slow
def test_several_processes_find_what_one_finds(small_project: Callable[..., SmallProject]) -> None:
    project = small_project(
        "class Tea(models.Model):\n    name = models.CharField(max_length=20)\n",
        "migrations.CreateModel('Tea', [('id', models.BigAutoField(primary_key=True)), "
        "('name', models.CharField(max_length=20))])",
    )
    project.run("migrate", "--verbosity", "0")
    project.python("Tea.objects.bulk_create([Tea(name=f'{number}') for number in range(12_000)], batch_size=500)")
    project.run("audit_seal")
    clean = json.loads(project.run("audit_verify", "--jobs", "2", "--format", "json"))
    assert (clean["leaves"], clean["found"]) == (12_000, 0)
    table = AuditEvent._meta.db_table
    project.python(
        f"""
        from django.db import connection
        ids = list(AuditEvent.objects.order_by("id").values_list("id", flat=True))
        with connection.cursor() as cursor:
            for place in (0, 4_999, 5_000, 11_999):
                cursor.execute("UPDATE {table} SET object_id = 'eve' WHERE id = %s", [ids[place]])
            cursor.execute("DELETE FROM {table} WHERE id = %s", [ids[7_000]])
        """
    )
    shown = [project.run("audit_verify", "--jobs", jobs, "--format", "json", code=1) for jobs in ("1", "2")]
    assert shown[0] == shown[1]
    found = [(item["kind"], item["index"]) for item in json.loads(shown[0])["findings"]]
    assert found == [("edited", 0), ("edited", 4_999), ("edited", 5_000), ("edited", 11_999), ("deleted", 7_000)]


def sealed(project: SmallProject) -> int:
    return int(project.python("from django_signal_audit.models import AuditLeaf; print(AuditLeaf.objects.count())"))


def start(project: SmallProject, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(project.path), str(Path(__file__).resolve().parents[1])])
    return subprocess.Popen(
        [sys.executable, "-m", "django", *arguments],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "project", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_sealed(project: SmallProject, count: int) -> None:
    give_up = time.monotonic() + 30
    while sealed(project) < count and time.monotonic() < give_up:
        time.sleep(1)  # To ask is to start a process.
    assert sealed(project) >= count


@pytest.mark.slow
@pytest.mark.parametrize("command", [["audit_seal", "--watch"], ["audit_deliver", "--watch", "--skip-checks"]])
def test_what_keeps_running_seals_and_anchors_and_ends_well(
    small_project: Callable[..., SmallProject], tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor = {
        "BACKEND": "django_signal_audit.evidence.anchors.file.FileAnchor",
        "OPTIONS": {"path": str(tmp_path / "notes")},
    }
    evidence = {"KEY": "env:AUDIT_TEST_KEY", "INTERVAL": "1s", "ANCHORS": {"file": anchor}}
    monkeypatch.setenv("AUDIT_TEST_KEY", KEY)
    project = small_project(
        "class Tea(models.Model):\n    name = models.CharField(max_length=20)\n",
        "migrations.CreateModel('Tea', [('id', models.BigAutoField(primary_key=True)), "
        "('name', models.CharField(max_length=20))])",
        more=f"SIGNAL_AUDIT['EVIDENCE'] = {evidence!r}\n",
    )
    project.run("migrate", "--verbosity", "0")
    process = start(project, *command)
    try:
        for count in (1, 2):
            project.python("Tea.objects.create(name='green')")
            wait_until_sealed(project, count)
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert ("1 event sealed" in out) is (command[0] == "audit_seal")
    shown = json.loads(project.run("audit_verify", "--format", "json"))
    assert shown["signed"] == shown["checkpoints"] > 0
    assert shown["anchored"] > 0
