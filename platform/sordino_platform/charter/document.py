"""What a federation has agreed on: `Charter`, format `sordino-charter/2`; charters of version 1 are read.

The charter is the federation's constitution. It is signed by the offline root key, pinned by every member and
enforced by the member's software *against the coordinator*: a value from the coordinator can only make a check
stricter. Everything a charter holds is public, and bounded in size.

Fractions that the protocol rounds are integers in thousandths (permille), so that every party rounds alike. Terms of
privacy are floats, compared and never rounded.

A `Draft` is a charter in the making on the root's machine: the same fields, members still to come. Only a complete
`Charter` can be signed.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.utils import CryptographyDeprecationWarning
from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sordino_platform.architecture import HuggingFaceConfig, ModelConfig, Trainable
from sordino_platform.canonical import Digest, Document, Key, Moment, Name, document_digest, encode
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import membership as secagg
from sordino_privacy.secagg.encoding import MAX_MEMBERS, SUITE
from sordino_privacy.secagg.graph import COMPLETE_LIMIT, quorum
from sordino_privacy.secagg.refusals import PolicyError

LABEL = (
    "sordino-charter/1"  # of hashes and signatures, over all versions: the version stands in what is signed
)
FIRST_VERSION = "sordino-charter/1"
VERSION = "sordino-charter/2"
POLICY_HINT = "`sordino charter show` prints the policy; only a new epoch can change it"
MAX_CHARTER_BYTES = 8 << 20
FIRST_EPOCH = 1
NO_PREVIOUS = bytes(32)


def _organisation(text: str) -> str:
    if not text.isprintable() or text != unicodedata.normalize("NFC", text).strip():
        raise ValueError("must be printable, in Unicode normal form C, without spaces around it")
    return text


def _dns_name(text: str) -> str:
    label = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    if not re.fullmatch(rf"{label}(\.{label})*", text):
        raise ValueError("must be a DNS name in lower case")
    return text


def _address(text: str) -> str:
    if str(ipaddress.ip_address(text)) != text:  # one spelling per address
        raise ValueError(f"must be written {ipaddress.ip_address(text)}")
    return text


@contextmanager
def _as_problem() -> Iterator[None]:
    """What the protocol says of impossible floors, as pydantic takes it, which adds the place."""
    try:
        yield
    except ConfigurationError as error:
        raise ValueError(error.message) from None


Role = Literal["member", "coordinator"]
Organisation = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_organisation)]
DnsName = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_dns_name)]
Address = Annotated[str, Field(min_length=2, max_length=45), AfterValidator(_address)]
Permille = Annotated[int, Field(ge=0, le=1000)]
Count = Annotated[int, Field(ge=1, le=MAX_MEMBERS)]


class CharterMember(Document):
    """A party that trains: its name, its organisation, its Ed25519 identity key."""

    name: Name
    organisation: Organisation
    identity_key: Key


class CharterCoordinator(Document):
    """The party that adds: its identity key signs releases; its TLS certificate is good for these hosts only."""

    name: Name
    identity_key: Key
    dns_names: tuple[DnsName, ...] = Field(default=(), max_length=16)
    addresses: tuple[Address, ...] = Field(default=(), max_length=16)

    @model_validator(mode="after")
    def _reachable(self) -> CharterCoordinator:
        if not self.dns_names and not self.addresses:
            raise ValueError("the coordinator needs a DNS name or an IP address")
        return self


class RetiredKey(Document):
    """An identity key that must never be accepted again, and the epoch that retired it."""

    name: Name
    identity_key: Key
    epoch: int = Field(ge=FIRST_EPOCH, lt=1 << 32)


class FloorTerms(Document):
    """What a round may not fall below; each field is explained at `sordino_privacy.secagg.membership.Floors`."""

    cohort: int = Field(default=5, ge=secagg.MIN_COHORT, le=MAX_MEMBERS)
    organisations: Count = 3
    organisation_share_permille: int = Field(default=500, ge=1, le=1000)
    gamma_permille: int = Field(default=200, ge=0, le=secagg.MAX_GAMMA_PERMILLE)
    honest: int = Field(default=3, ge=secagg.MIN_HONEST, le=MAX_MEMBERS)
    dropout_permille: int = Field(default=333, ge=1, le=500)

    @model_validator(mode="after")
    def _consistent(self) -> FloorTerms:
        self.as_secagg()  # raises what the protocol would raise
        return self

    def as_secagg(self) -> secagg.Floors:
        """The same floors as the protocol takes them."""
        return secagg.Floors(**self.model_dump())


def _require_inside(policy: str, bounds: dict[str, bool]) -> None:
    for what, holds in bounds.items():
        if not holds:
            raise PolicyError(
                f"{what} of this round is outside the charter's {policy} policy", hint=POLICY_HINT
            )


class PrivacyPolicy(Document):
    """The weakest privacy that a member may be asked for. Epsilon is local, per member, over the member's data."""

    largest_epsilon: float = Field(default=8.0, gt=0, le=1000)
    largest_delta: float = Field(default=1e-5, gt=0, le=1e-3)
    smallest_noise_multiplier: float = Field(default=0.5, gt=0, le=1000)
    largest_clip_norm: float = Field(default=1.0, gt=0, le=1e6)
    largest_sampling_rate: float = Field(default=0.25, gt=0, le=1)
    largest_steps: int = Field(default=200, ge=1, le=100_000)
    # What survivors sign about their own updates: nothing but that the sum is theirs, or a sketch of their length too.
    update_check: Literal["sum", "norm"] = "sum"
    # Whether each member adds the whole noise, or its share of it (docs/distributed-noise.md).
    noise: Literal["local", "distributed"] = "local"

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        # As below: a charter that says nothing of noise has the bytes that it always had.
        data: dict[str, object] = plain(self)
        return {name: value for name, value in data.items() if name != "noise" or value != "local"}

    @model_validator(mode="after")
    def _releasable(self) -> PrivacyPolicy:
        if self.noise == "distributed" and self.largest_steps != 1:
            raise ValueError(
                "noise = distributed is for rounds of one step, largest_steps = 1: what follows a noisy step would "
                "depend on noise that is not all there"
            )
        if self.noise == "distributed" and self.update_check != "sum":
            raise ValueError(
                "noise = distributed goes with update_check = sum only: a sketch of one member's update would show it "
                "under its own share of the noise"
            )
        return self

    def require(
        self, *, noise_multiplier: float, clip_norm: float, sampling_rate: float, steps: int, delta: float
    ) -> None:
        """Refusal 14: raises PolicyError unless one round of training lies inside this policy. NaN lies outside."""
        _require_inside(
            "privacy",
            {
                "the noise multiplier": noise_multiplier >= self.smallest_noise_multiplier,
                "the clip norm": 0 < clip_norm <= self.largest_clip_norm,
                "the sampling rate": 0 < sampling_rate <= self.largest_sampling_rate,
                "the number of steps": 0 < steps <= self.largest_steps,
                "delta": 0 < delta <= self.largest_delta,
            },
        )

    def require_count(self, *, noise_multiplier: float, delta: float) -> None:
        """Refusal 14: raises PolicyError unless a count, which takes every unit once, lies inside this policy."""
        _require_inside(
            "privacy",
            {
                "the noise multiplier": noise_multiplier >= self.smallest_noise_multiplier,
                "delta": 0 < delta <= self.largest_delta,
            },
        )


