"""The weights of a base on disk: float16, or bytes by rows where float16 would be too large to ship.

A row of a matrix is bytes times one float16: `row = bytes * scale`. The engine serves in the same form (ADR 7), so this
rounding loses nothing that serving would keep. Expanding is one exact product per weight, in float32: everybody gets
the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sordino_platform.architecture import Parameters, Vector
from sordino_privacy.errors import ConfigurationError

_SCALE = ".scale"
_LARGEST = 127


def compact_rows(parameters: Parameters) -> dict[str, npt.NDArray[Any]]:
    """Each matrix `(rows, columns)` as int8, with its scales under `NAME.scale`, float16 `(rows,)`. All other
    parameters as float16."""
    found: dict[str, npt.NDArray[Any]] = {}
    for name, value in parameters.items():
        if value.ndim != 2:
            found[name] = value.astype(np.float16)
            continue
        scale = (np.abs(value).max(axis=1) / _LARGEST).astype(np.float16)
        divisor = np.where(scale > 0, scale, 1).astype(np.float32)[:, None]
        found[name] = np.clip(np.rint(value / divisor), -_LARGEST, _LARGEST).astype(np.int8)
        found[f"{name}{_SCALE}"] = scale
    return found


def expand(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, Vector]:
    """Float32 parameters from the tensors of a base's file, in either form.

    Raises ConfigurationError for another type, a matrix of bytes without its scales, or scales without their matrix.
    """
    found: dict[str, Vector] = {}
    for name, value in tensors.items():
        if name.endswith(_SCALE):
            if tensors.get(name.removesuffix(_SCALE), value).dtype != np.int8:
                raise ConfigurationError("the base model's weights hold scales without their matrix")
        elif value.dtype == np.int8:
            scale = tensors.get(f"{name}{_SCALE}")
            if scale is None or scale.dtype != np.float16 or scale.shape != value.shape[:1]:
                raise ConfigurationError(f"the base model's {name} lacks the scales of its rows")
            found[name] = value.astype(np.float32) * scale.astype(np.float32)[:, None]
        elif value.dtype == np.float16:
            found[name] = value.astype(np.float32)
        else:
            raise ConfigurationError(f"the base model's {name} is of the type {value.dtype}")
    return found
