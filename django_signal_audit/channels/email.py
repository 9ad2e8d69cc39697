"""Mail through django.core.mail: one message per recipient, as text and as HTML."""

from __future__ import annotations

import re
import smtplib
import warnings
from collections.abc import Iterator, Mapping
from email.utils import parseaddr
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import django
from django.conf import settings
from django.core import mail as django_mail
from django.core.checks import CheckMessage
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.smtp import EmailBackend as SmtpBackend
from django.core.validators import validate_email
from django.db.models import Model
from django.template import Context, Engine
from django.template.loader import get_template, render_to_string
from django.utils.encoding import punycode
from django.utils.module_loading import import_string
from django.utils.translation import get_language, get_language_bidi

from django_signal_audit.exceptions import GiveUp, RetryLater
from django_signal_audit.problems import Problem, did_you_mean

from .base import RECIPIENT_OPTIONS, Channel, Message, Option, is_text, is_texts

# MAILERS, and the argument that chooses one of them, came with Django 6.1.
HAS_MAILERS = django.VERSION >= (6, 1)
DEFAULT_MAILER = "default"
_SMTP = "django.core.mail.backends.smtp.EmailBackend"
PERMANENT = 500
# For each step of a conversation with the mail server, where Django has none.
TIMEOUT_SECONDS = 20.0