class TrainingPolicy(Document):
    """How far one round may move the model, and the numbers of a plan and of the server's step that lead there.

    `largest_move_permille` is the one that a person can judge: a share of the length (L2 norm) of the vector that the
    federation starts from. A plan, with the server's step after it, that could move the model further in one round is
    refused, whatever its single numbers are; the other fields bound each of those alone.
    """

    largest_move_permille: int = Field(default=100, ge=1, le=10_000)
    largest_learning_rate: float = Field(default=1.0, gt=0, le=1000)
    largest_noise_multiplier: float = Field(default=100.0, gt=0, le=10_000)
    smallest_expected_units: int = Field(default=4, ge=1, le=1 << 24)
    largest_windows_per_unit: int = Field(default=64, ge=1, le=1024)
    largest_server_rate: float = Field(default=4.0, gt=0, le=1000)
    largest_momentum: float = Field(default=0.95, ge=0, lt=1)
    largest_second_momentum: float = Field(default=0.999, ge=0, lt=1)
    smallest_tau: float = Field(default=1e-4, gt=0, le=1)

    def require(
        self, *, learning_rate: float, noise_multiplier: float, expected_units: int, windows_per_unit: int
    ) -> None:
        """Refusal 14: raises PolicyError unless each number of a plan lies inside this policy. NaN lies outside."""
        _require_inside(
            "training",
            {
                "the learning rate": 0 < learning_rate <= self.largest_learning_rate,
                "the noise multiplier": 0 < noise_multiplier <= self.largest_noise_multiplier,
                "the expected number of units": expected_units >= self.smallest_expected_units,
                "the number of windows of a unit": 0 < windows_per_unit <= self.largest_windows_per_unit,
            },
        )

    def require_server_step(self, *, learning_rate: float, beta1: float, beta2: float, tau: float) -> None:
        """Refusal 14: raises PolicyError unless each number of the server's step lies inside this policy, those that
        the step does not use too: they are signed with it."""
        _require_inside(
            "training",
            {
                "the server's learning rate": 0 < learning_rate <= self.largest_server_rate,
                "the server's momentum": 0 <= beta1 <= self.largest_momentum,
                "the server's second momentum": 0 <= beta2 <= self.largest_second_momentum,
                "the server's tau": tau >= self.smallest_tau,
            },
        )


