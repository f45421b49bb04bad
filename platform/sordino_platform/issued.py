"""Whether an authority issued a certificate. The link checks its own certificate, and `identity` checks every one that
it accepts."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether `authority` issued and signed this certificate. Dates and names are not checked."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