class EmailChannel(Channel):
    """Sends a mail to each recipient.

    The server is the project's: MAILERS, or EMAIL_* before Django 6.1. What the server refuses for good (5xx) is
    given up, everything else is tried again, always with the same Message-ID.
    """

    option_schema: ClassVar[Mapping[str, Option]] = {
        **RECIPIENT_OPTIONS,
        "from_email": Option(expects="the sender's address", accepts=is_text),
        "reply_to": Option(expects="an address or a list of addresses", accepts=is_texts),
        "html": Option(
            expects="True, False, or the name of a template",
            accepts=lambda value: isinstance(value, bool) or is_text(value),
        ),
        "mailer": Option(expects="an alias of MAILERS", accepts=is_text),
    }
    needs_recipient = True

    def address(self, user: Model) -> str:
        """Return the user's e-mail address."""
        name_of_field = getattr(type(user), "get_email_field_name", lambda: "email")()
        return str(getattr(user, name_of_field, "") or "")

    def recipient_problem(self, recipient: str) -> tuple[str, str | None] | None:
        """Report what no mail can go to. Of the channel's own recipients, ``check`` does."""
        if recipient in self.recipients() or _is_sound_recipient(recipient):
            return None
        return "isn't an e-mail address", _address_hint(recipient)

    def mailbox_hint(self, recipient: str) -> str | None:
        """Return how to say that a name without a domain is meant: a mailbox on the mail server itself."""
        if "@" in recipient or len(recipient.split()) != 1:
            return None
        return f'Write "{recipient}@localhost" for a mailbox on the mail server, "user:{recipient}" for that user.'

    def html(self, message: Message) -> str:
        """Return the mail in HTML: by the package's template, or by the project's that option ``html`` names."""
        template = self.options.get("html", True)
        if not template:
            return ""
        sender = self.options.get("from_email") or settings.DEFAULT_FROM_EMAIL
        context = {
            "message": message,
            "content": message.content,
            "site": parseaddr(sender)[0],
            "language": get_language(),
            "rtl": get_language_bidi(),
        }
        if isinstance(template, str):
            return render_to_string(template, context)
        return _engine().get_template("mail.html").render(Context(context))

    def send(self, message: Message) -> None:
        """Hand one mail to the mail server."""
        mail, backend = self._mail(message), self._backend()
        try:
            if _waits_for_ever(backend):
                backend.timeout = TIMEOUT_SECONDS
                backend.send_messages([mail])
            else:
                mail.send(**self._mailer())
        except smtplib.SMTPRecipientsRefused as error:
            refusals = list(error.recipients.values())
            raise _verdict(all(code >= PERMANENT for code, _ in refusals), refusals[0] if refusals else "") from error
        except smtplib.SMTPDataError as error:
            raise _verdict(error.smtp_code >= PERMANENT, (error.smtp_code, error.smtp_error)) from error
        except ValueError:
            # Asked only now, as backends make the mail anyway, which is much of what it costs.
            _require_sound(mail)
            raise

    def check(self) -> list[CheckMessage]:
        """Return what is wrong with the options, a mailer that is not there among it."""
        problems = [*super().check(), *self._template_problems(), *self._address_problems()]
        mailer = self.options.get("mailer")
        if not is_text(mailer):
            return [*problems, *self._timeout_problems()]
        if not HAS_MAILERS:
            problems.append(self.error("mailer", "needs Django 6.1", "Remove it: mail goes by the EMAIL_* settings."))
        elif mailer not in getattr(settings, "MAILERS", {}):
            hint = did_you_mean(mailer, getattr(settings, "MAILERS", {}))
            problems.append(self.error("mailer", f"is {mailer!r}, which MAILERS does not have", hint))
        else:
            problems += self._timeout_problems()
        return problems

    def _template_problems(self) -> Iterator[CheckMessage]:
        template = self.options.get("html", "")
        if not is_text(template):
            return
        try:
            get_template(template)
        except Exception as error:  # noqa: BLE001  # tags compile themselves, and each fails in its own way
            line = getattr(getattr(error, "token", None), "lineno", None)
            where = f" on line {line}" if line else ""
            said = str(error).partition("\n")[0]
            what = f"is {template!r}, which cannot be loaded: {type(error).__name__}{where}: {said}"
            is_switch = template.strip().lower() in ("true", "false", "yes", "no")
            hint = "Write True or False without quotes." if is_switch else "Name a template that TEMPLATES can load."
            yield self.error("html", what, hint)

    def _address_problems(self) -> Iterator[CheckMessage]:
        """Report what no mail can go to or come from; other words may name users, groups or paths."""
        for name, is_sound in (("to", _is_sound_recipient), ("from_email", _is_header), ("reply_to", _is_header)):
            value = self.options.get(name, ())
            for text in (value,) if isinstance(value, str) else value if is_texts(value) else ():
                if not is_sound(text):
                    yield self.error(name, f"names {text!r}, which isn't an e-mail address", _address_hint(text))
                elif name != "to" and "@" not in text:
                    yield self._header_warning(name, text)

    def _header_warning(self, option: str, text: str) -> CheckMessage:
        message = f"names {text!r}, which stands for nobody here: it is a mailbox on the mail server itself."
        path = f'SIGNAL_AUDIT["CHANNELS"]["{self.alias}"]["OPTIONS"]["{option}"]'
        return Problem("W033", path, message, f'Write an address such as "{text}@example.com".').as_check()

    def _timeout_problems(self) -> Iterator[CheckMessage]:
        # A backend is not made here: the one that writes files makes its directory at once.
        alias = self.options.get("mailer", DEFAULT_MAILER)
        has_mailers = HAS_MAILERS and alias in getattr(settings, "MAILERS", {})
        mailer: Any = settings.MAILERS[alias] if has_mailers else {}
        with warnings.catch_warnings(action="ignore"):  # Django 6.1 deprecates the former settings
            backend = mailer.get("BACKEND", _SMTP) if has_mailers else settings.EMAIL_BACKEND
            timeout = mailer.get("OPTIONS", {}).get("timeout") if has_mailers else settings.EMAIL_TIMEOUT
        try:
            is_network = issubclass(import_string(backend), SmtpBackend)
        except (ImportError, TypeError):
            return  # what is wrong with the project's backend shows when it sends
        if is_network and timeout is None:
            path = f'MAILERS["{alias}"]["OPTIONS"]["timeout"]' if has_mailers else "EMAIL_TIMEOUT"
            message = (
                "isn't set: Django waits forever for a mail server that doesn't answer. "
                f'The channel "{self.alias}" waits {TIMEOUT_SECONDS:g} s, but other mails of the project hang.'
            )
            yield Problem("W014", path, message, "Set it to 10, for example.").as_check()

    def _backend(self) -> Any:
        """Return the project's connection to the mail server, which is not opened yet."""
        mailers: Any = getattr(django_mail, "mailers", None)
        if mailers is None:
            return django_mail.get_connection()
        return mailers[self._mailer().get("using", DEFAULT_MAILER)]

    def _mailer(self) -> dict[str, Any]:
        return {"using": self.options["mailer"]} if HAS_MAILERS and "mailer" in self.options else {}

    def _mail(self, message: Message) -> EmailMultiAlternatives:
        reply_to = self.options.get("reply_to", ())
        sender = self.options.get("from_email") or settings.DEFAULT_FROM_EMAIL
        mail = EmailMultiAlternatives(
            # A line break in a header would start another one.
            subject=" ".join(message.subject.split()),
            body=_with_reason(message),
            from_email=sender,
            to=[_checked(message.recipient)],
            reply_to=[reply_to] if isinstance(reply_to, str) else list(reply_to),
            headers={
                "Message-ID": f"<{message.id}@{_domain(sender)}>",
                "Auto-Submitted": "auto-generated",
                **_unsubscribe_headers(message.unsubscribe_url),
            },
        )
        if message.html:
            mail.attach_alternative(message.html, "text/html")
        return mail


