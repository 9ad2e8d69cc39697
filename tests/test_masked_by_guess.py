"""What is masked without being asked for: names, encrypting fields, models that hold secrets; and how check says so."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import checks, serializers
from django.core.management import call_command

from django_signal_audit import audit_context, record
from django_signal_audit.events.masking import is_secret
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .conftest import Audit, events, last
from .vault.models import Gate, Strongbox, Token

KEY = "9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b"
VAULT = {"name": "vault", "model": "vault.*"}

SECRET_NAMES = """
password password1 passwords userPassword pwd PIN pin_code passphrase passcode tokens APIToken accessToken
ACCESS_TOKEN sessionid session_id sessionKey access_key accessKeys secretKey secret_keys credential credentials
bearer csrf csrftoken csrf_token jwt JWTs cvv2 cvc totp_seed mfa_secret recovery_codes verification_code api_keys
apiKey APIKey apikeys cookies oauth2_token refreshtoken ssh_key private_keys activation_key client_secret
one_time_code security_answer apiSecretV2 wifi_psk two_factor_seed x_auth_key pass_word PGPASSWORD passWord
aws_secret_access_key hmac id_token_hint webhook_secret_1 pw userpassword mypasswords sessid PHPSESSID JSESSIONID sid
csrfmiddlewaretoken auth pass privkey cc_number passwort mot_de_passe puk db_pass dsn signed_url two-factor-code
X-Api-Key card.num pässword pássword passwörter kreditkarte creditCard credit_card ftp_pass basic_auth http_auth
auth_header sess_id consumer_key APP_KEY recovery_key mnemonic lösenord heslo haslo salasana passord clave
webhook_url slack_webhook incomingWebhook discordWebhookUrl jeton hasło HASŁO jelszó adgangskode kodeord şifre lozinka
geslo parolă parola palavra_passe palavraPasse slaptažodis salasõna lykilorð mdp segreto secreto geheimnis geheimzahl
clé_api mật_khẩu пароль токен_доступа секрет 密码 用户密码 口令 パスワード 暗証番号 비밀번호 סיסמה كلمة_المرور
PaSsWoRd pAssword PASSword PASSwords ToKen aPiKey sEcReT oTp tokEn2
रहस्य_पासवर्ड sas_token reset_link inviteUrl activation_link hashed_pw psw pswd
"""
HARMLESS_NAMES = """
pinned pinning tokenizer session_length keyboard primary_key foreign_key key keys monkey secretary obsession
cookiecutter price name code status passenger passing compass spin opinion carpin description token_count
password_changed_at session_timeout card_holder_number mfa_enabled tokenize salt seed private is_private signature
author authority spinning pinned_at token_type cookie_consent session_title hashtag keywords authored passed bypass
has_password is_password_set must_change_password password_strength secret_level session_start session_notes
tokens_per_second cookie_banner credentials_valid csrf_exempt clavicle passordered
max_tokens total_tokens auth_provider auth_backend boarding_pass sidebar side password_policy secret_name
webhook webhook_id webhook_enabled hook parola_chiave parole clé clé_primaire šifra mot schluessel_bund
currency_code country_code postal_code promo_code language_code area_code error_code zip_code coupon_code public_key
url share share_link link_text invited_by reset activation_status webhook_url_count пароли_изменены_at
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


def test_names_in_other_forms_of_the_same_letters() -> None:
    assert is_secret("".join(chr(ord(letter) + 0xFEE0) for letter in "password"))


@pytest.mark.parametrize("name", HARMLESS_NAMES.split())
def test_names_that_only_resemble_them(name: str) -> None:
    assert not is_secret(name)


def test_a_project_refuses_a_guess(settings: Any) -> None:
    from django_signal_audit.conf import DEFAULT_MASK_FIELDS

    settings.SIGNAL_AUDIT = {"MASK_FIELDS": [*DEFAULT_MASK_FIELDS, "!max_tokens"]}
    assert not is_secret("max_tokens")
    assert is_secret("tokens")
    # Nothing but refusals leaves the default in force.
    settings.SIGNAL_AUDIT = {"MASK_FIELDS": ["!max_tokens"]}
    assert not is_secret("max_tokens")
    assert is_secret("password")


def everything_written() -> str:
    return serializers.serialize("json", [*AuditEvent.objects.all(), *Notification.objects.all()])


def differences() -> list[Any]:
    return list(Replay(get_registry().plans.values(), "default").differences())


