"""The address of the client, as far as it can be trusted."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from django.db.models import Model
from django.http import HttpRequest
from django.urls import URLPattern, URLResolver, get_resolver

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.events.masking import is_secret, singular, words_of
from django_signal_audit.events.secret_fields import has_secret_key
from django_signal_audit.events.secret_texts import HIDDEN, harmless_url

# What TRUSTED_PROXIES names a proxy by that connects through a unix socket.
UNIX = "unix"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@cache
def _trusted_proxies() -> tuple[Network, ...]:
    networks = []
    for text in get_settings().trusted_proxies:
        try:
            networks.append(_plain_network(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            # The system check reports it; an unreadable entry trusts nobody.
            continue
    return tuple(networks)


on_settings_changed(_trusted_proxies.cache_clear)


def _address(text: str) -> str:
    """Return the address in its usual spelling, ``""`` for what is none."""
    text = text.strip()
    if text.startswith("["):  # [::1]:8000
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # 10.0.0.1:8000
        text = text.partition(":")[0]
    try:
        # A zone names a network interface of the machine itself.
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    # A socket for both versions shows 10.0.0.1 as ::ffff:10.0.0.1.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def _plain_network(network: Network) -> Network:
    """Return the network of IPv4 addresses that a network of mapped ones stands for, other networks as they are."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    return (
        network if mapped is None or network.prefixlen < 96 else ipaddress.ip_network((mapped, network.prefixlen - 96))
    )


def _is_trusted(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in _trusted_proxies())


def _trusts_peer(peer: str, address: str) -> bool:
    if address:
        return _is_trusted(address)
    # Servers show a unix socket as nothing, as "unix:" or by its path.
    is_unix = not peer or peer.startswith(("unix", "/"))
    return is_unix and UNIX in get_settings().trusted_proxies


def client_ip(request: HttpRequest) -> str:
    """Return the client's IP address, ``""`` if there is none.

    That is the peer of the connection, unless the peer is one of TRUSTED_PROXIES: then it is the last address of
    X-Forwarded-For that is none of them. What stands further left in that header is the client's own claim.
    """
    peer = str(request.META.get("REMOTE_ADDR") or "").strip()
    address = _address(peer)
    is_trusted = _trusts_peer(peer, address)
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while is_trusted and hops:
        hop = _address(hops.pop())
        if not hop:
            break
        address, is_trusted = hop, _is_trusted(hop)
    return address


logger = logging.getLogger("django_signal_audit")

# What a path is cut at.
MAX_PATH = 2048

_ALWAYS = {"uidb64", "uidb36", "sig", "signature", "magic"}
# These are secrets in links that let somebody in, and codes of products elsewhere.
_IN_SUCH_LINKS = {"key", "code", "hash", "uid", "uuid", "nonce", "slug", ""}
_OF_PAGES = {"slug", "uid", ""}
_SUCH_LINKS = {
    "password", "passwort", "reset", "confirm", "confirmation", "activate", "activation", "verify", "verification",
    "invite", "invitation", "magic", "magiclink", "token", "secret", "unsubscribe", "unlock", "recover", "recovery",
}  # fmt: skip
# These let somebody in as well, and are the names of pages besides.
_ENTRANCES = {
    "accept", "fa", "join", "login", "logon", "mfa", "onetime", "otp", "register", "registration", "signin", "signup",
}  # fmt: skip
# An address with a secret in it gives access to anybody who has it.
_OPEN_LINKS = {
    "approval", "approve", "auth", "calendar", "callback", "checkout", "download", "feed", "hook", "ical", "ics", "key",
    "oauth", "passwordless", "share", "shared", "webhook",
}  # fmt: skip
# These are secrets if they are no number and no word: elsewhere they are those of a support ticket or a list.
_UNLESS_ORDINARY = {"share", "t", "ticket"}
# The same of primary keys in links to what lets somebody in.
_KEYS = {"id", "pk"}
_LINKS_OF_ROWS = {"invite", "invitation", "magic", "magiclink", "share", "unsubscribe"}
# What such links have besides, in paths that lead nowhere.
_WORDS_OF_LINKS = _SUCH_LINKS | {
    "accept", "account", "cancel", "change", "complete", "decline", "done", "email", "link", "new",
    "obtain", "phone", "refresh", "request", "resend", "revoke", "send", "sent", "set", "success", "user",
}  # fmt: skip
# In a path that leads nowhere, a long segment that is no run of words and numbers may be a secret.
_LONG = 16
_ORDINARY = re.compile(r"([a-z]{1,20}|\d{1,8})([-_.+ ]([a-z]{1,20}|\d{1,8}))*", re.IGNORECASE)


