"""Patterns of ``paths`` that match no path as they were meant to, and the edit to make."""

from __future__ import annotations

import re

from django_signal_audit.problems import shown

_REGEX = (
    (re.compile(r"^\^"), ""),
    (re.compile(r"\$$"), ""),
    (re.compile(r"\((?:\?P<\w+>)?[^()]*\)|\[\^/\]|\\[dwsS]|\.(?=[*+])"), "*"),
    (re.compile(r"\*[*+?]+"), "*"),
    (re.compile(r"\\(.)"), r"\1"),
)
_IS_REGEX = re.compile(r"^\^|\$$|\\[dwsSbAZ./-]|\(.*\||\(\?|\[\^/\]|[\])]\+|/\.[*+](/|$)")
_CONVERTER = re.compile(r"<[^<>]*>|\{[^{},]*\}")
_METHOD = re.compile(r"\s*([A-Z]{3,7})\s+(/.*)")
_HOST = re.compile(r"(?:\w+:)?//[^/]*(/.*)?")
_QUERY = re.compile(r"\?[\w*\[\]-]+=")


def path_mistake(pattern: str) -> tuple[str, str] | None:
    """Return why a pattern of ``paths`` matches no path as it was meant to, and the edit to make; None if it may."""
    if _IS_REGEX.search(pattern):
        return (
            "is a regular expression, and patterns are matched like file names",
            f"Write {shown(_from_regex(pattern))}.",
        )
    if found := _METHOD.fullmatch(pattern):
        return "begins with an HTTP method", f'Write {shown(found[2])}, and "methods": ["{found[1]}"].'
    if found := _HOST.fullmatch(pattern):
        return "has a host, and only the path is compared", f"Write {shown(found[1] or '/*')}."
    if found := _QUERY.search(pattern):
        return "has a query string, which isn't compared", f"Write {shown(pattern[: found.start()])}."
    if _CONVERTER.search(pattern):
        return "has a parameter of a URL route", f"Write {shown(_CONVERTER.sub('*', pattern))}."
    if re.search(r"\{[^{}]*,[^{}]*\}", pattern):
        return "has alternatives in braces", f"Write a list: {shown(_alternatives(pattern))}."
    if re.search(r"\[[^\]]*$", pattern):
        return "has a [ without ]", "Close it, or write [[] for the character itself."
    return _beginning_mistake(pattern)


def _beginning_mistake(pattern: str) -> tuple[str, str] | None:
    text = pattern.strip()
    if text.startswith("/") and text != pattern:
        return "has spaces around it", f"Write {shown(text)}."
    if text[:1] in ("!", "~", "-"):
        return "can't exclude paths", "Write the paths to record, or decide in a function as the condition."
    if re.fullmatch(r"[\w.-]+:[\w:.-]+", text):
        return "is the name of a URL", "Write its path, such as '/shop/*'."
    if text[:1] not in ("/", "*", "?", "["):
        return "doesn't begin with a slash, as every path does", f"Write {shown('/' + text)}."
    return None


def _from_regex(pattern: str) -> str:
    is_open = pattern.startswith("^") and not pattern.endswith("$")
    text = pattern
    for found, put in _REGEX:
        text = found.sub(put, text)
    text = text if text.startswith(("/", "*")) else f"/{text}"
    return re.sub(r"\*{2,}", "*", f"{text}*" if is_open else text)


def _alternatives(pattern: str) -> list[str]:
    before, _, rest = pattern.partition("{")
    inside, _, after = rest.partition("}")
    return [f"{before}{part.strip()}{after}" for part in inside.split(",")]
