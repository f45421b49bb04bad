"""The identity provider: its discovery document and its keys, fetched with a bound on bytes and on time, and cached.

A provider that does not answer fails the request that needed it and no other: tokens under a key that is held are still
served, static tokens need no provider, and only one fetch goes on at a time. Keys are fetched anew every ten minutes,
and when a token names one that is not held (at most once in half a minute, whoever asks); what was fetched is trusted
for an hour.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sordino_coordinator.oidc.settings import OidcSettings, require_safe_url
from sordino_platform.durable import read_file
from sordino_platform.telemetry import log
from sordino_privacy.errors import ConfigurationError, LinkError

ANSWER_SECONDS: Final = 5.0
MAX_ANSWER_BYTES: Final = 256 << 10
MAX_AUTHORITY_BYTES: Final = 1 << 20
MAX_KEYS: Final = 64
FRESH_SECONDS: Final = 600.0
TRUSTED_SECONDS: Final = 3600.0
TRY_AGAIN_SECONDS: Final = 30.0
RSA_BITS: Final = range(2048, 8193)

PublicKey = Any  # an RSAKey, ECKey or OKPKey of joserfc, which is optional: what checks types may not have it
# Which key an algorithm takes. A shared secret (kty "oct") is none of them, so a public key never passes for one.
KINDS: Final = {"RS256": ("RSA", None), "ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}


class ProviderSilentError(LinkError):
    """The provider cannot be reached, or said something that is no OpenID Connect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderKey:
    """A key that signs tokens: what it is called (None: nothing), for which algorithm, and the key."""

    kid: str | None
    algorithm: str
    key: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """What the provider says of itself, and its keys; `at` in monotonic seconds."""

    authorization_endpoint: str
    token_endpoint: str
    keys: tuple[ProviderKey, ...]
    at: float


