"""Operators known to the company's own identity provider (OpenID Connect), for the console and the API.

    settings   `[oidc]` of coordinator.toml: which provider, which claim lets whom do what
    provider   the provider's discovery document and keys: bounded, cached, turned over
    tokens     a JSON Web Token as a person with rights, or refused
    login      the console's sign-in: authorization code with PKCE

Deny by default: who is in no listed group may do nothing. joserfc (extra `oidc`) verifies the signatures; it is
imported where `[oidc]` is set and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sordino_coordinator.oidc.settings import OidcSettings
from sordino_privacy.errors import ConfigurationError

if TYPE_CHECKING:
    from sordino_coordinator.oidc.login import ConsoleLogin
    from sordino_coordinator.oidc.tokens import TokenVerifier


def api_tokens(settings: OidcSettings) -> TokenVerifier:
    """What verifies the provider's tokens for the API. Raises ConfigurationError, StorageError."""
    try:
        from sordino_coordinator.oidc.provider import OidcProvider
        from sordino_coordinator.oidc.tokens import TokenVerifier
    except ImportError:
        raise _not_installed() from None
    return TokenVerifier(settings, OidcProvider(settings))


def console_login(settings: OidcSettings) -> ConsoleLogin:
    """What signs operators in at the console. Raises ConfigurationError, StorageError."""
    try:
        from sordino_coordinator.oidc.login import ConsoleLogin
    except ImportError:
        raise _not_installed() from None
    return ConsoleLogin(settings)


def _not_installed() -> ConfigurationError:
    return ConfigurationError("[oidc] needs the package joserfc", hint="pip install 'sordino[oidc]'")
