"""A coordinator that is behind its members was restored from an old backup: it must not go on, and says what to do.

Every member would refuse the next release that it signs, and would be charged for some of those rounds. One member's
word stops nothing: the number of members that say so must be larger than the charter's number of colluders, and at
least two.
"""

from __future__ import annotations

from collections.abc import Collection

from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import Membership

FEWEST = 2


def require_not_behind(membership: Membership, ahead: Collection[str], *, release: int) -> None:
    """Raises ConfigurationError when too many members hold a release newer than `release` for all of them to be
    lying."""
    liars = membership.corrupt(membership.floors.gamma_permille)
    if len(ahead) > max(liars, FEWEST - 1):
        raise ConfigurationError(
            f"{len(ahead)} members hold newer releases than {release}, the newest here: "
            "this folder was restored from a backup that is older than they are",
            hint="`sordino coordinator adopt` takes the newer history back from them; then `sordino coordinator up`",
        )
