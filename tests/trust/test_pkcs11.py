"""An identity's key in a real PKCS#11 token (SoftHSM): made there, used from there, never out of there, never replaced.

Skipped where SoftHSM or python-pkcs11 is not installed: `apt-get install softhsm2`, `pip install 'sordino[pkcs11]'`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.coordinator.api_client import Operator
from tests.federation import inprocess
from typer.testing import CliRunner

from sordino_coordinator.control.audit import verify_audit
from sordino_coordinator.control.orders import read_orders
from sordino_coordinator.federation import Federation
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.doctor.command import doctor
from sordino_platform.identity import Identity, site
from sordino_platform.pkcs11 import Pkcs11Signer, Pkcs11Uri
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.signing import SignerError

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")
MODULE = next((path for path in MODULES if Path(path).exists()), None)
pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
pytestmark = pytest.mark.skipif(
    MODULE is None or shutil.which("softhsm2-util") is None,
    reason="SoftHSM is not installed (apt-get install softhsm2)",
)
PIN = "0427-secret-pin"


@dataclass(frozen=True)
class Token:
    """A token of its own: its label, the folder that is its memory, the file with its PIN."""

    label: str
    memory: Path
    pin_file: Path

    def uri(self, name: str, **more: str) -> str:
        """The URI of a key in it."""
        return (
            f"pkcs11:token={self.label};object={name}"
            f"?module-path={more.get('module', MODULE)}&pin-source=file:{more.get('pin', self.pin_file)}"
        )

    def key(self, name: str) -> Pkcs11Uri:
        return Pkcs11Uri.parse(self.uri(name))

    def take_out(self) -> None:
        """As pulling it from the machine: its memory is elsewhere."""
        for one in self.memory.iterdir():
            one.rename(self.memory.with_name("elsewhere") / one.name)

    def put_in(self) -> None:
        for one in self.memory.with_name("elsewhere").iterdir():
            one.rename(self.memory / one.name)

    def session(self, *, rw: bool = False) -> Any:
        return pkcs11.lib(MODULE).get_token(token_label=self.label).open(user_pin=PIN, rw=rw)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Token:
    memory, pin = tmp_path / "softhsm" / "tokens", tmp_path / "pin"
    memory.mkdir(parents=True)
    memory.with_name("elsewhere").mkdir()
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {memory}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    monkeypatch.setenv("SOFTHSM2_CONF", str(configuration))
    pin.touch(mode=0o600)
    pin.write_text(PIN + "\n")
    label = f"sordino-{secrets.token_hex(4)}"  # its own: the module is one for the whole process
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "so-" + PIN],
        check=True, capture_output=True, env=os.environ.copy(),
    )  # fmt: skip
    pkcs11.lib(MODULE).reinitialize()
    return Token(label=label, memory=memory, pin_file=pin)


def enrolled(folder: Path, token: Token, name: str = "alder") -> Identity:
    """A founded federation in which this party's key is in the token."""
    inprocess.found_in(folder, keys={name: token.key(name)})
    return Identity.load(folder / ("coordinator" if name == "coordinator" else f"members/{name}"))


# -------------------------------------------------------------------------------------------------------------- the key


def test_a_key_is_made_in_the_token_and_can_be_taken_out_by_nobody(token: Token, tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    site.create(
        folder, federation="demo", role="member", name="acme", organisation="Acme", key=token.key("acme")
    )
    assert not (folder / site.IDENTITY_KEY).exists()
    assert stat.S_IMODE((folder / site.KEY_URI).stat().st_mode) == 0o600
    with token.session() as session:
        private = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label="acme")
        with pytest.raises(pkcs11.AttributeSensitive):
            private[pkcs11.Attribute.VALUE]
        assert private[pkcs11.Attribute.NEVER_EXTRACTABLE]
        assert private[pkcs11.Attribute.ALWAYS_SENSITIVE]
        wrapper = session.generate_key(pkcs11.KeyType.AES, 256, store=False)
        with pytest.raises(pkcs11.PKCS11Error):
            wrapper.wrap_key(private)
    card = site.read_card(folder)
    signature = site.signer_of(folder, card).sign(b"message")
    assert len(signature) == 64
    Ed25519PublicKey.from_public_bytes(card.identity_key).verify(signature, b"message")


def test_a_key_that_is_there_is_used_and_one_that_could_be_exported_is_refused(token: Token) -> None:
    first = Pkcs11Signer.of_key_pair(token.key("acme"))
    assert Pkcs11Signer.of_key_pair(token.key("acme")).public_key == first.public_key
    with token.session(rw=True) as session:
        terms = session.create_domain_parameters(
            pkcs11.KeyType.EC_EDWARDS,
            {pkcs11.Attribute.EC_PARAMS: bytes.fromhex("06032b6570")},
            local=True,
        )
        terms.generate_keypair(
            mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            label="loose",
            store=True,
            private_template={pkcs11.Attribute.EXTRACTABLE: True, pkcs11.Attribute.SENSITIVE: False},
        )
    with pytest.raises(ConfigurationError, match="could be exported"):
        Pkcs11Signer.of_key_pair(token.key("loose"))


