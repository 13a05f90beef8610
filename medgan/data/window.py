"""The window: which stored values become black and which white."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medgan.errors import ConfigError

__all__ = ["Window"]

_NAMED: tuple[Literal["auto", "none", "percentile"], ...] = ("auto", "none", "percentile")
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Window:
    """How stored values become black and white.

    Attributes:
        kind: ``auto``: the file's own window or VOI table if it has one, else the range of its type. ``none``: the
            range of its type. ``percentile``: 0.5 and 99.5 % of the values of each image. ``fixed``: `centre` and
            `width`, in the file's units (Hounsfield units in CT).
        centre: Value in the middle of a fixed window.
        width: Width of a fixed window; above 0.
    """

    kind: Literal["auto", "none", "percentile", "fixed"] = "auto"
    centre: float = 0.0
    width: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read ``auto``, ``none``, ``percentile`` or ``CENTER,WIDTH``.

        Args:
            text: For example ``-600,1500``, the usual lung window in Hounsfield units.

        Returns:
            The window.

        Raises:
            ConfigError: If the text is something else, or the width is not positive.
        """
        for kind in _NAMED:
            if text == kind:
                return cls(kind)
        number = r"\s*([-+]?\d+(?:\.\d*)?)\s*"
        match = re.fullmatch(f"{number},{number}", text)
        if match is None:
            raise ConfigError(
                f"Window {text!r} is unknown. Type auto, none, percentile, or centre and width such as -600,1500."
            )
        centre, width = float(match[1]), float(match[2])
        if width <= 0:
            raise ConfigError(f"Window {text!r} has the width {width:g}, which must be above 0. Type such as 40,400.")
        return cls("fixed", centre, width)

    def __str__(self) -> str:
        """Return what `parse` reads."""
        return f"{self.centre:g},{self.width:g}" if self.kind == "fixed" else self.kind

    def limits(self, values: NDArray[Any], known: tuple[float, float] | None) -> tuple[float, float]:
        """Return the values that become black and white.

        Args:
            values: All values of the image, finite.
            known: The range that the values can have; None where nothing tells, as in most NIfTI files.

        Returns:
            Two finite numbers; the first is smaller, unless the image is constant.

        Raises:
            ConfigError: If the range is unknown and the window does not say it.
        """
        if self.kind == "fixed":
            return self.centre - self.width / 2, self.centre + self.width / 2
        if self.kind == "percentile":
            low, high = np.percentile(values, _PERCENTILES)
            return float(low), float(high)
        if known is None:
            raise ConfigError(
                "nothing in the file says which values are black and white; type --window percentile, or centre and "
                "width such as --window 40,400"
            )
        return known

    @staticmethod
    def apply(values: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
        """Scale values to 0...1, what lies outside of the limits is cut off.

        Args:
            values: Any shape, finite.
            low: Value that becomes 0.
            high: Value that becomes 1; above `low`.

        Returns:
            The same shape, float32 in [0, 1].
        """
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"limits must rise, got {low} and {high}")
        scaled: NDArray[np.float32] = ((values.astype(np.float64) - low) / (high - low)).clip(0, 1).astype(np.float32)
        return scaled
