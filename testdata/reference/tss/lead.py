"""The octets in front of the header: addresses and entropy, authenticated though not part of the packet."""

from dataclasses import dataclass

ENTROPY_LEN = 4


@dataclass(frozen=True)
class Lead:
    """Source, destination and entropy, of 4, 4 and 4 octets (IPv4) or 16, 16 and 4 (IPv6)."""

    octets: bytes
    ipv6: bool

    def __post_init__(self) -> None:
        if len(self.octets) != 2 * self.address_len + ENTROPY_LEN:
            raise ValueError("the lead is 12 octets (IPv4) or 36 (IPv6)")

    @property
    def address_len(self) -> int:
        """The octets of one address."""
        return 16 if self.ipv6 else 4

    @property
    def source(self) -> bytes:
        """The source address."""
        return self.octets[: self.address_len]

    @property
    def destination(self) -> bytes:
        """The destination address."""
        return self.octets[self.address_len : 2 * self.address_len]
