"""The address of the client, as far as it can be trusted."""

from __future__ import annotations

import ipaddress
from functools import cache

from django.http import HttpRequest

from .conf import get_settings, on_settings_changed

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@cache
def _trusted_proxies() -> tuple[Network, ...]:
    networks = []
    for text in get_settings().trusted_proxies:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
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
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _is_trusted(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in _trusted_proxies())


def client_ip(request: HttpRequest) -> str:
    """Return the client's IP address, ``""`` if there is none.

    That is the peer of the connection, unless the peer is one of TRUSTED_PROXIES: then it is the last address of
    X-Forwarded-For that is none of them. What stands further left in that header is the client's own claim.
    """
    address = _address(str(request.META.get("REMOTE_ADDR", "")))
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while address and _is_trusted(address) and hops:
        hop = _address(hops.pop())
        if not hop:
            break
        address = hop
    return address
