"""The operator's API and a provider's tokens: who may do what, and every token that must not pass.

The coordinator's API is real (TLS, threads, audit log); the provider is in the test's hand, so that it can be evil.
"""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from tests.coordinator.api_client import Operator
from tests.coordinator.issuer import CLIENT, KEYS, SUBJECT, Issuer
from tests.loaded import loaded_by

from sordino_coordinator.control.audit import Action, read_lines
from sordino_coordinator.control.callers import TOKEN_FILE
from sordino_coordinator.control.orders import read_orders
from sordino_coordinator.doctor import identity_provider
from sordino_coordinator.oidc import provider as provider_module
from sordino_coordinator.oidc.settings import OidcSettings
from sordino_privacy.errors import ConfigurationError, LinkError


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.stop()


@pytest.fixture
def operator(hub: Path, issuer: Issuer) -> Iterator[Operator]:
    asked = Operator(hub, oidc=OidcSettings(**issuer.settings()))
    yield asked
    asked.server.stop()


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# ------------------------------------------------------------------------------------------------ who may do what


@pytest.mark.parametrize("kid", list(KEYS))
def test_an_operator_of_the_provider_reads_and_orders_and_the_audit_log_names_them(
    operator: Operator, issuer: Issuer, kid: str
) -> None:
    token = issuer.issue(kid)
    assert operator.ask("GET", "/v1/status", token=token)[0] == 200
    assert operator.ask("POST", "/v1/pause", b"{}", token=token)[1]["paused"] is True
    noted = [(line.entry.action, line.entry.by) for line in read_lines(operator.hub)]
    assert noted[-1] == (Action.PAUSED, f"api:{SUBJECT}")


def test_a_reader_reads_and_gives_no_order(operator: Operator, issuer: Issuer) -> None:
    token = issuer.issue(groups=["sordino-readers", "all-staff"])
    assert operator.ask("GET", "/v1/rounds", token=token)[0] == 200
    status, answer = operator.ask("POST", "/v1/pause", b"{}", token=token)
    assert (status, "may not give orders" in answer["error"]) == (403, True)
    assert not read_orders(operator.hub).paused


@pytest.mark.parametrize(
    "groups", [None, [], "staff", ["staff"], [["sordino-operators"]], {"sordino-operators": 1}, 7]
)
def test_who_is_in_no_listed_group_may_do_nothing(operator: Operator, issuer: Issuer, groups: Any) -> None:
    token = issuer.issue(groups=groups)
    assert operator.ask("GET", "/v1/status", token=token)[0] == 403
    assert operator.ask("POST", "/v1/pause", b"{}", token=token)[0] == 403


def test_no_persons_token_copies_the_folder_or_hands_over(operator: Operator, issuer: Issuer) -> None:
    token = issuer.issue()
    stand = "/v1/copy?release=0&epoch=1&audit=0&state=" + "ab" * 32
    assert operator.ask("GET", stand, token=token)[0] == 403
    assert operator.ask("POST", "/v1/hand-over", b'{"tenure": "00"}', token=token)[0] in (403, 404)


def test_the_static_token_stays_the_way_in_when_the_provider_is_gone_unless_it_is_switched_off(
    hub: Path, issuer: Issuer
) -> None:
    issuer.stop()
    asked = Operator(hub, oidc=OidcSettings(**issuer.settings()))
    assert asked.ask("GET", "/v1/status")[0] == 200
    assert asked.ask("GET", "/v1/status", token=issuer.issue())[0] == 503
    asked.server.stop()
    (hub / TOKEN_FILE).unlink()
    closed = Operator(hub, oidc=OidcSettings(**issuer.settings(static_tokens=False)))
    assert not (hub / TOKEN_FILE).exists()
    for token in ("", "anything", None):
        assert closed.ask("GET", "/v1/status", token=token)[0] == 401
    closed.server.stop()


# ------------------------------------------------------------------------------------------- tokens that must not pass


def test_a_token_with_no_signature_is_refused(operator: Operator, issuer: Issuer) -> None:
    for name in ("none", "None", "NONE", ""):
        header, claims = part({"alg": name, "kid": "ec"}), part(issuer.claims())
        for signature in ("", "AA"):
            assert operator.ask("GET", "/v1/status", token=f"{header}.{claims}.{signature}")[0] == 401


def test_the_public_key_as_a_shared_secret_signs_nothing(operator: Operator, issuer: Issuer) -> None:
    """Algorithm confusion: HS256 over the bytes of a key that everybody knows."""
    for kid in ("rsa", "ec", "ed"):
        public = KEYS[kid][1]
        for secret in (public.as_pem(private=False), json.dumps(public.as_dict(private=False)).encode()):
            signed = f"{part({'alg': 'HS256', 'kid': kid})}.{part(issuer.claims())}"
            forged = f"{signed}.{part(hmac.digest(secret, signed.encode(), 'sha256'))}"
            assert operator.ask("GET", "/v1/status", token=forged)[0] == 401