class Group(NamedTuple):
    """A part of a path that a URL pattern captures; its name is empty if it has none."""

    name: str
    start: int
    end: int


class Found(NamedTuple):
    """What a path leads to: the parts that were captured, the words of the patterns, and the model of the view."""

    groups: list[Group]
    words: set[str]
    model: Any = None


def clean_path(request: HttpRequest) -> str:
    """Return the path of a request with stars for the values of secret arguments of its URL pattern."""
    path, info = request.path, request.path_info
    start = len(path) - len(info) if path.endswith(info) else 0
    try:
        resolver = get_resolver(getattr(request, "urlconf", None))
        # A link without its slash is redirected to the one with it.
        found = _walk(resolver, info) or _walk(resolver, f"{info}/")
    except Exception:
        logger.warning("The URL patterns could not be read; parts of a path may be hidden.", exc_info=True)
        found = None
    if found is None:
        return _without_guesses(path)
    names_keys = found.model is not None and has_secret_key(found.model)
    for group in sorted(found.groups, key=lambda group: -group.start):
        value = path[start + group.start : start + group.end]
        if value and (names_keys or _is_secret(group.name, value, found.words)):
            path = path[: start + group.start] + HIDDEN + path[start + group.end :]
    return harmless_url(path, is_secret)


def _walk(resolver: URLResolver, path: str, start: int = 0) -> Found | None:
    """Return what a path leads to, found as Django does it; None if it leads nowhere."""
    match: Any = resolver.pattern.match(path)
    if not match:
        return None
    own, rest = list(_groups(resolver.pattern, path, start)), match[0]
    after = start + len(path) - len(rest)
    for child in resolver.url_patterns:
        found = _walk(child, rest, after) if isinstance(child, URLResolver) else _end(child, rest, after)
        if found is not None:
            return found._replace(groups=own + found.groups, words=found.words | set(words_of(str(resolver.pattern))))
    return None


def _end(pattern: URLPattern, path: str, start: int) -> Found | None:
    if not pattern.pattern.match(path):
        return None
    words = {*words_of(str(pattern.pattern)), *words_of(pattern.name or "")}
    return Found(list(_groups(pattern.pattern, path, start)), words, _model_of(pattern.callback))


def _model_of(view: object) -> object:
    """Return the model of a view of the admin, of Django's generic views or of REST framework; None for others."""
    given = getattr(view, "view_initkwargs", None) or getattr(view, "initkwargs", None) or {}
    for holder in (getattr(view, "model_admin", None), getattr(view, "view_class", None), getattr(view, "cls", None)):
        found = (given.get(name) or getattr(holder, name, None) for name in ("model", "queryset"))
        for model in (getattr(one, "model", one) for one in found):
            if isinstance(model, type) and issubclass(model, Model):
                return model
    return None


def _groups(pattern: Any, path: str, start: int) -> Iterator[Group]:
    match = pattern.regex.search(path)
    if match is None:
        return
    names = {number: name for name, number in pattern.regex.groupindex.items()}
    # Groups without a name are arguments only where none has one.
    for number in names or range(1, pattern.regex.groups + 1):
        begin, end = match.span(number)
        if begin >= 0:
            yield Group(names.get(number, ""), start + begin, start + end)


def _is_secret(name: str, value: str, words: set[str]) -> bool:
    if is_secret(name) or name in _ALWAYS:
        return True
    words = set(map(singular, words))
    if name in _UNLESS_ORDINARY or (name in _KEYS and not _LINKS_OF_ROWS.isdisjoint(words)):
        return _ORDINARY.fullmatch(value) is None
    last = (words_of(name)[-1:] or ("",))[0]
    is_link = not words.isdisjoint(_SUCH_LINKS)
    if last in _IN_SUCH_LINKS and (is_link or (last not in _OF_PAGES and not words.isdisjoint(_ENTRANCES))):
        return True
    # Whatever it is called there.
    lets_in = is_link or not words.isdisjoint(_ENTRANCES | _OPEN_LINKS)
    return lets_in and last not in _KEYS and any(map(_looks_secret, value.split("/")))


def _without_guesses(path: str) -> str:
    """Return a path that leads nowhere with stars for what may be a secret in it."""
    parts, is_link = path.split("/"), False
    for place, part in enumerate(parts):
        words = [singular(word) for word in words_of(part)]
        if part and (_looks_secret(part) or (is_link and not _WORDS_OF_LINKS.issuperset(words))):
            parts[place] = HIDDEN
        is_link = is_link or not _SUCH_LINKS.isdisjoint(words)
    return "/".join(parts)


def _looks_secret(segment: str) -> bool:
    return len(segment) >= _LONG and _ORDINARY.fullmatch(segment) is None
