"""What a message without a text of the project's own says, in parts: the same for text and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A field and what became of it; of what was created there is no old value, of what was deleted no new one."""

    label: str
    old: str = ""
    new: str = ""
    percent: str = ""
    # What a many-to-many field gained and lost.
    members: str = ""
    # A value that did not change, such as one of a custom event.
    value: str = ""

    @property
    def text(self) -> str:
        """Return the line as text."""
        change = f"{self.old} → {self.new}" if self.old and self.new else self.old or self.new
        percent = f" ({self.percent})" if self.percent else ""
        return f"{self.label}: {self.members or self.value or change}{percent}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event, as people read it."""

    sentence: str
    # What stands above the change: the object where the change says the rest, the sentence elsewhere.
    head: str
    name: str
    model: str
    lines: Sequence[Line]
    more: str = ""
    # Who did it and when: "ada changed it on March 10, 2026, 12:00 UTC.", and the name in it.
    by: str = ""
    actor: str = ""
    reason: str = ""
    url: str = ""
    object_url: str = ""

    @property
    def by_parts(self) -> tuple[str, str, str]:
        """Return what stands before the name of who did it, the name, and what stands after it."""
        return self.by.partition(self.actor) if self.actor else (self.by, "", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Events of one day, actor and reason that follow each other; the event of a message about one has neither."""

    day: str
    by: str
    told: Sequence[Told]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message says: of one event, or of several as a digest.

    Attributes:
        title: What it is about, in a few words.
        span: The days that a digest is about, and whose changes it has.
        groups: The events.
        more: How many more there are, in words.
        url: Where all of them are.

    """

    title: str
    groups: Sequence[Group]
    span: str = ""
    more: str = ""
    url: str = ""

    @property
    def single(self) -> Told | None:
        """Return the event of a message about one, None of a digest."""
        told = [one for group in self.groups for one in group.told]
        return told[0] if len(told) == 1 and not self.more else None

    @property
    def text(self) -> str:
        """Return it as text."""
        single = self.single
        parts = _single(single) if single else self._digest()
        return "\n\n".join(part for part in parts if part)

    def _digest(self) -> list[str]:
        parts = [self.title, self.span]
        for group in self.groups:
            head = f"{group.day} · {group.by}" if group.by else group.day
            parts.append("\n".join([head, *(line for told in group.told for line in _lines(told))]))
        return [*parts, self.more, self.url]


def _single(told: Told) -> list[str]:
    lines = [line.text for line in told.lines]
    return [told.head, "\n".join([*lines, told.more] if told.more else lines), _by(told), told.url]


def _by(told: Told) -> str:
    return "\n".join(part for part in (told.by, told.reason) if part)


def _lines(told: Told) -> list[str]:
    if len(told.lines) == 1 and told.name:
        return [f"- {told.head}: {told.lines[0].text}"]
    more = [f"  {told.more}"] if told.more else []
    return [f"- {told.head}", *(f"  {line.text}" for line in told.lines), *more]