def test_a_key_that_is_no_ed25519_key_is_refused(token: Token) -> None:
    with token.session(rw=True) as session:
        session.generate_keypair(pkcs11.KeyType.RSA, 2048, label="rsa", store=True)
    with pytest.raises(ConfigurationError, match="no Ed25519 key"):
        Pkcs11Signer.of_key_pair(token.key("rsa"))


def test_another_key_in_the_token_signs_nothing_here(token: Token) -> None:
    other = Pkcs11Signer.of_key_pair(token.key("other"))
    signer = Pkcs11Signer(token.key("other"), bytes(31) + b"\x01")
    with pytest.raises(SignerError, match="another key than this identity's"):
        signer.sign(b"message")
    assert other.sign(b"message")


# ------------------------------------------------------------------------------------------------------------ the round


@pytest.mark.parametrize("party", ["alder", "coordinator"])
def test_a_real_round_is_held_with_a_partys_key_in_a_token(token: Token, tmp_path: Path, party: str) -> None:
    identity = enrolled(tmp_path / "federation", token, party)
    assert isinstance(identity.signing_key, Pkcs11Signer)
    federation = Federation.open(tmp_path / "federation/coordinator")
    with inprocess.opened(tmp_path / "federation") as members:
        for member in members.values():
            inprocess.store_update(member, federation, 1, 1e-5)
        grid = inprocess.InProcessGrid(members, run=7)
        assert SecureFedAvg(federation).one_round(grid)
        assert {member.newest_release() for member in members.values()} == {1}
    assert sorted(federation.rounds.rounds()[-1].members) == sorted(inprocess.NAMES)
    keys = frozenset({federation.charter.coordinator.identity_key})
    count, _ = verify_audit(federation.folder, keys=keys)
    assert count > 0
    federation.rounds.close()


def test_a_member_whose_token_is_gone_is_not_ready_loses_nothing_and_comes_back(
    token: Token, tmp_path: Path
) -> None:
    enrolled(tmp_path / "federation", token)
    federation = Federation.open(tmp_path / "federation/coordinator")
    with inprocess.opened(tmp_path / "federation") as members:
        alder = members["alder"]
        for member in members.values():
            inprocess.store_update(member, federation, 1, 1e-5)
        token.take_out()
        grid = inprocess.InProcessGrid(members, run=7)
        assert SecureFedAvg(federation).one_round(grid)
        assert "alder" not in federation.rounds.rounds()[-1].members
        assert not alder.ledger.reservations(), "nothing was charged"
        token.put_in()
        for member in members.values():
            inprocess.store_update(member, federation, 2, 1e-5)
        assert SecureFedAvg(federation).one_round(grid)
        assert "alder" in federation.rounds.rounds()[-1].members
    federation.rounds.close()


def test_a_coordinator_whose_token_is_gone_begins_no_round_and_goes_on_once_it_is_back(
    token: Token, tmp_path: Path
) -> None:
    enrolled(tmp_path / "federation", token, "coordinator")
    federation = Federation.open(tmp_path / "federation/coordinator")
    with inprocess.opened(tmp_path / "federation") as members:
        for member in members.values():
            inprocess.store_update(member, federation, 1, 1e-5)
        grid = inprocess.InProcessGrid(members, run=7)
        token.take_out()
        with pytest.raises(SignerError, match=r"the token (does not answer|is not there)") as stopped:
            SecureFedAvg(federation).one_round(grid)
        assert "no other key is used" in stopped.value.hint
        assert not grid.seen, "no member was asked for anything"
        token.put_in()
        assert SecureFedAvg(federation).one_round(grid)
    federation.rounds.close()


def test_an_order_that_could_not_be_noted_is_not_given(token: Token, tmp_path: Path) -> None:
    enrolled(tmp_path / "federation", token, "coordinator")
    operator = Operator(tmp_path / "federation/coordinator")
    token.take_out()
    assert operator.ask("POST", "/v1/pause", b"{}")[0] == 409
    assert not read_orders(operator.hub).paused
    token.put_in()
    assert operator.ask("POST", "/v1/pause", b"{}")[1]["paused"] is True
    operator.server.stop()


# ---------------------------------------------------------------------------------------------------- what goes wrong


