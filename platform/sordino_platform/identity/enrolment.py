"""The messages between a site and the root when a party joins or renews: invitation, request, reply.

    root   invite  ->  token            spoken or sent out of band; works once, for one name, for a limited time
    site   request ->  request.json     public; holds no key and no token
    root   add, sign, approve  ->  reply.json   certificate and charters

A request is signed by the site's Ed25519 identity key over the TLS key's own certificate request (PKCS#10), so it
proves possession of both. Its *endorsement*, the identity key's signature over the TLS key alone, goes into the
certificate (`names`). So no authority can make a valid certificate for a TLS key that the party did not choose. The
first request also carries HMAC-SHA256(token, request). Somebody who intercepts it does not learn the token, and cannot
put other keys under the invited name. Renewals need no HMAC, because the charter already names the identity key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import UTC, datetime
from typing import Annotated, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field

from sordino_platform.canonical import (
    Digest,
    Document,
    Key,
    Moment,
    Name,
    Signature,
    decode,
    document_digest,
    encode,
    moment,
    require_signature,
    sign,
)
from sordino_platform.charter.parties import Address, DnsName, Organisation, Role
from sordino_platform.identity.names import endorse, is_endorsed
from sordino_privacy.errors import ConfigurationError, UsageError
from sordino_privacy.signing import Signer

LABEL = "sordino-enrolment/2"
MAX_REQUEST_BYTES = 32 << 10
MAX_REPLY_BYTES = 64 << 20
TOKEN_BYTES = 20
INVITATION_BYTES = 5
InvitationId = Annotated[str, Field(pattern=r"^[a-z2-7]{8}$")]


class Card(Document):
    """The public description of a party, `identity.json` in its folder."""

    version: Literal["sordino-identity/1"] = "sordino-identity/1"
    federation: Name
    role: Role
    name: Name
    organisation: Organisation
    identity_key: Key
    dns_names: tuple[DnsName, ...] = Field(default=(), max_length=16)
    addresses: tuple[Address, ...] = Field(default=(), max_length=16)


class RequestBody(Document):
    """The part of a request that is signed and, with a token, proven."""

    version: Literal["sordino-enrolment/2"] = "sordino-enrolment/2"
    card: Card
    tls_request: str = Field(max_length=4096)
    endorsement: Signature
    invitation: InvitationId | None = None
    made_at: Moment


class EnrolmentRequest(Document):
    """A request as it is sent from the site."""

    body: RequestBody
    proof: Digest | None = None
    signature: Signature

    @classmethod
    def make(
        cls,
        card: Card,
        identity: Signer,
        tls: ec.EllipticCurvePrivateKey,
        *,
        token: EnrolmentToken | None = None,
        now: datetime | None = None,
    ) -> EnrolmentRequest:
        """A request for a certificate for the key `tls`; with a token, also for admission. Raises ConfigurationError
        when `identity` is not the card's."""
        if identity.public_key != card.identity_key:
            raise ConfigurationError("the identity key on disk is not the one in identity.json")
        # The subject stays empty: the approver takes names from the charter, never from a request.
        tls_request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(tls, SHA256())
        body = RequestBody(
            card=card,
            tls_request=tls_request.public_bytes(Encoding.PEM).decode("ascii"),
            endorsement=endorse(identity, card.federation, card.role, card.name, tls.public_key()),
            invitation=token.invitation if token else None,
            made_at=moment(now or datetime.now(UTC)),
        )
        return cls(
            body=body,
            proof=token.prove(body) if token else None,
            signature=sign(identity, LABEL, encode(body)),
        )

    @classmethod
    def parse(cls, data: bytes, *, what: str = "the request") -> EnrolmentRequest:
        """A request from untrusted bytes, its two signatures verified. Raises ConfigurationError."""
        request = decode(cls, data, limit=MAX_REQUEST_BYTES, what=what)
        require_signature(
            request.body.card.identity_key, LABEL, encode(request.body), request.signature, what=what
        )
        card = request.body.card
        if not is_endorsed(
            request.body.endorsement,
            card.identity_key,
            card.federation,
            card.role,
            card.name,
            request.tls_key(),
        ):
            raise ConfigurationError(f"{what} does not endorse its TLS key")
        return request

    def tls_key(self) -> ec.EllipticCurvePublicKey:
        """The TLS public key, with its proof of possession verified. Raises ConfigurationError without that proof."""
        try:
            request = x509.load_pem_x509_csr(self.body.tls_request.encode("ascii", "replace"))
            key = request.public_key()
            valid = request.is_signature_valid
        except (ValueError, TypeError, InvalidSignature):
            raise ConfigurationError("the TLS part of the request cannot be read") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ConfigurationError("the TLS key of the request is not ECDSA P-256")
        if not valid:
            raise ConfigurationError("the request does not prove possession of its TLS key")
        return key


class EnrolmentReply(Document):
    """The approver's reply. Nothing in it is secret, and each part is verified by its own signature."""

    version: Literal["sordino-reply/1"] = "sordino-reply/1"
    certificate: str = Field(max_length=8192)
    charters: tuple[Annotated[str, Field(max_length=8 << 20)], ...] = Field(min_length=1, max_length=4096)

    @classmethod
    def parse(cls, data: bytes, *, what: str = "the reply") -> EnrolmentReply:
        """A reply from untrusted bytes. Its parts are verified when they are installed."""
        return decode(cls, data, limit=MAX_REPLY_BYTES, what=what)


class EnrolmentToken:
    """An enrolment token: a public invitation id and a 160-bit secret, which repr never shows."""

    __slots__ = ("_secret", "invitation")

    def __init__(self, invitation: str, secret: bytes) -> None:
        self.invitation = invitation
        self._secret = secret

    @classmethod
    def fresh(cls) -> EnrolmentToken:
        """A new token from the system's random source."""
        return cls(_base32(secrets.token_bytes(INVITATION_BYTES)), secrets.token_bytes(TOKEN_BYTES))

    @classmethod
    def parse(cls, text: str) -> EnrolmentToken:
        """Parses a token as it was typed. Raises UsageError, without repeating the text."""
        invitation, _, rest = "".join(text.split()).lower().partition("-")
        letters = rest.replace("-", "")
        if len(invitation) != 8 or len(letters) != 32 or set(invitation + letters) - set(_ALPHABET):
            raise UsageError("that is not an enrolment token", hint="`sordino identity invite` prints one")
        return cls(invitation, base64.b32decode(letters.upper()))

    def text(self) -> str:
        """The token in full, to hand over once: `invitation-xxxx-xxxx-...`."""
        letters = _base32(self._secret)
        return "-".join([self.invitation, *(letters[i : i + 4] for i in range(0, len(letters), 4))])

    def verifier(self) -> bytes:
        """The value that the root keeps to check a proof. The token cannot be computed from it."""
        return hashlib.sha256(b"sordino-token/1\x00" + self._secret).digest()

    def prove(self, body: RequestBody) -> bytes:
        """The proof of this token over one request."""
        return token_proof(self.verifier(), body)

    def __repr__(self) -> str:
        return f"EnrolmentToken({self.invitation}, secret redacted)"


def token_proof(verifier: bytes, body: RequestBody) -> bytes:
    """HMAC-SHA256 over the request's hash, under the hashed token."""
    return hmac.digest(verifier, document_digest(f"{LABEL}/proof", encode(body)), "sha256")


_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()