class SharedMemoryPolicy(Document):
    """Whether phrases of very many file clusters may be counted, and on what terms. A charter without it allows no
    count. The noise and delta of a count are bounded by the privacy policy, as those of a training are."""

    largest_phrases: int = Field(default=1000, ge=1, le=4096)
    largest_length: int = Field(default=12, ge=2, le=16)
    largest_bits: int = Field(default=22, ge=12, le=22)
    smallest_deviations: float = Field(default=4.0, ge=1, le=100)
    smallest_witnesses: int = Field(default=3, ge=2, le=1024)
    smallest_surprise: float = Field(default=1.0, gt=0, le=20)
    largest_expected_units: int = Field(default=1 << 14, ge=1, le=1 << 24)

    def require(
        self,
        *,
        phrases: int,
        longest: int,
        bits: int,
        deviations: float,
        witnesses: int,
        surprise: float,
        expected_units: int,
    ) -> None:
        """Refusal 14: raises PolicyError unless each number of a count's plan lies inside this policy."""
        _require_inside(
            "shared memory",
            {
                "the number of phrases of a unit": phrases <= self.largest_phrases,
                "the length of a phrase": longest <= self.largest_length,
                "the number of cells": bits <= self.largest_bits,
                "the threshold in deviations": deviations >= self.smallest_deviations,
                "the number of witnesses": witnesses >= self.smallest_witnesses,
                "the surprise": surprise >= self.smallest_surprise,
                "the expected number of units": expected_units <= self.largest_expected_units,
            },
        )


class ModelTerms(Document):
    """The model that is trained: architecture, trained subset, the public base it starts from, the tokenizer."""

    vocabulary: int
    context: int
    layers: int
    heads: int
    width: int
    hidden: int
    rope_base: float = Field(gt=0, le=1e9)
    adapter_rank: int
    embedding_rank: int = 0
    adapter_scale: float = Field(default=1.0, gt=0, le=100)
    trainable: Trainable
    base_sha256: Digest
    tokenizer_sha256: Digest

    @model_validator(mode="after")
    def _possible(self) -> ModelTerms:
        self.config()
        return self

    @classmethod
    def of(cls, config: ModelConfig, *, base_sha256: bytes, tokenizer_sha256: bytes) -> ModelTerms:
        """The terms of a configuration."""
        fields = {name: getattr(config, name) for name in ModelConfig.__slots__}
        return cls(**fields, base_sha256=base_sha256, tokenizer_sha256=tokenizer_sha256)

    def config(self) -> ModelConfig:
        """The architecture. Raises ConfigurationError when its sizes are impossible."""
        return ModelConfig(**self.model_dump(exclude={"base_sha256", "tokenizer_sha256"}))


