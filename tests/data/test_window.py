from __future__ import annotations

import numpy as np
import pytest

from medgan.data.window import Window
from medgan.errors import ConfigError


@pytest.mark.parametrize("text", ["auto", "none", "percentile", "40,400", "-600,1500", "0.5,1.25"])
def test_text_and_back(text: str) -> None:
    assert str(Window.parse(text)) == text


def test_a_fixed_window() -> None:
    window = Window.parse(" -600 , +1500 ")
    assert (window.kind, window.centre, window.width) == ("fixed", -600.0, 1500.0)
    assert window.limits(np.zeros(3), (0, 1)) == (-1350.0, 150.0)


@pytest.mark.parametrize("text", ["", "lung", "40", "40,", "40,400,1", "nan,400", "40;400", "1e3,5"])
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ConfigError, match="Type auto, none, percentile, or centre and width such as -600,1500"):
        Window.parse(text)


@pytest.mark.parametrize("text", ["40,0", "40,-400"])
def test_a_width_that_is_not_positive(text: str) -> None:
    with pytest.raises(ConfigError, match="which must be above 0"):
        Window.parse(text)


def test_limits() -> None:
    values = np.arange(1001.0)
    assert Window("auto").limits(values, (-1024, 3071)) == (-1024, 3071)
    assert Window("none").limits(values, (-1024, 3071)) == (-1024, 3071)
    assert Window("percentile").limits(values, (-1024, 3071)) == pytest.approx((5, 995))
    for kind in ("auto", "none"):
        with pytest.raises(ConfigError, match="--window percentile, or centre and width"):
            Window(kind).limits(values, None)


def test_apply_cuts_off_and_scales() -> None:
    scaled = Window.apply(np.array([-5, 0, 5, 10, 15], np.int16), 0, 10)
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [0, 0, 0.5, 1, 1]
    for limits in ((1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)):
        with pytest.raises(ValueError, match="limits must rise"):
            Window.apply(np.zeros(2), *limits)
