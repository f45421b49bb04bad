"""The context of one attempt at one round: everything that all parties must agree on before keys are exchanged.

The coordinator proposes a context; each member builds its *own* expected one from its charter, its own model and its
own configuration, and refuses if they differ. The digest salts every key of the attempt. So an unnoticed disagreement
would make the sum useless, but would reveal nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg.encoding import HASH_BYTES, SUITE, MessageReader, Writer, digest, valid_name
from sordino_privacy.secagg.membership import MAX_GAMMA_PERMILLE, Membership
from sordino_privacy.secagg.quantise import Quantiser
from sordino_privacy.secagg.refusals import (
    ContextError,
    DowngradeError,
    FloorError,
    IdentityError,
    MalformedError,
    ThresholdError,
)

KIND = 1
MAX_CONTEXT_BYTES = 1 << 20
MAX_RUN_CHARACTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundContext:
    """One attempt. Hashes and the nonce have 32 bytes; `run` is 1 to 64 printable ASCII characters; `round` counts
    from 0 and `attempt` from 0. The last three are the floors in force: at least those of the charter.

    Raises DowngradeError for any suite but ours, ConfigurationError for a field outside its bounds.
    """

    federation: str
    epoch: int
    charter_hash: bytes
    run: str
    round: int
    attempt: int
    server_nonce: bytes
    model_hash: bytes
    train_config_hash: bytes
    quantiser: Quantiser
    gamma_permille: int
    cohort: int
    organisations: int
    suite: str = SUITE

    def __post_init__(self) -> None:
        if self.suite != SUITE:
            raise DowngradeError(f"the suite {self.suite!r} is refused: this software speaks {SUITE} only")
        if not valid_name(self.federation):
            raise ConfigurationError("the federation's name is not valid")
        if not (1 <= len(self.run) <= MAX_RUN_CHARACTERS and self.run.isascii() and self.run.isprintable()):
            raise ConfigurationError(
                f"a run's name must be 1 to {MAX_RUN_CHARACTERS} printable ASCII characters"
            )
        if any(not 0 <= number < 1 << 32 for number in (self.epoch, self.round, self.attempt)):
            raise ConfigurationError("epoch, round and attempt must be numbers below 2^32")
        hashes = (self.charter_hash, self.server_nonce, self.model_hash, self.train_config_hash)
        if any(len(value) != HASH_BYTES for value in hashes):
            raise ConfigurationError(f"the hashes and the nonce of a context must have {HASH_BYTES} bytes")
        if not 0 <= self.gamma_permille <= MAX_GAMMA_PERMILLE:
            raise ConfigurationError("gamma must lie between 0 and 333 thousandths")
        if not (1 <= self.cohort < 1 << 16 and 1 <= self.organisations < 1 << 16):
            raise ConfigurationError("the floors of a context must be numbers below 2^16")

    @classmethod
    def under(
        cls,
        membership: Membership,
        *,
        run: str,
        round: int,
        attempt: int,
        server_nonce: bytes,
        model_hash: bytes,
        train_config_hash: bytes,
        quantiser: Quantiser,
    ) -> RoundContext:
        """The context with exactly the charter's floors."""
        return cls(
            federation=membership.federation,
            epoch=membership.epoch,
            charter_hash=membership.charter_hash,
            run=run,
            round=round,
            attempt=attempt,
            server_nonce=server_nonce,
            model_hash=model_hash,
            train_config_hash=train_config_hash,
            quantiser=quantiser,
            gamma_permille=membership.floors.gamma_permille,
            cohort=membership.floors.cohort,
            organisations=membership.floors.organisations,
        )

    def at_least(self, proposed: RoundContext) -> RoundContext:
        """This context with the proposal's floors where stricter. A member takes nothing else from a proposal."""
        return replace(
            self,
            gamma_permille=max(self.gamma_permille, proposed.gamma_permille),
            cohort=max(self.cohort, proposed.cohort),
            organisations=max(self.organisations, proposed.organisations),
        )

    @property
    def dimension(self) -> int:
        """Elements of an upload, extra limbs included."""
        return self.quantiser.length

    @property
    def ring_bits(self) -> int:
        return self.quantiser.ring_bits

    def encode(self) -> bytes:
        """The proposal's canonical bytes, which `decode` reads back."""
        writer = Writer(KIND).text(self.suite).name(self.federation).u32(self.epoch).raw(self.charter_hash)
        writer.text(self.run).u32(self.round).u32(self.attempt).raw(self.server_nonce).raw(self.model_hash)
        writer.raw(self.train_config_hash)
        writer.u16(self.gamma_permille).u16(self.cohort).u16(self.organisations)
        self.quantiser.write(writer)
        return writer.done()

    @classmethod
    def decode(cls, message: bytes) -> RoundContext:
        """Parses a proposal. Raises MalformedError, or DowngradeError for any suite but ours."""
        reader = MessageReader(message, KIND, limit=MAX_CONTEXT_BYTES)
        suite = reader.text()
        if suite != SUITE:
            raise DowngradeError(f"the coordinator proposed {suite!r}; this software speaks {SUITE} only")
        try:
            context = cls(
                suite=suite,
                federation=reader.name(),
                epoch=reader.u32(),
                charter_hash=reader.raw(HASH_BYTES),
                run=reader.text(),
                round=reader.u32(),
                attempt=reader.u32(),
                server_nonce=reader.raw(HASH_BYTES),
                model_hash=reader.raw(HASH_BYTES),
                train_config_hash=reader.raw(HASH_BYTES),
                gamma_permille=reader.u16(),
                cohort=reader.u16(),
                organisations=reader.u16(),
                quantiser=Quantiser.read(reader),
            )
        except ConfigurationError as error:
            raise MalformedError(f"the proposed context is not valid: {error}") from error
        reader.end()
        return context

    def digest(self) -> bytes:
        """ctx: 32 bytes that commit to every field."""

        def number(value: int) -> bytes:
            return value.to_bytes(8, "big")

        return digest(
            "ctx",
            self.federation.encode(),
            number(self.epoch),
            self.charter_hash,
            self.run.encode(),
            number(self.round),
            number(self.attempt),
            self.server_nonce,
            self.model_hash,
            self.train_config_hash,
            self.quantiser.digest(),
            self.suite.encode(),
            number(self.dimension),
            number(self.ring_bits),
            number(self.gamma_permille),
            number(self.cohort),
            number(self.organisations),
        )

    def require_same(self, proposed: RoundContext) -> None:
        """`self` is the member's own. Raises ContextError that names the first field in which the proposal differs."""
        for item in fields(self):
            if getattr(self, item.name) != getattr(proposed, item.name):
                raise ContextError(f"the coordinator's context differs from this member's in: {item.name}")

    def require_floors(self, membership: Membership) -> None:
        """Requires that the context is of this charter, and that its floors are equal or stricter.

        Raises IdentityError (another charter or epoch), ThresholdError (gamma) or FloorError.
        """
        charter = (membership.federation, membership.epoch, membership.charter_hash)
        if self.epoch < membership.epoch:
            raise IdentityError(
                f"charter epoch {self.epoch} is older than the member's epoch {membership.epoch}"
            )
        if (self.federation, self.epoch, self.charter_hash) != charter:
            raise IdentityError(
                "the round is under another charter than the member's", hint="update the charter"
            )
        if self.gamma_permille < membership.floors.gamma_permille:
            raise ThresholdError("the round's gamma is below the charter's")
        if self.cohort < membership.floors.cohort:
            raise FloorError(
                f"a cohort floor of {self.cohort} is below the charter's {membership.floors.cohort}"
            )
        if self.organisations < membership.floors.organisations:
            raise FloorError("the round's organisation floor is below the charter's")
