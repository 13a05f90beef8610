"""The inception score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from medgan.errors import ConfigError, DataError
from medgan.metrics.functional.inception_score import inception_score

LOGITS = np.random.default_rng(0).standard_normal((43, 7)) * 3


@pytest.mark.parametrize("splits", [1, 4, 10])
def test_equals_torch_fidelity(splits: int) -> None:
    from torch_fidelity.metric_isc import isc_features_to_metric

    shuffled = LOGITS[np.random.default_rng(5).permutation(len(LOGITS))]
    expected = isc_features_to_metric(torch.from_numpy(shuffled), splits=splits, shuffle=False)
    found = inception_score(LOGITS, kind="logits", splits=splits, seed=5)
    assert found.mean == pytest.approx(expected["inception_score_mean"], rel=1e-10)
    assert found.standard_deviation == pytest.approx(expected["inception_score_std"], rel=1e-7, abs=1e-12)


def test_probabilities_give_what_their_logits_give() -> None:
    probabilities = softmax(LOGITS, axis=1)
    expected = inception_score(LOGITS, kind="logits")
    assert inception_score(probabilities, kind="probabilities") == pytest.approx(expected, rel=1e-10)
    assert inception_score(probabilities.astype(np.float16), kind="probabilities") == pytest.approx(expected, rel=1e-2)


def test_between_one_and_the_number_of_classes() -> None:
    assert inception_score(np.tile(LOGITS[0], (20, 1)), kind="logits") == pytest.approx((1, 0), abs=1e-12)
    sure = np.tile(np.eye(5), (4, 1))
    assert inception_score(sure, kind="probabilities", splits=1) == pytest.approx((5, 0), rel=1e-12)
    assert inception_score(sure * 1e4, kind="logits", splits=1) == pytest.approx((5, 0), rel=1e-12)
    assert inception_score(sure[:10][sure[:10, 0] == 0], kind="probabilities", splits=1).mean == pytest.approx(4)


def test_the_order_plays_no_part_without_splits_and_the_seed_with_them() -> None:
    assert inception_score(LOGITS[::-1], kind="logits", splits=1) == pytest.approx(
        inception_score(LOGITS, kind="logits", splits=1, seed=8), rel=1e-12
    )
    assert inception_score(LOGITS, kind="logits", seed=1) != inception_score(LOGITS, kind="logits", seed=2)


def test_few_images_need_fewer_splits() -> None:
    with pytest.raises(DataError, match=r"9 images are too few for 10 splits.*splits=4 or fewer"):
        inception_score(LOGITS[:9], kind="logits")
    assert inception_score(LOGITS[:9], kind="logits", splits=4).mean > 1
    with pytest.raises(DataError, match="at least 2"):
        inception_score(LOGITS[:1], kind="logits", splits=1)


def test_numbers_that_are_no_probabilities() -> None:
    probabilities = softmax(LOGITS, axis=1)
    for wrong in (LOGITS, probabilities * 2):
        with pytest.raises(DataError, match=r"Row 0 is no set of probabilities.*kind='logits'"):
            inception_score(wrong, kind="probabilities")
    probabilities[3] = [-0.5, 1.5, 0, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"Row 3 .*sums to 1, with a minimum of -0.5"):
        inception_score(probabilities, kind="probabilities")
    with pytest.raises(ConfigError, match="expected 'logits' or 'probabilities'"):
        inception_score(LOGITS, kind="scores")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="splits is 0"):
        inception_score(LOGITS, kind="logits", splits=0)
