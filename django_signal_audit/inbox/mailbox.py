"""A user's mailbox: what the inbox channel has left for them, and nothing of anybody else's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.db.models import Model

from django_signal_audit.channels import get_channel
from django_signal_audit.conf import get_settings
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.models import Notification, NotificationQuerySet
from django_signal_audit.models.events import utc_now

PAGE_SIZE = 20
# Further is not counted: "1000" says as much as any larger number, and costs the same for everybody.
COUNTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some messages, newest first, and the cursors of the pages on either side; None where there is none."""

    messages: Sequence[Notification]
    newer: int | None
    older: int | None


class Mailbox:
    """The messages that were sent to one user.

    Args:
        user: The user.
        is_unread: Whether its pages have the unread ones only.
        size: How many messages a page has.

    """

    def __init__(self, user: Model, *, is_unread: bool = False, size: int = PAGE_SIZE) -> None:
        self._is_unread = is_unread
        self._size = size
        self.messages: NotificationQuerySet = inbox_rows().of_current_tenant().for_recipient(user)

    def count_unread(self) -> int:
        """Return how many messages are unread, 1,000 for that many and more."""
        return self.messages.unread().order_by().values("pk")[:COUNTED].count()

    def page(self, *, before: int | None = None, after: int | None = None) -> Page:
        """Return the messages older than one, those just newer than one, or the newest.

        Args:
            before: The key of a message.
            after: The key of a message; ``before`` goes first.

        """
        messages = self.messages.unread() if self._is_unread else self.messages
        if before is not None:
            found, more = self._cut(messages.filter(pk__lt=before).order_by("-pk"))
            return Page(messages=found, newer=_first(found) or before - 1, older=_last(found) if more else None)
        if after is not None:
            found, more = self._cut(messages.filter(pk__gt=after).order_by("pk"))
            found.reverse()
            return Page(messages=found, newer=_first(found) if more else None, older=_last(found) or after + 1)
        found, more = self._cut(messages.order_by("-pk"))
        return Page(messages=found, newer=None, older=_last(found) if more else None)

    def _cut(self, queryset: NotificationQuerySet) -> tuple[list[Notification], bool]:
        found = list(queryset[: self._size + 1])
        return found[: self._size], len(found) > self._size

    def see(self, messages: Sequence[Notification]) -> None:
        """Note on messages that are shown for the first time that they were."""
        fresh = [message for message in messages if message.seen_at is None]
        if not fresh:
            return
        now = utc_now()
        self.messages.filter(pk__in=[message.pk for message in fresh], seen_at=None).update(seen_at=now)
        for message in fresh:
            message.seen_at = now

    def read(self, keys: Collection[int]) -> int:
        """Mark messages as read, and return how many were unread."""
        return self.messages.filter(pk__in=keys).mark_read()

    def unread(self, keys: Collection[int]) -> int:
        """Mark messages as unread again, and return how many were read."""
        return self.messages.filter(pk__in=keys).mark_unread()

    def read_up_to(self, key: int) -> int:
        """Mark a message and all older ones as read, and return how many were unread; newer ones nobody has seen."""
        return self.messages.filter(pk__lte=key).mark_read()


def inbox_rows() -> NotificationQuerySet:
    """Return the messages in the inboxes of all users."""
    return Notification.objects.of_status(Notification.STATUS.sent).filter(channel__in=_aliases())


def _aliases() -> list[str]:
    return [alias for alias in get_settings().channels if _keeps_message(alias)]


def _keeps_message(alias: str) -> bool:
    try:
        channel = get_channel(alias)
    except InvalidSettings:
        return False  # the system checks say why
    return channel.keeps_message and channel.recipients_are_users


def _first(messages: Sequence[Notification]) -> int | None:
    return messages[0].pk if messages else None


def _last(messages: Sequence[Notification]) -> int | None:
    return messages[-1].pk if messages else None
