"""What is noted of an error: short, storable, and without the secrets we know of."""

from __future__ import annotations

import re
import traceback

from django_signal_audit.channels.base import Channel
from django_signal_audit.events.masking import is_secret
from django_signal_audit.events.named_secrets import without_values
from django_signal_audit.events.values import clean_text, safe_str
from django_signal_audit.exceptions import DeliveryError, SignalAuditError

from .redaction import HIDDEN, hide

MAX_LENGTH = 2000
_LONGEST = 20_000
_URL_PASSWORD = re.compile(r"(://[^\s/:@]*:)[^\s/@]+@")


def describe(error: BaseException, channel: Channel | None = None) -> str:
    """Return what is noted of an error, with the channel's secret options and obvious passwords hidden."""
    text = clean_text(safe_str(error))
    if not isinstance(error, DeliveryError):
        text = f"{type(error).__name__}: {text}{_place(error)}"
    text = _hide(text or type(error).__name__, channel)
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"


def _place(error: BaseException) -> str:
    """Return the line that raised, as no traceback is kept: the error may be one in a reaction of the project."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or isinstance(error, SignalAuditError):
        return ""
    return f" ({'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno})"


def _hide(text: str, channel: Channel | None) -> str:
    # Patterns take their time, and no more of it is kept anyway.
    text = hide(text[:_LONGEST], channel)
    text = _URL_PASSWORD.sub(rf"\1{HIDDEN}@", text)
    return without_values(text, is_secret)