def _require_sound(mail: EmailMultiAlternatives) -> None:
    """Raise GiveUp if no mail can be made of it, whoever sends it."""
    try:
        mail.message()
    except ValueError as error:
        msg = f"It can't be sent as an email: {error}"
        raise GiveUp(msg) from error


def _with_reason(message: Message) -> str:
    """Return the text of a mail, with a signature that says why one gets it."""
    return f"{message.body}\n\n-- \n{message.reason}" if message.reason else message.body


def _unsubscribe_headers(address: str) -> dict[str, str]:
    """Return what has mail programs show a button that unsubscribes; by one click over HTTPS alone, says RFC 8058."""
    if not address:
        return {}
    one_click = {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"} if address.startswith("https:") else {}
    return {"List-Unsubscribe": f"<{address}>", **one_click}


def _waits_for_ever(backend: object) -> bool:
    """Return whether a connection is one over the network, and has no timeout."""
    return getattr(backend, "timeout", 0) is None


@cache
def _engine() -> Engine:
    # An engine of our own: a project may have no Django templates configured.
    return Engine(
        dirs=[str(Path(__file__).parent.parent / "templates" / "django_signal_audit")],
        builtins=["django.templatetags.i18n"],
    )


def _several(text: str) -> list[str]:
    """Return the addresses in a text that has several and nothing else; some versions of Python see only one."""
    parts = [part for part in re.split(r"[,;\s]+", text) if part]
    is_list = len(parts) > 1 and all(re.fullmatch(r"[^@<>\"]+@[^@<>\"]+", part) for part in parts)
    return parts if is_list else []


def _address_hint(text: str) -> str:
    """Return the edit to make to a text that is no address."""
    if several := _several(text):
        return f"Write a list: {several!r}."
    if text.lower().startswith("mailto:"):
        return f"Write {text[len('mailto:') :].strip()!r}."
    if text.count("@") > 1:
        return "It has two @: most likely the comma between two addresses is missing."
    if "{{" in text:
        path = text.strip("{} ").removeprefix("object.").removeprefix("new.")
        return f"Recipients are no templates. Write the path alone: {path!r}."
    return "Correct the address."


def _is_sound_recipient(text: str) -> bool:
    if text.startswith(("user:", "group:")) or ("@" not in text and len(text.split()) == 1):
        return True
    if _several(text) or text.lower().startswith("mailto:"):
        return False
    try:
        return bool(_checked(text))
    except GiveUp:
        return False


def _is_header(text: str) -> bool:
    return text.splitlines() == [text] and bool(_address(text))


def _address(text: str) -> str:
    """Return the address in a text, ``""`` if there is none: of several words without an @, the first is none."""
    name, address = parseaddr(text)
    return address if name or "@" in address or address == text.strip() else ""


def _checked(recipient: str) -> str:
    """Return the recipient; give up if it is no address, as no retry will make it one."""
    address = _address(recipient)
    try:
        if not address or recipient.splitlines() != [recipient]:
            raise ValidationError("")
        if "@" not in address and "." in address:
            # Rather a path that leads nowhere than a mailbox.
            raise ValidationError("")
        # A name without a domain is a mailbox on the mail server itself.
        validate_email(address if "@" in address else f"{address}@localhost")
    except ValidationError as error:
        msg = f"{recipient!r} isn't an e-mail address."
        raise GiveUp(msg) from error
    return recipient


def _domain(sender: str) -> str:
    """Return the domain of the Message-ID: the sender's, as the worker's own name would differ between workers."""
    return punycode(parseaddr(sender)[1].rpartition("@")[2]) or "localhost"


def _verdict(permanent: bool, answer: object) -> GiveUp | RetryLater:
    text = answer
    if isinstance(answer, tuple):
        code, reason = answer
        text = f"{code} {reason.decode(errors='replace') if isinstance(reason, bytes) else reason}"
    return GiveUp(f"The mail server refused it for good: {text}") if permanent else RetryLater(f"Not now: {text}")