class AdaptedLayer(Document):
    """A linear layer of a Hugging Face base that gets an adapter."""

    name: str = Field(min_length=1, max_length=240, pattern=r"^[A-Za-z0-9_.]+$")
    outputs: int
    inputs: int


class HuggingFaceTerms(Document):
    """A base, by the digest of its files, and the adapters that are trained on it. `name` is what the founder calls it:
    for people who look for it, never believed."""

    base_sha256: Digest
    name: str | None = Field(default=None, pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")
    vocabulary: int
    context: int
    end: int
    adapter_rank: int
    layers: tuple[AdaptedLayer, ...] = Field(min_length=1, max_length=1 << 14)

    @model_validator(mode="after")
    def _possible(self) -> HuggingFaceTerms:
        self.config()
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        # Terms that name no base have the bytes, and so the hash, that they had before there were names.
        data: dict[str, object] = plain(self)
        return {name: value for name, value in data.items() if name != "name" or value is not None}

    @classmethod
    def of(cls, config: HuggingFaceConfig, *, name: str | None = None) -> HuggingFaceTerms:
        """The terms of a configuration."""
        return cls(
            name=name,
            base_sha256=bytes.fromhex(config.base_sha256),
            vocabulary=config.vocabulary,
            context=config.context,
            end=config.end,
            adapter_rank=config.adapter_rank,
            layers=tuple(
                AdaptedLayer(name=name, outputs=outputs, inputs=inputs)
                for name, outputs, inputs in config.targets
            ),
        )

    def config(self) -> HuggingFaceConfig:
        """The base and its adapters. Raises ConfigurationError when the sizes are impossible."""
        return HuggingFaceConfig(
            base_sha256=self.base_sha256.hex(),
            vocabulary=self.vocabulary,
            context=self.context,
            end=self.end,
            adapter_rank=self.adapter_rank,
            targets=tuple((layer.name, layer.outputs, layer.inputs) for layer in self.layers),
        )


class TlsAuthority(Document):
    """The federation's TLS authority; its fingerprint is SHA-256 of the DER certificate, as TLS tools print it."""

    certificate: str = Field(max_length=4096)
    fingerprint: Digest

    @model_validator(mode="after")
    def _matches(self) -> TlsAuthority:
        if self.x509().fingerprint(SHA256()) != self.fingerprint:
            raise ValueError("the certificate does not have this fingerprint")
        return self

    def x509(self) -> x509.Certificate:
        """The parsed certificate. Raises ValueError when it is none, of a version that does not exist, or of a serial
        number that is not positive (RFC 5280, section 4.1.2.2): the library only warns of that."""
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.encode("ascii", "replace"))
        except (x509.InvalidVersion, UnsupportedAlgorithm, CryptographyDeprecationWarning) as error:
            raise ValueError("the certificate cannot be read") from error
        if certificate.serial_number < 1:
            raise ValueError("the certificate's serial number is not positive")
        return certificate

    @property
    def pem(self) -> bytes:
        """The certificate as TLS libraries take it."""
        return self.certificate.encode("ascii")


class RenewalTerms(Document):
    """An authority that is online, for renewals of members only: same name, same identity key, a new TLS key.

    A certificate of it is taken only with the member's own endorsement of the TLS key (`identity.names`), so that its
    key alone can speak for nobody.
    """

    authority: TlsAuthority
    validity_days: int = Field(default=30, ge=1, le=90)


