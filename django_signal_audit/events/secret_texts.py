"""Secrets in texts of a known form, which names them: JSON, forms, headers, addresses, XML. All in linear time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias
from urllib.parse import unquote

IsSecret: TypeAlias = Callable[[str], bool]

LONGEST_NAME = 100
HIDDEN = "********"
# A text that begins so may be JSON or XML, or has something before it that keeps browsers from running it.
OPENINGS = frozenset('{["<)\ufeff \t\r\n')
_BLANKS = "\ufeff \t\r\n"
# What stands before JSON that a browser is to run, or is not to: a call or an assignment, a loop or brackets.
_BEFORE_JSON = re.compile(
    r"""[\ufeff\s]*+(?:\)\]\}',?|(?:while\s*+\(1\)|for\s*+\(;;\));?|(?:/\*\*/)?+[\w.$\[\] ]{1,100}+[(=]|b?')"""
    r"""\s*+(?=[{\["])"""
)
_QUOTED_NAME = re.compile(r"""(?:"([^"\\]{1,100})"|'([^'\\]{1,100})')\s*+:\s*+""")


def parsed(text: str) -> object:
    """Return the list or object that a text is the JSON of, None if it is none.

    Others may read a text that only begins as JSON, and the last or the first value of a key that comes twice: of the
    former, the names are returned with the beginnings of their values, of the latter, all values.
    """
    if text[:1] not in OPENINGS and ":" not in text:
        return None
    before = _BEFORE_JSON.match(text)
    text = text[before.end() :] if before else text.lstrip(_BLANKS)
    if text[:1] not in ("{", "[", '"'):
        return None
    try:
        found, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        found, end = None, 0
    if not end or text[end:].strip(f"{_BLANKS});'"):
        names = {name[1] or name[2]: text[name.end() : name.end() + 1] for name in _QUOTED_NAME.finditer(text)}
        return names or None
    if isinstance(found, str):
        return parsed(found)
    return found if isinstance(found, (dict, list)) else None


def _with_all_values(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) == len(pairs):
        return document
    found: dict[str, list[object]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return dict(found)


def _number(text: str) -> int | str:
    # Python refuses to read an integer of thousands of digits.
    return int(text) if len(text) < LONGEST_NAME else text


_DECODER = json.JSONDecoder(object_pairs_hook=_with_all_values, parse_int=_number)

# A name and what stands between it and its value, which may in turn hold names and values: a URL does.
# It begins at the beginnings of words alone, and takes nothing back: long words must not take long.
_NAMED = re.compile(r"""(?<![\w%-])([\w%-]++)["']?\s*+[=:]\s*+["']?""")
_VALUE = re.compile(r"""(?:(?:basic|bearer|digest|negotiate|token)\s+)?[^\s&"',;]*""", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^\s/:@]*:)([^\s/@]+)@")
_URL_ARGUMENT = re.compile(r"([?&#;]([\w.%+\[\]-]+)=)([^&#;\s]+)")
# What signs a URL is a secret in it, and a picture elsewhere.
_SIGNATURES = ("sig", "signature")


def without_values(text: str, is_secret: IsSecret) -> str:
    """Return a text of no known form with stars in place of what follows the name of a secret."""
    parts, start = [], 0
    for name in _NAMED.finditer(text):
        # Values may be long: one that nobody asks for is not looked at.
        if name.start() >= start and _is_name(name[1], is_secret):
            parts += [text[start : name.end()], HIDDEN]
            start = _VALUE.match(text, name.end()).end()  # type: ignore[union-attr]
    return "".join([*parts, text[start:]])


def harmless_url(text: str, is_secret: IsSecret) -> str:
    """Return a text with stars in place of the passwords and secret arguments of URLs in it."""
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1{HIDDEN}@", text)
    if "=" not in text:
        return text
    return _URL_ARGUMENT.sub(
        lambda found: f"{found[1]}{HIDDEN}" if _is_argument(found[2], is_secret) else found[0], text
    )


def _is_name(text: str, is_secret: IsSecret) -> bool:
    name = text[-LONGEST_NAME:]
    return is_secret(unquote(name) if "%" in name else name)


def _is_argument(text: str, is_secret: IsSecret) -> bool:
    return _is_name(text, is_secret) or text.lower().endswith(_SIGNATURES)


# "user=ann&password=…", "Data Source=…;Password=…", "export PASSWORD=…", an INI file with a section: a text that
# begins as an assignment.
_ASSIGNMENT = re.compile(
    r"""\s*+(?:(?:#(?:[ \t!][^\n]*+)?|\[[^\n\]]{1,100}\][ \t\r]*+)\n\s*+)*+"""
    r"""[\s?&#"'-]*+(?:(?:export|set) )?[\w.%+\[\]$-]{1,100}+(?: [\w.%-]{1,100}+)?="""
)
_ASSIGNED = re.compile(r"""(?<![\w.%\[\]-])([\w.%\[\]-]++)=(?!=)["']?+([^\s&;"',]++)""")
# "Authorization: …", "  password: …", "password = …", with a line before that tells of a request, or a section.
_LINES = re.compile(
    r"\s*+(?:(?:[A-Z]+ \S+ )?HTTP/[^\n]*+\n|\[[^\n\]]{1,100}\]|#[^\n]*+\n|---)?\s*+(?:- )?"
    r"[A-Za-z][\w.-]{0,99}+[ \t]*+[:=]"
)
# Without a blank after its colon it may also be a key of a cache, or a digest.
_LINE = re.compile(
    r"^[ \t]*+(?:- )?"
    r"((?:(?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]+)(?=:)|[a-z][\w.-]{0,99}+(?=[ \t]*+[:=][ \t]))"
    r"[ \t]*+[:=][ \t]*+(\S[^\n]*+)",
    re.MULTILINE | re.IGNORECASE,
)
_FLAG = re.compile(r"(?<!\S)--([A-Za-z][\w-]*+)\s++(?!-)(\S++)")
# "curl -H 'Authorization: Bearer …'", wherever it stands in a text.
_HEADER = re.compile(
    r"(?<![\w-])(?:proxy-)?authorization[ \t]*+:[ \t]*+(?:basic|bearer|digest|negotiate|token)[ \t]++"
    r"(?=[^\s\"',;]*\d)([^\s\"',;]{8,}+)",
    re.IGNORECASE,
)
_HEADER_OPTION = re.compile(r"""(?<!\S)(?:-H|--header)[ =]?["']?([\w-]{1,100}+):[ \t]*+([^\n"']++)""")
# "curl -u ann:secret": other commands have a user and a group there.
_LOGIN_OPTION = re.compile(r"""(?<!\S)(?:-u|--(?:proxy-)?user)[ =]?["']?[^\s:"']{0,100}+:([^\s"']++)""")
# A field of a form with files, which has few headers of its own.
_PART = re.compile(
    r"""content-disposition:[ \t]*+form-data;[ \t]*+name="([^"\n]{1,100}+)"[^\n]{0,200}+\n"""
    r"""(?:[^\r\n]{1,200}+\r?\n){0,4}+\r?\n([^\r\n]++)""",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"(?:bearer|basic)\s+(?=\S*\d)[\w.~+/=-]{8,}\s*", re.IGNORECASE)
_ELEMENT = re.compile(r"<([\w.:-]{1,100})(?:\s[^<>]*+)?>(?:<!\[CDATA\[)?+([^<]++)</\1")
_ATTRIBUTE = re.compile(r"""\s([\w.:-]{1,100}+)=["']([^"'<]++)""")


# A text without these at its beginning, and without a sign in it, names no secret.
_SCHEMES = frozenset({"bearer", "basic "})


def may_name_secrets(text: str) -> bool:
    """Return whether it is worth to look for secrets in a text."""
    return text[:1] in OPENINGS or ":" in text or "=" in text or "--" in text or text[:6].lower() in _SCHEMES


def secrets_named_in(text: str, is_secret: IsSecret, *, is_column: bool = False) -> Iterator[str]:
    """Yield the secrets in a text that begins in a form which names them, and in the URLs of any text.

    Args:
        text: The text.
        is_secret: Returns whether a name is a secret's.
        is_column: Whether people may have written the text: a URL counts if it is all of it.

    """
    has_colon, has_sign = ":" in text, "=" in text
    if text[:1] in OPENINGS and text.lstrip(_BLANKS)[:1] == "<":
        yield from _in_xml(text, is_secret)
    if (has_colon or has_sign) and _LINES.match(text):
        yield from _in_lines(text, is_secret)
    if has_sign and _ASSIGNMENT.match(text):
        yield from (found[2] for found in _ASSIGNED.finditer(text) if _is_open(found, is_secret))
    if has_colon:
        yield from _in_requests(text, is_secret)
    if (has_colon or has_sign) and not (is_column and len(text.split(None, 1)) > 1):
        yield from _in_urls(text, is_secret)
    if not is_column:
        yield from (found[2] for found in _FLAG.finditer(text) if _is_open(found, is_secret))
        yield from (found[0] for found in [_CREDENTIALS.fullmatch(text)] if found)


def _is_open(found: re.Match[str], is_secret: IsSecret) -> bool:
    return not found[2].startswith(HIDDEN) and _is_name(found[1], is_secret)


def _in_requests(text: str, is_secret: IsSecret) -> Iterator[str]:
    """Yield the secrets of headers and logins in commands, and of the fields of a form with files."""
    yield from (found[1] for found in _HEADER.finditer(text) if not found[1].startswith(HIDDEN))
    yield from (found[2].rstrip() for found in _HEADER_OPTION.finditer(text) if _is_open(found, is_secret))
    if "curl" in text:
        yield from (found[1] for found in _LOGIN_OPTION.finditer(text) if not found[1].startswith(HIDDEN))
    if "=" in text:
        yield from (found[2] for found in _PART.finditer(text) if _is_open(found, is_secret))


def _in_urls(text: str, is_secret: IsSecret) -> Iterator[str]:
    for password in _URL_PASSWORD.finditer(text):
        if not password[2].startswith(HIDDEN):
            yield password[2]
    for argument in _URL_ARGUMENT.finditer(text):
        if not argument[3].startswith(HIDDEN) and _is_argument(argument[2], is_secret):
            yield argument[3]


def _in_lines(text: str, is_secret: IsSecret) -> Iterator[str]:
    for line in _LINE.finditer(text):
        if _is_open(line, is_secret) and _is_header(line[1], line[2].rstrip()):
            yield line[2].rstrip()


def _is_header(name: str, value: str) -> bool:
    """Return whether a line is one that machines write: "Session: Keynote" is none, and no message of an error is."""
    plain = name.lower()
    if "-" in name or plain == "authorization":
        return True
    if plain == "cookie":
        return "=" in value
    is_mixed = not value.isalpha() and any(map(str.isalpha, value))
    return len(value.split()) == 1 and (is_mixed or not name.istitle())


def _in_xml(text: str, is_secret: IsSecret) -> Iterator[str]:
    for pattern in (_ELEMENT, _ATTRIBUTE):
        for found in pattern.finditer(text):
            value = found[2].removesuffix("]]>").strip()
            if value and _is_open(found, is_secret):
                yield value
