"""Whether this machine runs on its battery."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

import psutil

POWER_SUPPLIES: Final = Path("/sys/class/power_supply")


class Battery(Protocol):
    """psutil's description of the battery: `power_plugged` is None when the system does not know."""

    @property
    def power_plugged(self) -> bool | None: ...


def battery_in_use() -> bool:
    """Whether this machine runs on its battery, without mains power. False without a battery, or when the system does
    not say."""
    if POWER_SUPPLIES.exists():
        return discharging(POWER_SUPPLIES)
    # psutil lacks this function on systems where it does not support batteries.
    asked = getattr(psutil, "sensors_battery", lambda: None)
    return unplugged(asked())


def unplugged(battery: Battery | None) -> bool:
    """The decision for macOS and Windows."""
    return battery is not None and battery.power_plugged is False


def discharging(supplies: Path) -> bool:
    """The decision for Linux, whose folder of power supplies distinguishes a mouse's battery from the machine's. psutil
    does not."""
    found = False
    for supply in supplies.glob("*"):
        kind = _word(supply / "type")
        if kind in ("Mains", "USB") and _word(supply / "online") == "1":
            return False
        # A mouse has a battery too; its scope is "Device".
        if kind == "Battery" and _word(supply / "scope") != "Device":
            found |= _word(supply / "status") == "Discharging"
    return found


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