class OidcProvider:
    """One provider. Any thread may ask."""

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads the authority's file. Raises ConfigurationError, StorageError."""
        self._settings, self._clock = settings, clock
        self._trust = trusted(settings)
        self._one = threading.Lock()
        self._held: Discovered | None = None
        self._tried = float("-inf")

    def discovered(self) -> Discovered:
        """The document and the keys, at most an hour old. Raises ProviderSilentError."""
        held = self._held
        if held is None or self._clock() - held.at >= FRESH_SECONDS:
            self._refresh(held)
            held = self._held
        if held is None or self._clock() - held.at >= TRUSTED_SECONDS:
            raise _silent("it does not answer")
        return held

    def key(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key that a token names, or, if it names none, the only key for its algorithm; None if there is no such
        key. Raises ProviderSilentError."""
        held = self.discovered()
        found = _key_of(held, kid, algorithm)
        if found is None:
            self._refresh(held)
            found = _key_of(self.discovered(), kid, algorithm)
        return found

    def post(self, url: str, form: Mapping[str, str], *, auth: tuple[str, str] | None) -> dict[str, Any]:
        """The provider's JSON answer to a form, bounded as all else. Raises ProviderSilentError."""
        return self._asked(lambda client: client.stream("POST", url, data=dict(form), auth=auth))

    def _refresh(self, seen: Discovered | None) -> None:
        """Fetches the document and the keys, unless another thread has just done so or tried. Raises nothing: see
        `discovered`."""
        if not self._one.acquire(timeout=ANSWER_SECONDS):
            return
        try:
            if self._held is not seen or self._clock() - self._tried < TRY_AGAIN_SECONDS:
                return
            self._tried = self._clock()
            self._held = self._fetched()
        except ProviderSilentError as error:
            log().warning("oidc_provider_silent", error=error.message)
        finally:
            self._one.release()

    def _fetched(self) -> Discovered:
        issuer = self._settings.issuer
        said = self._get(issuer.rstrip("/") + "/.well-known/openid-configuration")
        if said.get("issuer") != issuer:
            raise _silent("its discovery document names another issuer")
        places = [said.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
        try:
            authorization, token, jwks = (
                require_safe_url(str(place).partition("?")[0], what="an endpoint") and str(place)
                for place in places
            )
        except ValueError:
            raise _silent("an endpoint of its discovery document is no https URL") from None
        return Discovered(
            authorization_endpoint=authorization,
            token_endpoint=token,
            keys=keys_of(self._get(jwks)),
            at=self._clock(),
        )

    def _get(self, url: str) -> dict[str, Any]:
        return self._asked(lambda client: client.stream("GET", url))

    def _asked(self, ask: Callable[[httpx.Client], Any]) -> dict[str, Any]:
        """One answer, as a JSON object. The thread that reads it may outlive the wait: its own time-outs end it."""
        answers: list[bytes] = []

        def read() -> None:
            try:
                with (
                    httpx.Client(
                        verify=self._trust, timeout=ANSWER_SECONDS, follow_redirects=False
                    ) as client,
                    ask(client) as reply,
                ):
                    if reply.status_code == 200:
                        body = bytearray()
                        for piece in reply.iter_bytes():
                            body += piece
                            if len(body) > MAX_ANSWER_BYTES:
                                return
                        answers.append(bytes(body))
            except (httpx.HTTPError, OSError, ValueError):
                return

        reader = threading.Thread(target=read, name="oidc", daemon=True)
        reader.start()
        reader.join(ANSWER_SECONDS)
        try:
            said = json.loads(answers[0]) if answers else None
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise _silent("it did not answer in time, or not with what was asked for")
        return said


def keys_of(said: Mapping[str, Any]) -> tuple[ProviderKey, ...]:
    """The keys of a JWK set that can sign a token here; what is of another kind is passed over."""
    listed = said.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise _silent("its key set is none, or too large")
    return tuple(key for one in listed if isinstance(one, dict) and (key := _key(one)) is not None)


def _key(said: Mapping[str, Any]) -> ProviderKey | None:
    kid, use, algorithm = said.get("kid"), said.get("use", "sig"), said.get("alg")
    kind = (said.get("kty"), None if said.get("kty") == "RSA" else said.get("crv"))
    fits = next((name for name, wanted in KINDS.items() if wanted == kind), None)
    if fits is None or use != "sig" or algorithm not in (None, fits) or "d" in said:
        return None
    if kid is not None and not (isinstance(kid, str) and len(kid) <= 255):
        return None
    kinds: dict[str, type[PublicKey]] = {"RS256": RSAKey, "ES256": ECKey, "EdDSA": OKPKey}
    wanted = ("kty", "n", "e", "crv", "x", "y")
    try:
        key = kinds[fits].import_key({name: said[name] for name in wanted if name in said})
        if isinstance(key, RSAKey) and key.public_key.key_size not in RSA_BITS:
            return None
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return ProviderKey(kid=kid, algorithm=fits, key=key)


def _key_of(held: Discovered, kid: str | None, algorithm: str) -> PublicKey | None:
    fit = [one for one in held.keys if one.algorithm == algorithm and kid in (None, one.kid)]
    return fit[0].key if len(fit) == 1 else None


def trusted(settings: OidcSettings) -> ssl.SSLContext:
    """The authorities that are trusted for the provider's certificate. Raises ConfigurationError, StorageError."""
    if settings.authority is None:
        return ssl.create_default_context()
    pem = read_file(settings.authority, limit=MAX_AUTHORITY_BYTES).decode("ascii", "replace")
    try:
        return ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise ConfigurationError(
            f"{settings.authority} holds no authority's certificate", hint="oidc.authority is a PEM file"
        ) from None


def _silent(why: str) -> ProviderSilentError:
    return ProviderSilentError(
        f"the identity provider cannot be used: {why}",
        hint="see that it runs and that `issuer` is right; the static tokens stay good unless they are switched off",
    )
