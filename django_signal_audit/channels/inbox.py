"""Messages that stay in the project, for its users to read."""

from __future__ import annotations

from .base import Channel, Message


class InboxChannel(Channel):
    """Leaves the message on the notification row, which is the user's copy of it.

    ``Notification.objects.for_recipient(user)`` are a user's messages; each has ``subject``, ``body`` and ``read_at``.
    """

    needs_recipient = True
    recipients_are_users = True
    keeps_message = True
    is_repeatable = True  # nothing leaves before it is noted

    def send(self, message: Message) -> None:
        """Do nothing more: noting the row as sent, with the text on it, is the delivery."""
