"""Makes the area's shared federation importable as `tests.secagg.federation`, however pytest was started."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    # At the end, so that no folder of the project can shadow an installed or standard package.
    sys.path.append(ROOT)
