"""Which addresses of the network a message may go to: public ones, and what the operator allows besides."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from django_signal_audit.exceptions import GiveUp

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# Nothing outside of these has been given to anybody on the Internet.
_UNICAST6 = ipaddress.ip_network("2000::/3")
# An IPv4 address in the clothes of an IPv6 one: a translator at the provider undresses it.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: IPAddress) -> bool:
    """Return whether a host on the Internet can have the address: none private, loopback, link-local or reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        return is_public(inner) if inner else address in _UNICAST6 and address.is_global
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that packets to this one end up at, if so."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What may be connected to: public addresses, and all (``everything``) or some (``networks``) of the others."""

    everything: bool = False
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, option: bool | str | Sequence[str]) -> AddressPolicy:
        """Return the policy that an option ``allow_private`` means: True, False, a network or a list of networks.

        Raises:
            ValueError: A text is no network.

        """
        if isinstance(option, bool):
            return cls(everything=option)
        texts = [option] if isinstance(option, str) else option
        return cls(networks=tuple(ipaddress.ip_network(text) for text in texts))

    def allows(self, address: IPAddress) -> bool:
        """Return whether a message may go to the address."""
        return self.everything or is_public(address) or any(address in network for network in self.networks)

    def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host that may be connected to, best first.

        Whoever connects has to connect to one of these: a name that is resolved again may resolve to another.

        Raises:
            GiveUp: None of them may be.
            OSError: The name has no address, or cannot be looked up now.

        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [address for address in addresses if self.allows(ipaddress.ip_address(address))]
        if not allowed:
            msg = (
                f"{host} is {', '.join(addresses)}, which is not on the Internet. If it is meant to be reached, "
                'allow its network by "allow_private" in the OPTIONS of the channel.'
            )
            raise GiveUp(msg)
        return allowed
