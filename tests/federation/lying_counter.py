"""A coordinator with its true key that believes twice what a count's sum says. Run in place of `sordino`; a member that
runs it is an honest one."""

from __future__ import annotations

import sys

from sordino_platform.cli import main
from sordino_privacy.counts import CountPlan, SharedMemory
from sordino_privacy.secagg import Totals

if sys.argv[1:2] == ["coordinator"]:
    from sordino_coordinator import next_release

    def doubled(totals: Totals, plan: CountPlan, *, survivors: int) -> SharedMemory:
        (group,) = totals.quantiser.groups
        step = 2 * group.range / totals.quantiser.levels
        shares = totals.quantiser.shares
        return SharedMemory.of_sum(totals.integers, plan, survivors=survivors, step=step, shares=shares)

    vars(next_release)["memory_of"] = doubled

if __name__ == "__main__":
    main()