def test_a_key_that_the_token_brings_along_is_not_used(operator: Operator, issuer: Issuer) -> None:
    own = ECKey.generate_key("P-256", {"kid": "ec"})
    for header in (
        {"alg": "ES256", "kid": "ec", "jwk": own.as_dict(private=False)},
        {"alg": "ES256", "kid": "ec", "jku": issuer.url + "/jwks"},
        {"alg": "ES256", "kid": "mine"},
        {"alg": "ES256"},
    ):
        forged = jwt.encode(header, issuer.claims(), own, algorithms=["ES256"])
        assert operator.ask("GET", "/v1/status", token=forged)[0] == 401


NOW = int(time.time())


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "another-api"},
        {"aud": ["another-api", CLIENT]},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"exp": NOW - 3600},
        {"exp": None},
        {"exp": "never"},
        {"nbf": NOW + 3600},
        {"iat": NOW + 3600},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"sub": "a\nPAUSED by root"},
        {"sub": "Ünicode"},
    ],
)
def test_a_true_signature_under_a_wrong_claim_is_refused(
    operator: Operator, issuer: Issuer, changed: dict[str, Any]
) -> None:
    assert operator.ask("GET", "/v1/status", token=issuer.issue(**changed))[0] == 401


def test_the_clocks_may_differ_by_the_bound_and_no_more(hub: Path, issuer: Issuer) -> None:
    asked = Operator(hub, oidc=OidcSettings(**issuer.settings(skew_seconds=120)))
    now = int(time.time())
    assert asked.ask("GET", "/v1/status", token=issuer.issue(exp=now - 60))[0] == 200
    assert asked.ask("GET", "/v1/status", token=issuer.issue(exp=now - 180))[0] == 401
    asked.server.stop()
    with pytest.raises(ValueError, match="skew_seconds"):
        OidcSettings(**issuer.settings(skew_seconds=3600))


def test_an_id_token_of_the_console_orders_nothing(operator: Operator, issuer: Issuer) -> None:
    assert operator.ask("POST", "/v1/pause", b"{}", token=issuer.issue(aud=CLIENT))[0] == 401
    with pytest.raises(ValueError, match="audience must not be client_id"):
        OidcSettings(**issuer.settings(audience=CLIENT))


def test_an_algorithm_that_the_settings_do_not_list_is_refused(hub: Path, issuer: Issuer) -> None:
    asked = Operator(hub, oidc=OidcSettings(**issuer.settings(algorithms=["RS256"])))
    assert asked.ask("GET", "/v1/status", token=issuer.issue("rsa"))[0] == 200
    assert asked.ask("GET", "/v1/status", token=issuer.issue("ec"))[0] == 401
    asked.server.stop()


@pytest.mark.parametrize(
    "token",
    [
        "a.b.c",
        "..",
        "a.b.c.d",
        "x" * 20_000 + ".b.c",
        part(b"[" * 3000) + "." + part({}) + ".AA",
        part({"alg": "ES256", "kid": {"a": 1}}) + "." + part({}) + ".AA",
        part({"alg": ["ES256"]}) + "." + part({}) + ".AA",
        part({"alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": False}) + "." + part({}) + ".AA",
        part([]) + "." + part({}) + ".AA",
        "\x00.\x00.\x00",
    ],
)
def test_what_is_no_token_is_refused_and_harms_nobody(operator: Operator, token: str) -> None:
    assert operator.ask("GET", "/v1/status", token=token)[0] in (400, 401)
    assert operator.ask("GET", "/v1/status")[0] == 200


def test_a_token_that_is_too_long_is_refused_before_it_is_looked_at(
    operator: Operator, issuer: Issuer
) -> None:
    assert operator.ask("GET", "/v1/status", token=issuer.issue(padding="x" * 9000))[0] == 401
    assert not issuer.asked


# ------------------------------------------------------------------------------------------------ the provider's keys


