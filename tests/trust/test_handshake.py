"""The certificates in a real TLS 1.3 handshake (OpenSSL, strict X.509 rules, both sides in memory)."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from sordino_platform.identity import Identity, admit
from sordino_platform.identity.ceremony import Foundation


def context(folder: Path, *, server: bool, authority: bytes | None = None) -> ssl.SSLContext:
    identity = Identity.load(folder)
    tls = identity.tls()
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(cadata=(authority or tls.authority).decode())
    made.load_cert_chain(folder / "tls.pem")
    return made


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> tuple[bytes, bytes]:
    """Runs it to its end; returns what the client and the server saw of each other, DER."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    a = client.wrap_bio(to_client, to_server, server_hostname=host)
    b = server.wrap_bio(to_server, to_client, server_side=True)
    pending = [a, b]
    for _ in range(8):
        for side in list(pending):
            try:
                side.do_handshake()
                pending.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not pending
    seen = a.getpeercert(binary_form=True), b.getpeercert(binary_form=True)
    assert seen[0] is not None
    assert seen[1] is not None
    return seen[0], seen[1]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_member_and_the_coordinator_know_each_other(founded: Foundation, host: str) -> None:
    member = founded.members["member-3"]
    server, client = handshake(context(member, server=False), context(founded.coordinator, server=True), host)
    assert admit(ssl.DER_cert_to_PEM_cert(server), founded.charter) == ("coordinator", "coordinator")
    assert admit(ssl.DER_cert_to_PEM_cert(client), founded.charter) == ("member", "member-3")


def test_a_coordinator_under_another_host_name_is_refused(founded: Foundation) -> None:
    member = context(founded.members["member-3"], server=False)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(member, context(founded.coordinator, server=True), "evil.example")


def test_a_member_cannot_stand_for_the_coordinator(founded: Foundation) -> None:
    member = context(founded.members["member-3"], server=False)
    member.check_hostname = False
    with pytest.raises(ssl.SSLCertVerificationError, match=r"purpose|unsuitable"):
        handshake(member, context(founded.members["member-4"], server=True), "localhost")


def test_a_certificate_of_another_federation_is_refused_by_both_sides(
    founded: Foundation, federation: Callable[..., Foundation]
) -> None:
    other = federation(twin=1)
    theirs = Identity.load(other.coordinator).tls().authority
    member, hub = founded.members["member-3"], other.coordinator
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context(member, server=False), context(hub, server=True), "localhost")
    with pytest.raises(ssl.SSLError):
        handshake(context(member, server=False, authority=theirs), context(hub, server=True), "localhost")
