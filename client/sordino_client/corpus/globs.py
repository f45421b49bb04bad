"""Many file-name globs as one regular expression."""

from __future__ import annotations

import re
from fnmatch import translate


def any_of(globs: str) -> re.Pattern[str]:
    """An expression whose `fullmatch` takes what any of the globs takes; they stand apart by white space."""
    return re.compile("|".join(map(translate, globs.split())))