def test_a_new_key_is_fetched_when_a_token_names_it_and_at_most_once_in_half_a_minute(
    hub: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.published = ["rsa"]
    asked = Operator(hub, oidc=OidcSettings(**issuer.settings()))
    assert asked.ask("GET", "/v1/status", token=issuer.issue("rsa"))[0] == 200
    issuer.published = ["rsa", "ec"]
    for _ in range(5):  # whoever sends unknown keys makes no traffic to the provider
        assert asked.ask("GET", "/v1/status", token=issuer.issue("ec"))[0] == 401
    assert issuer.asked["/jwks"] == 1
    monkeypatch.setattr(provider_module, "TRY_AGAIN_SECONDS", 0.0)
    assert asked.ask("GET", "/v1/status", token=issuer.issue("ec"))[0] == 200
    assert issuer.asked["/jwks"] == 2
    asked.server.stop()


def test_a_key_that_was_taken_back_is_trusted_no_longer_than_the_bound(
    hub: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Operator(hub, oidc=OidcSettings(**issuer.settings()))
    token = issuer.issue("ec")
    assert asked.ask("GET", "/v1/status", token=token)[0] == 200
    issuer.published = ["rsa"]
    monkeypatch.setattr(provider_module, "TRY_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(provider_module, "FRESH_SECONDS", 0.0)
    assert asked.ask("GET", "/v1/status", token=token)[0] == 401
    issuer.stop()
    monkeypatch.setattr(provider_module, "TRUSTED_SECONDS", 0.0)
    assert asked.ask("GET", "/v1/status", token=issuer.issue("rsa"))[0] == 503
    asked.server.stop()


def test_a_provider_that_never_answers_costs_that_request_only(operator: Operator, issuer: Issuer) -> None:
    issuer.held = threading.Event()
    answers: list[int] = []
    waiting = threading.Thread(
        target=lambda: answers.append(operator.ask("GET", "/v1/status", token=issuer.issue())[0])
    )
    waiting.start()
    assert issuer.reached.wait(30)
    assert operator.ask("GET", "/v1/status")[0] == 200  # while the other one still waits
    assert not answers
    waiting.join(60)
    assert answers == [503]  # and it ends by itself: nobody has set `held`


@pytest.mark.parametrize(
    "keys",
    [
        b"x" * (300 << 10),
        b'{"keys": "' + b"x" * 100 + b'"}',
        {"keys": [{"kty": "oct", "kid": "ec", "k": "AAAA"}]},
        {"keys": [{"kty": "EC", "crv": "P-256", "kid": "ec", "x": "AA", "y": "AA"}]},
        {"keys": [{}] * 65},
        b"[" * 100_000,
        b"no JSON",
    ],
)
def test_a_key_set_that_is_none_or_too_large_lets_nobody_in(
    operator: Operator, issuer: Issuer, keys: Any
) -> None:
    issuer.keys = keys
    assert operator.ask("GET", "/v1/status", token=issuer.issue())[0] in (401, 503)
    assert operator.ask("GET", "/v1/status")[0] == 200


@pytest.mark.parametrize(
    "said",
    [
        {"issuer": "https://evil.example"},
        {"jwks_uri": "http://evil.example/jwks"},
        {"jwks_uri": "file:///etc/passwd"},
        {"token_endpoint": None},
    ],
)
def test_a_discovery_document_that_points_elsewhere_is_not_followed(
    operator: Operator, issuer: Issuer, said: dict[str, Any]
) -> None:
    issuer.discovery = said
    assert operator.ask("GET", "/v1/status", token=issuer.issue())[0] == 503
    assert issuer.asked["/jwks"] == 0


# ------------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"issuer": "http://login.example"}, "https"),
        ({"issuer": "https://user:pass@login.example"}, "no user"),
        ({"readers": [], "operators": []}, "nobody may do anything"),
        ({"audience": ""}, "set console_url"),
        ({"console_url": "http://console.example"}, "https"),
        ({"console_url": "https://console.example/"}, "no path"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"scopes": ["profile"]}, "openid"),
        ({"operators": [""]}, "has a name"),
    ],
)
def test_settings_that_would_let_in_too_many_are_refused(
    issuer: Issuer, changed: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        OidcSettings(**issuer.settings(**changed))


def test_doctor_says_whether_the_provider_answers(issuer: Issuer) -> None:
    settings = OidcSettings(**issuer.settings())
    assert identity_provider(settings) == f"{issuer.url} answers, with 3 key(s) that are accepted here"
    issuer.stop()
    with pytest.raises(LinkError, match="cannot be used"):
        identity_provider(settings)


def test_a_secret_that_others_can_read_is_refused(issuer: Issuer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o644)
    with pytest.raises(ConfigurationError, match="other users"):
        OidcSettings(**issuer.settings(client_secret=str(secret))).secret()


def test_without_oidc_its_library_is_not_imported() -> None:
    modules = loaded_by(
        "sordino_coordinator.up", "sordino_coordinator.console", "sordino_coordinator.control.api"
    )
    assert not [name for name in modules if name.partition(".")[0] == "joserfc"]
