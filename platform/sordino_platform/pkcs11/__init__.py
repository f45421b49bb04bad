"""Signing keys in hardware: a PKCS#11 token holds the key and makes signatures; the key never leaves it.

    uri      which key in which token (RFC 7512), and where its PIN is
    signer   the key as a `sordino_privacy.signing.Signer`

>>> signer = Pkcs11Signer.of_key_pair(Pkcs11Uri.parse(text))   # finds the key pair, or makes it in the token
>>> signer.sign(message)
"""

from sordino_platform.pkcs11.signer import Pkcs11Signer
from sordino_platform.pkcs11.uri import Pkcs11Uri

__all__ = ["Pkcs11Signer", "Pkcs11Uri"]
