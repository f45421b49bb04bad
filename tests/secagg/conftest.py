"""What several tests of the protocol look at."""

from __future__ import annotations

from collections import Counter

import pytest

from sordino_privacy.secagg import keys


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many signatures were checked, by purpose."""
    count, true = Counter[str](), keys.signed

    def counted(public: bytes, signature: bytes, purpose: str, *fields: bytes) -> bool:
        count[purpose] += 1
        return true(public, signature, purpose, *fields)

    monkeypatch.setattr(keys, "signed", counted)
    return count