class CharterTerms(Document):
    """What a draft and a charter share."""

    # Version 1 had no training policy: it is read with the default one, and its bytes and hash stay what they were.
    version: Literal["sordino-charter/1", "sordino-charter/2"] = "sordino-charter/2"
    federation: Name
    epoch: int = Field(ge=FIRST_EPOCH, lt=1 << 32)
    previous: Digest = NO_PREVIOUS
    issued_at: Moment
    expires_at: Moment
    members: tuple[CharterMember, ...] = Field(default=(), max_length=MAX_MEMBERS)
    retired: tuple[RetiredKey, ...] = Field(default=(), max_length=4 * MAX_MEMBERS)
    floors: FloorTerms = FloorTerms()
    privacy: PrivacyPolicy = PrivacyPolicy()
    training: TrainingPolicy | None = None
    shared_memory: SharedMemoryPolicy | None = None
    model: ModelTerms | HuggingFaceTerms
    # One suite and one quantiser, no menu: no round is held under any other (`Charter.membership`). A charter of the
    # suite before is still read, because the chain of epochs holds it. What the quantiser needs (ranges, ring, levels)
    # follows from the model, the training plan and the number of members.
    suite: Literal["sordino-secagg/1", "sordino-secagg/2"] = "sordino-secagg/2"
    quantiser: Literal["sordino-quantiser/1"] = "sordino-quantiser/1"
    tls_authority: TlsAuthority
    renewals: RenewalTerms | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        # A charter without these terms has the bytes, and so the hash, that it had before the terms existed.
        data: dict[str, object] = plain(self)
        later = ("renewals", "training", "shared_memory")
        return {name: value for name, value in data.items() if name not in later or value is not None}

    def training_policy(self) -> TrainingPolicy:
        """The policy in force: a charter of version 1 names none, and the default holds."""
        return self.training or TrainingPolicy()

    @model_validator(mode="after")
    def _coherent(self) -> CharterTerms:
        if (self.version == FIRST_VERSION) != (self.training is None):
            raise ValueError(
                "a training policy stands in every charter from version 2 on, and in none of version 1"
            )
        if (
            self.renewals is not None
            and self.renewals.authority.x509().subject == self.tls_authority.x509().subject
        ):
            raise ValueError("the renewal authority must have another name than the TLS authority")
        names = [member.name for member in self.members]
        if names != sorted(set(names)):
            raise ValueError("members must be sorted by name, and each name may occur once")
        keys = [member.identity_key for member in self.members]
        gone = {key.identity_key for key in self.retired}
        if len(set(keys)) != len(keys):
            raise ValueError("two members have one identity key")
        if gone & set(keys):
            raise ValueError("a member has a key that was retired")
        if (self.epoch == FIRST_EPOCH) != (self.previous == NO_PREVIOUS):
            raise ValueError("the first epoch has no previous charter, and every later one has")
        if self.expires_at <= self.issued_at:
            raise ValueError("a charter must expire after it was issued")
        spellings: dict[str, str] = {}
        for member in self.members:
            if (
                spellings.setdefault(member.organisation.casefold(), member.organisation)
                != member.organisation
            ):
                raise ValueError(f"the organisation {member.organisation!r} is spelt in two ways")
        self._require_shareable()
        if self.suite == SUITE:
            # From the first member on: more members only make more colluders, so a draft without room stays one.
            with _as_problem():
                self.floors.as_secagg().require_room(len(self.members))
        return self

    def noise_shares(self) -> int:
        """Of how many honest members' noise a sum has enough: 1 where each carries the whole, else the honest floor."""
        return self.floors.honest if self.privacy.noise == "distributed" else 1

    def _require_shareable(self) -> None:
        """Whether the floors suit noise in shares: two sums of one round would hold the same shares, so that only one
        may ever be opened."""
        if self.privacy.noise != "distributed":
            return
        if self.version == FIRST_VERSION or self.suite != SUITE:
            raise ValueError(
                "noise = distributed is a term of charters from version 2 on, and of their suite"
            )
        count = len(self.members)
        if count > COMPLETE_LIMIT:
            raise ValueError(f"noise = distributed is for at most {COMPLETE_LIMIT} members")
        if (needed := shareable_honest(self.floors, count)) > self.floors.honest:
            raise ValueError(
                f"noise = distributed needs an honest floor above half of the members that cannot collude, {needed} of "
                f"{count} members: --honest {needed} --cohort {self.floors.as_secagg().corrupt(count) + needed}"
            )


