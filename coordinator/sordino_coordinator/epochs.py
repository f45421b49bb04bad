"""The signed epochs of the charter that members lack. They are sent all at once in one message, so there is a limit.

A charter of a thousand members takes 170 KB, signed. A message of our link holds 16 MiB beside its vectors, some ninety
such epochs: with one a week, those of a year and a half. A member that lacks more is left out, with a log line that
says what to do: it is not asked to take part in a round whose charter it cannot be sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sordino_coordinator.federation import Federation
from sordino_platform.flower.codec import MAX_HEADER_BYTES
from sordino_platform.offer import OfferAnswer

MOST_EPOCH_BYTES: Final = MAX_HEADER_BYTES - (2 << 20)
"""The part of a message's header that epochs may fill. The rest is for the plan, the last manifests and a record."""


def lacking(federation: Federation, behind: Mapping[str, OfferAnswer]) -> dict[str, tuple[bytes, ...]]:
    """The signed epochs that each of the members `behind` lacks, under the same keys.

    A member that lacks more than a message brings is not among them, and logged with what to do.
    """
    # They follow each other without a gap. Each is encoded once, however many epochs the members say that they hold.
    oldest = min((answer.epoch for answer in behind.values()), default=federation.charter.epoch)
    every, brought = federation.epochs(after=oldest), dict[str, tuple[bytes, ...]]()
    for key, answer in behind.items():
        epochs = every[answer.epoch - oldest :]
        size = sum(map(len, epochs))
        if size <= MOST_EPOCH_BYTES:
            brought[key] = epochs
            continue
        federation.log.warning(
            "epochs_do_not_fit",
            member=answer.member,
            count=len(epochs),
            error=f"it lacks {len(epochs)} epochs of {size / 1e6:.1f} MB after epoch {answer.epoch}, and one message "
            f"brings {MOST_EPOCH_BYTES / 1e6:.1f} MB",
            hint=f"give its owner the files charter-{answer.epoch + 1:06d}.json and later of this folder's charters: "
            "`sordino charter accept FOLDER FILES` takes them",
        )
    return brought
