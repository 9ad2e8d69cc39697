"""Proofs for others: a bundle verifies without Django, and one with anything changed does not."""

from __future__ import annotations

import base64
import copy
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from django_signal_audit.evidence import standalone
from django_signal_audit.evidence.notes import PrivateKey, PublicKey
from django_signal_audit.evidence.proofs import Tree, bundle_of, growth_of
from django_signal_audit.evidence.sealing import seal
from django_signal_audit.evidence.tree import is_consistent, is_included, leaf_hash
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditLeaf

from .conftest import Audit
from .samples import HOSTILE, make_event

pytest.importorskip("cryptography")
pytestmark = pytest.mark.django_db

KEY = PrivateKey.generate("django-signal-audit")
PUBLIC = PrivateKey(KEY).public_key


def key() -> str:
    return KEY


@pytest.fixture(autouse=True)
def sealed(audit: Audit) -> None:
    """Seal 30 events in batches of seven, signed."""
    audit(EVIDENCE={"KEY": "tests.test_evidence_prove.key"})
    for number in range(30):
        make_event(
            recorded_at=timezone.now(),
            object_repr=HOSTILE,
            object_id=str(number),
            changes={"email": ["zo\u00eb@example.com", None], "price": ["1.00", "2.00"]},
            context={"ip": "10.0.0.1"},
        )
    seal("default", batch_size=7)


def event_at(index: int) -> AuditEvent:
    return AuditEvent.objects.get(uid=AuditLeaf.objects.get(index=index).event)


def verify(path: Path, *arguments: str) -> tuple[int, str]:
    """Run the file by itself, in isolated mode and without our package on the path."""
    command = [sys.executable, "-I", "-W", "error", str(path.parent / "verifier.py"), str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=path.parent, encoding="utf-8")
    return done.returncode, done.stdout + done.stderr


def write_proof(path: Path, *arguments: str) -> None:
    call_command("audit_prove", *arguments, "--output", str(path), "--verifier", str(path.parent / "verifier.py"))


def test_a_proof_is_verified_by_one_file_without_django(tmp_path: Path) -> None:
    event, path = event_at(12), tmp_path / "bundle.json"
    write_proof(path, str(event.uid))
    code, text = verify(path, "--key", PUBLIC)
    assert code == 0, text
    shown = json.loads(text[: text.rindex("}") + 1])
    assert shown["uid"] == str(event.uid)
    assert shown["personal"]["object_repr"] == HOSTILE
    assert shown["personal"]["changes.email.0"] == "zo\u00eb@example.com"
    assert shown["changes"]["price"] == ["1.00", "2.00"]
    assert "signed by the key" in text