def test_doctor_says_when_the_token_does_not_answer(token: Token, tmp_path: Path) -> None:
    folder = tmp_path / "federation"
    enrolled(folder, token)
    import typer

    app = typer.Typer()
    app.command()(doctor)
    said = CliRunner().invoke(app, [str(folder / "members/alder"), "--json"]).output
    assert "in the token that" in said
    token.take_out()
    result = CliRunner().invoke(app, [str(folder / "members/alder"), "--json"])
    assert "does not sign" in result.output
    assert result.exit_code == 3
    token.put_in()


def test_a_wrong_pin_is_offered_once_and_the_right_one_works_afterwards(token: Token) -> None:
    signer = Pkcs11Signer.of_key_pair(token.key("acme"))
    token.pin_file.write_text("wrong\n")
    with pytest.raises(SignerError, match="it refused the PIN in"):
        signer.sign(b"message")
    for _ in range(20):
        with pytest.raises(SignerError, match="refused this PIN before") as error:
            signer.sign(b"message")
        assert "wrong" not in error.value.message
    token.pin_file.write_text(PIN + "\n")
    assert len(signer.sign(b"message")) == 64


def test_a_pin_that_others_can_read_is_refused(token: Token) -> None:
    signer = Pkcs11Signer.of_key_pair(token.key("acme"))
    token.pin_file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="other users"):
        signer.sign(b"message")


def test_an_identity_has_one_key_and_never_a_second_one_to_fall_back_on(token: Token, tmp_path: Path) -> None:
    folder = tmp_path / "federation"
    member = folder / "members/alder"
    enrolled(folder, token)
    shutil.copy(folder / "members/birch" / site.IDENTITY_KEY, member / site.IDENTITY_KEY)
    with pytest.raises(ConfigurationError, match="names another one in a token"):
        Identity.load(member)
    (member / site.IDENTITY_KEY).unlink()
    token.take_out()
    identity = Identity.load(member)  # reading a status needs no token
    with pytest.raises(SignerError, match=r"the token (does not answer|is not there)"):
        identity.signing_key.sign(b"message")
    with pytest.raises(SignerError):
        site.make_request(member)
    token.put_in()


def test_the_command_makes_the_key_and_shows_no_pin(token: Token, tmp_path: Path) -> None:
    from sordino_platform.identity.commands import app

    place = tmp_path / "acme"
    made = ["new", str(place), "--federation", "demo", "--name", "acme", "--organisation", "Acme", "--key"]
    result = CliRunner().invoke(app, [*made, token.uri("acme")], catch_exceptions=False)
    assert result.exit_code == 0
    assert PIN not in result.output
    assert not any(PIN.encode() in path.read_bytes() for path in place.rglob("*") if path.is_file())
    assert (
        repr(site.signer_of(place, site.read_card(place))) == f"Pkcs11Signer(key acme in token {token.label})"
    )


def test_without_its_library_a_token_is_refused_with_what_to_install(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Pkcs11Signer.of_key_pair(token.key("acme"))
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(ConfigurationError) as refused:
        signer.sign(b"message")
    assert "sordino[pkcs11]" in refused.value.hint


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda uri: uri + "&pin-value=1234", "holds a PIN"),
        (lambda uri: uri.replace("pkcs11:", "file:"), "does not begin"),
        (lambda uri: uri.partition("?")[0], "names no module-path"),
        (lambda uri: uri.replace("token=", "slot-id="), "not known here"),
        (lambda uri: uri.replace("object=acme", "type=private"), "names no key"),
        (lambda uri: uri.replace("object=acme", "object=acme;type=public"), "no private key"),
        (lambda uri: uri.replace("object=acme", "object=acme;object=other"), "twice"),
        (lambda uri: uri.replace("object=acme", "object=ac me"), "percent-encoded"),
        (lambda uri: uri.replace("object=acme", "object=%0a"), "cannot be printed"),
        (lambda uri: uri.replace("object=acme", "object=%ff"), "not UTF-8"),
        (lambda uri: uri.replace("pin-source=file:", "pin-source=file:.."), "absolute paths"),
        (lambda uri: uri.replace("pin-source=file:", "pin-source=|/bin/echo"), "absolute paths"),
        (lambda uri: uri + "x" * 3000, "characters"),
    ],
)
def test_a_uri_is_taken_in_one_form_only_and_quoted_by_no_error(change: Any, why: str) -> None:
    uri = f"pkcs11:token=sordino;object=acme?module-path={MODULE}&pin-source=file:/etc/sordino/pin"
    assert Pkcs11Uri.parse(uri).label == "acme"
    with pytest.raises(ConfigurationError, match=why) as refused:
        Pkcs11Uri.parse(change(uri))
    assert "1234" not in refused.value.message + refused.value.hint
