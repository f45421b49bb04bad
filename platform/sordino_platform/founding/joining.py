"""A party's side of `sordino join`: makes keys and request, and after the approval certificate, charters and settings.

Every step checks what exists and does only what is missing, so an interrupted join continues with the same command. The
private keys never leave the folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from sordino_platform.durable import read_file
from sordino_platform.founding.code import JoinCode
from sordino_platform.identity import (
    Card,
    EnrolmentReply,
    EnrolmentRequest,
    EnrolmentToken,
    create,
    install,
    make_request,
    site,
)
from sordino_platform.identity.enrolment import MAX_REQUEST_BYTES
from sordino_platform.identity.renewal import MAX_BUNDLE_BYTES, RenewalReply
from sordino_platform.pkcs11 import Pkcs11Uri
from sordino_privacy.errors import ConfigurationError

GROUP: Final = "sordino.joiners"
APPROVAL: Final = "enrolled.json"
LOOK_SECONDS: Final = 1.0
SETTLED_SECONDS: Final = 2.0

Settle = Callable[[Path, JoinCode, Sequence[Path]], Callable[[], None]]
"""Writes a role's settings if there are none, and returns the command that runs the party."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """One party that joins. `folders`: a member's repositories, or the coordinator's public held-out code. `key`: the
    place of its identity key in a token, None for a file."""

    folder: Path
    code: JoinCode
    folders: tuple[Path, ...] = ()
    key: Pkcs11Uri | None = None

    def request(self, now: datetime) -> bytes:
        """The request to carry to the root's holder: the one that already waits, or a new one.

        Raises ConfigurationError for a code that expired, or a folder that belongs to somebody else.
        """
        code, folder = self.code, self.folder
        if (folder / site.CARD).exists():
            self._require_ours(site.read_card(folder))
        else:
            code.require_current(now)
            create(
                folder,
                federation=code.federation,
                role=code.role,
                name=code.name,
                organisation=code.organisation,
                dns_names=code.dns_names,
                addresses=code.addresses,
                key=self.key,
            )
        token = EnrolmentToken.parse(code.token)
        if (folder / site.REQUEST).exists() and (folder / site.PENDING).exists():
            data = read_file(folder / site.REQUEST, limit=MAX_REQUEST_BYTES)
            if EnrolmentRequest.parse(data).body.invitation == token.invitation:
                return data
        code.require_current(now)
        return make_request(folder, token=token, now=now)

    @property
    def enrolled(self) -> bool:
        """Whether the certificate and the charters are installed."""
        return (self.folder / site.TLS).exists()

    def wait(self, approval: Path) -> None:
        """Waits until the approval lies at `approval`, for as long as it takes, and installs it."""
        # A file that somebody copies here exists before it is complete.
        while not approval.exists() or time.time() - approval.stat().st_mtime < SETTLED_SECONDS:
            time.sleep(LOOK_SECONDS)
        self.install(read_file(approval, limit=MAX_BUNDLE_BYTES))

    def install(self, data: bytes, *, now: datetime | None = None) -> None:
        """Takes this party's part out of the common approval, verifies it and installs it.

        Raises ConfigurationError when this party is not in it, or any part does not verify.
        """
        approval, code = RenewalReply.parse(data, what="the approval"), self.code
        for issued in approval.certificates:
            if (issued.role, issued.name) == (code.role, code.name):
                reply = EnrolmentReply(certificate=issued.certificate, charters=approval.charters)
                install(self.folder, reply.to_bytes(), root=code.root, now=now)
                return
        raise ConfigurationError(
            f"the approval holds nothing for {code.name!r}",
            hint="its request was not there when the root's holder approved: send it, and ask for another approval",
        )

    def settle(self) -> Callable[[], None]:
        """Writes the settings of this role; returns the command that runs the party. Raises what the role's own checks
        raise."""
        (entry,) = entry_points(group=GROUP, name=self.code.role)
        settle: Settle = entry.load()
        return settle(self.folder, self.code, self.folders)

    def _require_ours(self, card: Card) -> None:
        code = self.code
        if (card.federation, card.role, card.name) != (code.federation, code.role, code.name):
            raise ConfigurationError(
                f"{self.folder} belongs to the {card.role} {card.name!r} of {card.federation}",
                hint="give another --folder: one folder holds one party",
            )
