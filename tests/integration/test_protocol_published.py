"""Features, split and metrics give the Fraud Detection Handbook's published figures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tests.reference.handbook_features import Floats, fast_features
from tests.reference.handbook_protocol import Mask, split
from workers.evaluation.daily import (
    average_precision,
    card_precision_top_k,
    daily_quality,
    roc_auc,
)
from workers.worlds.card_fraud import simulate

FIRST_DAY = 115  # 2018-07-25
DEVIATION = 0.01  # published: between folds


class Split:
    """The published single split: features, labels, days and cards of the whole world."""

    def __init__(self) -> None:
        frame = simulate()
        self.features: Floats = fast_features(frame)
        self.label = frame["is_fraud"].to_numpy()
        self.day = frame["day"].to_numpy()
        self.card = frame["customer_id"].to_numpy()
        self.train: Mask
        self.test: Mask
        self.train, self.test = split(frame, FIRST_DAY)


@pytest.fixture(scope="module")
def week() -> Split:
    return Split()


@pytest.fixture(scope="module")
def score(week: Split) -> Floats:
    """Scores [test rows] of a logistic regression."""
    scaler = StandardScaler().fit(week.features[week.train])
    model = LogisticRegression(random_state=0)
    model.fit(scaler.transform(week.features[week.train]), week.label[week.train])
    chances = model.predict_proba(scaler.transform(week.features[week.test]))
    return np.asarray(chances[:, 1])


def test_a_logistic_regression_scores_as_published(week: Split, score: Floats) -> None:
    label, day, card = week.label[week.test], week.day[week.test], week.card[week.test]
    assert roc_auc(label, score) == pytest.approx(0.871, abs=DEVIATION)
    assert average_precision(label, score) == pytest.approx(0.606, abs=DEVIATION)
    assert card_precision_top_k(day, card, score, label) == pytest.approx(0.291, abs=DEVIATION)


def test_the_days_add_up_to_the_week(week: Split, score: Floats) -> None:
    label, day, card = week.label[week.test], week.day[week.test], week.card[week.test]
    days = daily_quality(day, card, score, label)
    assert [quality.day for quality in days] == list(range(FIRST_DAY + 14, FIRST_DAY + 21))
    assert sum(quality.n for quality in days) == 58_264
    assert sum(quality.frauds for quality in days) == 385
    mean = float(np.mean([quality.cp100 for quality in days]))
    assert card_precision_top_k(day, card, score, label) == pytest.approx(mean)


def test_perfect_scores_find_every_card(week: Split) -> None:
    """Fewer than 100 cards are fraudulent on a day: the highest card precision is far below 1."""
    label, day, card = week.label[week.test], week.day[week.test], week.card[week.test]
    assert roc_auc(label, label.astype(float)) == 1.0
    best = card_precision_top_k(day, card, label.astype(float), label)
    assert best == pytest.approx(0.397, abs=0.001)