def test_openssl_verifies_the_signature_as_the_docs_say(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    page = Path(__file__).parent.parent / "docs" / "reference" / "evidence.md"
    [block] = [part for part in page.read_text(encoding="utf-8").split("```") if "openssl pkeyutl" in part]
    name, *lines = block.removeprefix("sh\n").splitlines()
    assert name.startswith("KEY=")
    write_proof(tmp_path / "bundle.json", str(event_at(12).uid))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def verified(*more: str) -> bool:
        script = "\n".join([f"KEY='{PUBLIC}'", *lines[:-1], *more, lines[-1]])
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(["sh", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, check=False)
        return done.returncode == 0

    assert verified()
    assert not verified("echo more >> text")


def test_a_bundle_is_small(tmp_path: Path) -> None:
    bundle = bundle_of(event_at(12), "default")
    overhead = {name: value for name, value in bundle.items() if name not in ("leaf", "disclosures")}
    assert len(json.dumps(overhead)) < 4096


def test_another_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    write_proof(path, str(event_at(3).pk))
    other = PrivateKey(PrivateKey.generate("django-signal-audit")).public_key
    assert verify(path, "--key", other)[0] == 1
    assert verify(path, "--key", "nonsense")[0] == 1
    assert "NOT verified" in verify(path)[1]


def test_a_kept_checkpoint_has_to_be_the_bundles(tmp_path: Path) -> None:
    path, kept = tmp_path / "bundle.json", tmp_path / "kept"
    write_proof(path, str(event_at(3).pk), "--size", "14")
    kept.write_text(AuditCheckpoint.objects.get(size=14).note, encoding="utf-8")
    assert verify(path, "--checkpoint", str(kept))[0] == 0
    kept.write_text(AuditCheckpoint.objects.get(size=28).note, encoding="utf-8")
    assert verify(path, "--checkpoint", str(kept))[0] == 1


def test_a_kept_checkpoint_can_be_the_older_or_the_newer_one_of_a_log_that_has_grown(tmp_path: Path) -> None:
    path, kept = tmp_path / "growth.json", tmp_path / "kept"
    write_proof(path, "--since", "7", "--size", "28")
    for size, code in ((7, 0), (28, 0), (14, 1), (30, 1)):
        kept.write_text(AuditCheckpoint.objects.get(size=size).note, encoding="utf-8")
        assert verify(path, "--checkpoint", str(kept))[0] == code, size


@pytest.mark.parametrize("leaf", ['{"sd": 5}', '{"sd": [1]}', '{"sd": null}', "{}", "[]", "5", '"sd"'])
def test_a_leaf_that_is_no_event_of_ours_is_refused_in_one_line(tmp_path: Path, leaf: str) -> None:
    path = tmp_path / "bundle.json"
    write_proof(path, str(event_at(3).uid))
    root = base64.b64encode(leaf_hash(leaf.encode())).decode()
    bundle = {"leaf": leaf, "index": 0, "proof": [], "disclosures": [], "checkpoint": f"log\n1\n{root}\n"}
    path.write_text(json.dumps(bundle), encoding="utf-8")
    assert verify(path) == (1, "REFUSED: The leaf isn't an event.\n")


@pytest.mark.parametrize("content", ["", "[]", "{}", "nul\0", '{"leaf": 1}', "[" * 5000, '{"old_checkpoint": 3}'])
def test_what_is_no_bundle_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bundle.json"
    write_proof(path, str(event_at(3).pk))
    path.write_text(content, encoding="utf-8")
    code, text = verify(path)
    assert code in (1, 2)
    assert "Traceback" not in text


def changed_texts(text: str) -> Iterator[str]:
    for place, char in enumerate(text):
        yield text[:place] + chr(ord(char) ^ 1) + text[place + 1 :]
        yield text[:place] + text[place + 1 :]


def test_a_bundle_with_anything_changed_is_refused() -> None:
    bundle = bundle_of(event_at(12), "default")
    event = standalone.verify_event(bundle)
    changes: list[tuple[str, Any]] = [("leaf", text) for text in changed_texts(bundle["leaf"])]
    for name in ("disclosures", "proof"):
        for at, item in enumerate(bundle[name]):
            for text in changed_texts(item):
                changes.append((name, [*bundle[name][:at], text, *bundle[name][at + 1 :]]))
    changes += [("proof", bundle["proof"][1:]), ("proof", [*bundle["proof"], bundle["proof"][0]])]
    changes += [("index", value) for value in (11, 13, 14, -1, 1 << 63, None, "12", True)]
    for name, value in changes:
        changed = {**copy.deepcopy(bundle), name: value}
        with pytest.raises(standalone.Refused):
            standalone.verify_event(changed)
    for text in changed_texts(bundle["checkpoint"]):
        try:
            assert standalone.verify_event({**bundle, "checkpoint": text}) == event
            standalone.require_signature(text, PUBLIC)
        except standalone.Refused:
            continue
        pytest.fail(f"{text!r} was not refused")


def test_a_value_that_is_not_disclosed_counts_as_erased() -> None:
    bundle = bundle_of(event_at(12), "default")
    shown = [item for item in bundle["disclosures"] if "example.com" not in _decoded(item)]
    event = standalone.verify_event({**bundle, "disclosures": shown})
    assert event["erased"] == ["changes.email.0"]
    assert event["changes"]["email"] == [None, None]


def _decoded(text: str) -> str:
    import base64

    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


def test_every_event_is_proved_by_every_checkpoint_that_holds_it() -> None:
    tree = Tree("default")
    for checkpoint in AuditCheckpoint.objects.all():
        for leaf in AuditLeaf.objects.filter(index__lt=checkpoint.size):
            proof = tree.inclusion(leaf.index, checkpoint.size)
            assert is_included(bytes(leaf.hash), leaf.index, checkpoint.size, proof, bytes(checkpoint.root))


def test_the_log_is_proved_to_have_only_grown_between_any_two_checkpoints(tmp_path: Path) -> None:
    tree = Tree("default")
    checkpoints = list(AuditCheckpoint.objects.order_by("size"))
    for at, old in enumerate(checkpoints):
        for new in checkpoints[at:]:
            proof = tree.consistency(old.size, new.size)
            assert is_consistent(old.size, bytes(old.root), new.size, bytes(new.root), proof)
            assert standalone.verify_growth(growth_of("default", old.size, new.size)) == (old.size, new.size)
    path = tmp_path / "growth.json"
    write_proof(path, "--since", "7")
    code, text = verify(path, "--key", PUBLIC)
    assert (code, text.splitlines()[0]) == (0, "The log of 30 events begins with the log of 7 events.")


NEXT_KEY = PrivateKey.generate("django-signal-audit")


def next_key() -> str:
    return NEXT_KEY


def test_the_log_is_proved_to_have_only_grown_while_its_key_was_changed(audit: Audit, tmp_path: Path) -> None:
    audit(EVIDENCE={"KEY": "tests.test_evidence_prove.next_key", "PUBLIC_KEYS": [PUBLIC]})
    make_event(recorded_at=timezone.now())
    seal("default")
    path, next_public = tmp_path / "growth.json", PrivateKey(NEXT_KEY).public_key
    write_proof(path, "--since", "7")
    assert verify(path, "--key", PUBLIC, "--key", next_public)[0] == 0
    assert verify(path, "--key", next_public, "--key", PUBLIC)[0] == 0
    for known in (PUBLIC, next_public):
        code, text = verify(path, "--key", known)
        assert (code, text) == (1, "REFUSED: The checkpoint isn't signed by django-signal-audit.\n")
    stranger = PrivateKey(PrivateKey.generate("stranger")).public_key
    code, text = verify(path, "--key", PUBLIC, "--key", stranger)
    assert (code, text.count("isn't signed by")) == (1, 2)


def test_a_proof_in_a_large_log_reads_few_leaves(django_assert_max_num_queries: Any) -> None:
    tree = Tree("default")
    with django_assert_max_num_queries(12):
        tree.inclusion(3, 30)


def test_an_event_that_was_changed_has_no_proof() -> None:
    event = event_at(5)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {AuditEvent._meta.db_table} SET level = 'critical' WHERE id = %s", [event.pk])
    with pytest.raises(CommandError, match="isn't what was sealed"):
        call_command("audit_prove", str(event.uid))


@pytest.mark.parametrize("name", ["999999", "nothing", "01a21ad3-7f65-7825-80bd-6a5b0ee08503"])
def test_an_unknown_event_is_an_error_of_one_line(name: str) -> None:
    with pytest.raises(CommandError, match="There is no event") as error:
        call_command("audit_prove", name)
    assert error.value.returncode == 2


def test_an_event_that_is_not_sealed_has_no_proof() -> None:
    with pytest.raises(CommandError, match="not sealed yet") as error:
        call_command("audit_prove", str(make_event().uid))
    assert error.value.returncode == 1


@pytest.mark.parametrize(
    ("size", "message"), [("0", "There is no checkpoint 0"), ("8", "no checkpoint 8"), ("7", "older than the event")]
)
def test_a_checkpoint_that_does_not_hold_the_event_is_named(size: str, message: str) -> None:
    with pytest.raises(CommandError, match=message) as error:
        call_command("audit_prove", str(event_at(12).uid), "--size", size)
    assert error.value.returncode == 1


def test_nothing_in_an_event_steers_the_terminal_of_who_verifies_it(tmp_path: Path) -> None:
    """The text of an object may be anybody's, and must not look like what the verifier says."""
    event = make_event(recorded_at=timezone.now(), object_repr="\x9b2J\u202eevorp\u2028\x7f")
    seal("default")
    path = tmp_path / "bundle.json"
    write_proof(path, str(event.uid))
    code, text = verify(path, "--key", PUBLIC)
    assert (code, set(filter(lambda char: not char.isprintable(), text))) == (0, {"\n"})
    assert json.loads(text[: text.rindex("}") + 1])["personal"]["object_repr"] == event.object_repr


def test_nothing_is_shown_of_an_event_whose_signature_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    write_proof(path, str(event_at(3).pk))
    other = PrivateKey(PrivateKey.generate("django-signal-audit")).public_key
    code, text = verify(path, "--key", other)
    assert (code, text.startswith("REFUSED: "), len(text.splitlines())) == (1, True, 1)


def test_a_console_without_the_characters_of_an_event_verifies_it(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    write_proof(path, str(event_at(3).pk))
    command = [sys.executable, str(path.parent / "verifier.py"), str(path), "--key", PUBLIC]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=path.parent, env=environment)
    assert (done.returncode, "signed by the key" in done.stdout) == (0, True), done.stderr


def test_the_proof_in_the_format_of_c2sp_has_the_index_the_hashes_and_the_checkpoint() -> None:
    out = io.StringIO()
    call_command("audit_prove", str(event_at(12).uid), "--format", "tlog-proof", stdout=out)
    head, _, rest = out.getvalue().partition("\n\n")
    lines = head.split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 12"]
    assert lines[2:] == bundle_of(event_at(12), "default")["proof"]
    assert rest == AuditCheckpoint.objects.latest("size").note


def test_the_signatures_of_the_standalone_verifier_are_those_of_cryptography() -> None:
    signer, public = PrivateKey(KEY), PublicKey.of(PUBLIC)
    chance = random.Random(7)
    for size in (0, 1, 100):
        message = chance.randbytes(size)
        signature = signer.sign(message)
        assert standalone.ed25519_verifies(public.key, signature, message)
        for _ in range(8):
            place = chance.randrange(64)
            changed = (
                signature[:place] + bytes([signature[place] ^ (1 << chance.randrange(8))]) + signature[place + 1 :]
            )
            assert not standalone.ed25519_verifies(public.key, changed, message)
        assert not standalone.ed25519_verifies(public.key, signature, message + b"x")
        # The same signature with a scalar that is larger by the order of the group, which RFC 8032 refuses.
        scalar = int.from_bytes(signature[32:], "little") + 2**252 + 27742317777372353535851937790883648493
        assert not standalone.ed25519_verifies(public.key, signature[:32] + scalar.to_bytes(32, "little"), message)
    # RFC 8032, section 7.1, test 2.
    assert standalone.ed25519_verifies(
        bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"),
        bytes.fromhex(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
        b"\x72",
    )