@pytest.mark.django_db
class TestFields:
    def test_fields_that_encrypt_and_columns_computed_from_secrets(self, audit: Audit) -> None:
        audit(VAULT)
        box = Strongbox.objects.create(note="in clear", tokens="t-1", api_token="loud-1")
        box.note = "still in clear"
        box.save()
        create, update = events()
        for name in ("note", "tokens", "api_token", "shouted"):
            assert set(create.changes[name][1]) == {"$masked"}, name
        assert set(update.changes["note"][0]) == {"$masked"}
        assert differences() == []
        assert not any(secret in everything_written() for secret in ("in clear", "t-1", "loud-1", "LOUD-1"))

    def test_the_text_of_an_object_hides_its_masked_values(self, audit: Audit) -> None:
        audit(VAULT)
        box = Strongbox.objects.create(api_token="hunter2")
        Strongbox.objects.update(api_token="hunter3")
        Strongbox.objects.bulk_create([Strongbox(api_token="hunter4")])
        record("opened", box, data={"box": box})
        with audit_context(box=box):
            box.delete()
        Strongbox.objects.all().delete()
        assert {event.object_repr for event in events()} == {"box with ********"}
        assert "hunter" not in everything_written()

    def test_the_text_of_a_user_hides_what_a_rule_masks(self, audit: Audit) -> None:
        audit({"name": "users", "model": "auth.User", "mask": ["username"]}, VAULT)
        user = User.objects.create(username="anna@example.com")
        with audit_context(actor=user):
            Strongbox.objects.create()
        assert last().actor_repr == "********"
        assert "anna@" not in everything_written()


@pytest.mark.django_db
class TestSecretKeys:
    def test_the_key_of_a_token_is_a_tag(self, audit: Audit) -> None:
        audit(VAULT)
        token = Token.objects.create(key=KEY, label="a")
        Token.objects.update(label="b")
        record("used", token, data={"token": token, "by": token})
        assert {event.object_id for event in AuditEvent.objects.for_object(token)} == {last().object_id}
        assert len(AuditEvent.objects.for_object(token)) == 3
        assert AuditEvent.objects.state_of(Token, KEY) == {"label": "b"}
        assert differences() == []
        token.delete()
        assert AuditEvent.objects.state_of(Token, KEY) is None
        assert differences() == []
        assert KEY not in everything_written()

    def test_references_to_a_token_are_tags(self, audit: Audit) -> None:
        audit(VAULT)
        token, spare = Token.objects.create(key=KEY), Token.objects.create(key=KEY[::-1])
        gate = Gate.objects.create(main=token)
        gate.spare.add(token, spare)
        gate.spare.remove(token)
        assert set(events(model="vault.gate")[0].changes["main"][1]) == {"$masked"}
        assert events(model="vault.gate")[0].object_repr == "gate of ********"
        assert differences() == []
        token.delete()
        spare.delete()
        assert differences() == []
        assert KEY not in everything_written()
        assert KEY[::-1] not in everything_written()

    def test_what_differs_is_told_without_the_token(self, audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
        token = Token.objects.create(key=KEY)
        audit(VAULT)
        with pytest.raises(SystemExit):
            call_command("audit_replay", "--check")
        call_command("audit_baseline")
        call_command("audit_replay", "--check")
        Token.objects.bulk_create([Token(key="another-key-that-is-long")])
        token.delete()
        call_command("audit_replay", "--check")
        output = capsys.readouterr()
        assert KEY not in output.out + output.err
        assert KEY not in everything_written()


@pytest.mark.django_db(databases="__all__")
class TestCheck:
    def found(self) -> dict[str, tuple[str, str]]:
        messages = [
            message for message in checks.run_checks(tags=["signals"]) if str(message.id).endswith(("W055", "W007"))
        ]
        return {message.msg.split()[0]: (str(message.id)[-4:], str(message.hint)) for message in messages}

    def test_guesses_are_named(self, audit: Audit) -> None:
        audit(VAULT)
        found = self.found()
        assert {name: code for name, (code, _) in found.items()} == {
            "vault.Token.key": "W007",
            "vault.Strongbox.note": "W055",
            "vault.Strongbox.tokens": "W055",
            "vault.Invitation.id": "W007",
            "vault.LoginCode.code": "W055",
        }
        assert '"mask": ["note"]' in found["vault.Strongbox.note"][1]
        assert '"!note"' in found["vault.Strongbox.note"][1]

    def test_a_project_confirms_or_refuses_them(self, audit: Audit) -> None:
        audit({**VAULT, "mask": ["note", "tokens", "key", "id", "code"]})
        assert self.found() == {}
        audit(VAULT, MASK_FIELDS=["!note", "!tokens", "!key", "!id", "!code"])
        assert self.found() == {}

    def test_what_leaves_no_doubt_is_not_named(self, audit: Audit) -> None:
        audit({"name": "users", "model": ["auth.User", "app.Product"]})
        assert self.found() == {}


@pytest.mark.django_db
def test_a_refused_field_is_recorded_in_clear(audit: Audit) -> None:
    audit(VAULT, MASK_FIELDS=["!note", "!key"])
    Strongbox.objects.create(note="plain")
    assert last().changes["note"] == [None, "plain"]
    Token.objects.create(key="abc")
    assert last().object_id == last().object_repr == "abc"
