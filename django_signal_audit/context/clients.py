"""The address of the client, as far as it can be trusted."""

from __future__ import annotations

import ipaddress
from functools import cache

from django.http import HttpRequest

from django_signal_audit.conf import get_settings, on_settings_changed

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