def shareable_honest(floors: FloorTerms, members: int) -> int:
    """The smallest honest floor with which no two sums of one round can be opened: each has that many honest signers,
    who sign once."""
    return max(secagg.MIN_HONEST, (members - floors.as_secagg().corrupt(members)) // 2 + 1)


class Draft(CharterTerms):
    """A charter in the making: never signed, never sent."""

    coordinator: CharterCoordinator | None = None


class Charter(CharterTerms):
    """One epoch of a federation, complete. Obtain one from `SignedCharter`, which verified it."""

    coordinator: CharterCoordinator

    @model_validator(mode="after")
    def _complete(self) -> Charter:
        if self.suite == SUITE:
            with _as_problem():
                self.floors.as_secagg().require_possible(Counter(m.organisation for m in self.members))
        coordinator = self.coordinator
        if coordinator.name in {member.name for member in self.members}:
            raise ValueError("the coordinator has the name of a member")
        taken = {m.identity_key for m in self.members} | {key.identity_key for key in self.retired}
        if coordinator.identity_key in taken:
            raise ValueError("the coordinator has the key of a member, or a retired one")
        return self

    def hash(self) -> bytes:
        """The charter hash, 32 bytes: members pin it, the protocol's context holds it, the next epoch names it."""
        return document_digest(LABEL, encode(self))

    def member(self, name: str) -> CharterMember:
        """The member of that name. Raises ConfigurationError when there is none."""
        for member in self.members:
            if member.name == name:
                return member
        raise ConfigurationError(
            f"{name!r} is not a member of {self.federation}, epoch {self.epoch}",
            hint="`sordino charter show` lists the members",
        )

    def identity_key(self, role: Role, name: str) -> bytes | None:
        """The identity key of a party, or None when this epoch has no such party."""
        if role == "coordinator":
            return self.coordinator.identity_key if name == self.coordinator.name else None
        return next((member.identity_key for member in self.members if member.name == name), None)

    def issuers(self, role: Role) -> tuple[TlsAuthority, ...]:
        """The authorities whose certificates a party of this role may show."""
        if role == "coordinator" or self.renewals is None:
            return (self.tls_authority,)
        return self.tls_authority, self.renewals.authority

    def membership(self) -> secagg.Membership:
        """This epoch as the secure-aggregation protocol takes it. Raises ConfigurationError for a charter whose rounds
        another suite would have to hold: its thresholds followed the roster, which the coordinator chooses."""
        if self.suite != SUITE:
            raise ConfigurationError(
                f"the charter of {self.federation}, epoch {self.epoch}, is for {self.suite}; "
                f"this version of sordino speaks {SUITE} only",
                hint="the holder of the root key signs the next epoch with this version: `sordino charter new`, "
                "then `sordino charter sign`",
            )
        return secagg.Membership(
            federation=self.federation,
            epoch=self.epoch,
            charter_hash=self.hash(),
            members=tuple(
                secagg.EnrolledMember(name=m.name, organisation=m.organisation, public_key=m.identity_key)
                for m in self.members
            ),
            retired=frozenset(key.identity_key for key in self.retired),
            floors=self.floors.as_secagg(),
            checks_lengths=self.privacy.update_check == "norm",
            shares=self.noise_shares(),
        )

    def smallest_sum(self) -> int:
        """Fewest members of a sum that any round of this epoch may open. In an epoch of the suite before it was the
        honest floor that a release was checked against."""
        if self.suite != SUITE:
            return self.floors.honest
        floors = self.floors
        corrupt = floors.as_secagg().corrupt(len(self.members))
        return quorum(floors.cohort, corrupt=corrupt, honest=floors.honest)

    def require_current(self, now: datetime | None = None) -> None:
        """Raises ConfigurationError when the charter has expired.

        A charter that never expired would let a coordinator hide a newer one, and with it a retirement, for ever.
        """
        if (now or datetime.now(UTC)) >= self.expires_at:
            raise ConfigurationError(
                f"the charter of {self.federation}, epoch {self.epoch}, expired on {self.expires_at:%Y-%m-%d}",
                hint="the holder of the root key signs a new epoch: `sordino charter new`, then `sordino charter sign`",
            )
