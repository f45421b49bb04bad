"""A JSON Web Token as a person with rights, or refused (RFC 7519; RFC 8725; OpenID Connect Core 3.1.3.7).

The algorithm comes from the settings and the key from the provider, never from the token: what a token says of keys
(`jwk`, `jku`, `x5u`) is not read. Everything else that is claimed is compared: issuer, audience, times, nonce.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError

from sordino_coordinator.oidc.provider import OidcProvider
from sordino_coordinator.oidc.settings import OidcSettings
from sordino_privacy.errors import SordinoError

MAX_TOKEN_CHARACTERS: Final = 8192
SUBJECT: Final = re.compile(r"[ -~]{1,255}")  # OpenID Connect Core, section 2: ASCII, at most 255


class AcceptedAlgorithms(jws.JWSRegistry):
    """The three algorithms that can be accepted, and no other: `none` and shared secrets are not even known.

    `EdDSA` is taken on Ed25519 only, which RFC 9864 has a name of its own for and providers do not use yet.
    """

    algorithms: ClassVar = {
        "RS256": jws.JWSRegistry.algorithms["RS256"],
        "ES256": jws.JWSRegistry.algorithms["ES256"],
        "EdDSA": jws.JWSRegistry.algorithms["Ed25519"],
    }


class TokenRefusedError(SordinoError):
    """The token is not one that the settings let in. The message holds nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. `subject` is the provider's own name for the person, which never changes (its claim `sub`)."""

    subject: str
    may_read: bool
    may_operate: bool


class TokenVerifier:
    """Verifies what one provider issued. `clock` is seconds since 1970. Any thread may ask."""

    def __init__(
        self, settings: OidcSettings, provider: OidcProvider, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self.provider, self._clock = settings, provider, clock

    def bearer(self, token: str) -> Principal:
        """The person behind a token for the API. Raises TokenRefusedError, ProviderSilentError."""
        if not self._settings.audience:
            raise TokenRefusedError("the API takes no tokens of the provider", hint="set oidc.audience")
        return self._principal(self._claims(token, audience=self._settings.audience))

    def signed_in(self, token: str, *, nonce: str) -> Principal:
        """The person behind an ID token for the console, issued for this very sign-in. Raises as `bearer` does."""
        settings = self._settings
        claims = self._claims(token, audience=settings.client_id)
        told, party = claims.get("nonce"), claims.get("azp", settings.client_id)
        if not isinstance(told, str) or not hmac.compare_digest(told.encode(), nonce.encode()):
            raise TokenRefusedError("the ID token belongs to another sign-in")
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if party != settings.client_id or (several and "azp" not in claims):
            raise TokenRefusedError("the ID token was issued to another party")
        return self._principal(claims)

    def _claims(self, token: str, *, audience: str) -> dict[str, Any]:
        """The claims of a token whose signature, issuer, audience and times are right."""
        settings = self._settings
        if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii() or token.count(".") != 2:
            raise TokenRefusedError("that is no JSON Web Token")
        # Unknown header fields are passed over; `crit` is not: what must be understood and is not ends it.
        registry = AcceptedAlgorithms(algorithms=settings.algorithms, strict_check_header=False)
        expected = jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock()),
            leeway=settings.skew_seconds,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            header = jws.extract_compact(token.encode(), registry=registry).headers()
            algorithm, kid = header.get("alg"), header.get("kid")
            if algorithm not in settings.algorithms or not (kid is None or isinstance(kid, str)):
                raise TokenRefusedError("the token is signed in a way that is not accepted here")
            key = self.provider.key(kid, algorithm)
            if key is None:
                raise TokenRefusedError("the provider has no such key")
            claims: dict[str, Any] = jwt.decode(token, key, registry=registry).claims
            expected.validate(claims)
        except JoseError as error:
            # The class of the library's error says which rule it was; its text may quote the token.
            raise TokenRefusedError(f"the token was refused: {type(error).__name__}") from None
        except (ValueError, TypeError, RecursionError, OverflowError):
            raise TokenRefusedError("that is no JSON Web Token") from None
        return claims

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        """What the person may do: nothing unless a listed group is theirs."""
        subject, settings = claims["sub"], self._settings
        if not isinstance(subject, str) or SUBJECT.fullmatch(subject) is None:
            raise TokenRefusedError("the token's subject is none")
        said = claims.get(settings.claim)
        groups = {said} if isinstance(said, str) else set()
        if isinstance(said, list):
            groups = {group for group in said if isinstance(group, str)}
        operates = not groups.isdisjoint(settings.operators)
        return Principal(
            subject=subject,
            may_read=operates or not groups.isdisjoint(settings.readers),
            may_operate=operates,
        )
