"""Spam by hashed words of subject and body: one model of the first 40 %, and one made ever anew."""

from __future__ import annotations

from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from tests.bench.worlds.stream import (
    Figures,
    Floats,
    Ints,
    Predict,
    by_quarter,
    frozen,
    prequential,
    stream,
)

EVERY = 250


def measure() -> Figures:
    """Accuracy by quarter of the last 60 %."""
    mails = stream("mail")
    texts = [f"{one.fields['subject']}\n{one.fields['body']}" for one in mails.happenings]
    words = HashingVectorizer(n_features=2**18).transform(texts)

    def fit(learnt: Ints) -> Predict:
        model = LogisticRegression(C=10.0, max_iter=1000)
        model.fit(words[learnt], mails.label[learnt])
        return lambda run: model.predict(words[run])

    first = int(0.4 * len(texts))
    truth = mails.label[first:]

    def right(predicted: Floats) -> str:
        hits = predicted == truth
        return f"{by_quarter(hits)}, of all {hits.mean():.3f}"

    return [
        ("accuracy by quarter, frozen at 40 %", right(frozen(mails, first, fit))),
        (f"accuracy by quarter, anew every {EVERY}", right(prequential(mails, first, EVERY, fit))),
        ("share of spam by quarter", by_quarter(truth)),
    ]
