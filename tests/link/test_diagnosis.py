"""What a failed handshake means, by what OpenSSL says of it: no connection is made here (test_tls does)."""

from __future__ import annotations

import pytest

from sordino_platform.link.diagnosis import (
    CERTIFICATE_ALERTS,
    TEMPORARY,
    Cause,
    Diagnosis,
    certificate_unverified,
    handshake_refused,
)

HUB = "hub.example.org:9443"


@pytest.mark.parametrize("alert", CERTIFICATE_ALERTS)
def test_an_alert_about_the_own_certificate_is_believed_and_permanent(alert: str) -> None:
    found = handshake_refused(f"TLSV1_{alert}", HUB).diagnosis
    assert found.cause is Cause.OWN_REFUSED
    assert found.permanent
    assert "sordino identity renew" in found.hint


@pytest.mark.parametrize("reason", ["", "TLSV1_ALERT_INTERNAL_ERROR", "UNEXPECTED_EOF_WHILE_READING"])
def test_anything_else_that_ends_a_handshake_may_pass(reason: str) -> None:
    found = handshake_refused(reason, HUB).diagnosis
    assert (found.cause, found.permanent) == (Cause.CLOSED, False)


def test_a_port_without_tls_is_named() -> None:
    assert handshake_refused("WRONG_VERSION_NUMBER", HUB).diagnosis.cause is Cause.NOT_TLS


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (9, Cause.SERVER_NOT_YET_VALID),
        (10, Cause.SERVER_EXPIRED),
        (18, Cause.OTHER_CA),
        (20, Cause.OTHER_CA),
        (62, Cause.WRONG_NAME),
        (64, Cause.WRONG_NAME),
        (7, Cause.OTHER_CA),
    ],
)
def test_each_reason_not_to_believe_the_coordinators_certificate_has_its_cause(
    code: int, cause: Cause
) -> None:
    asked: list[str] = []

    def names_of() -> str:
        asked.append("asked")
        return "other.example.org"

    error = certificate_unverified(code, "said", target=HUB, name="hub.example.org", names=names_of)
    assert error.diagnosis.cause is cause
    assert error.diagnosis.hint
    assert bool(asked) == (cause is Cause.WRONG_NAME), "a second handshake only where its names help"


def test_a_clock_may_be_set_but_another_ca_is_never_waited_for() -> None:
    assert {Cause.SERVER_EXPIRED, Cause.SERVER_NOT_YET_VALID} <= TEMPORARY
    for cause in (Cause.OTHER_CA, Cause.WRONG_NAME, Cause.OWN_EXPIRED, Cause.NOT_TLS, Cause.FILES):
        assert Diagnosis(cause=cause, message="").permanent
