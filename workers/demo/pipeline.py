"""The demo's pipeline: card fraud, whose versions are rolled out by degrees."""

from __future__ import annotations

from dataclasses import replace

from streams.pipelines.card_fraud import pipeline as card_fraud
from streams.spec import RollOut

pipeline = replace(
    card_fraud,
    policies=replace(
        card_fraud.policies,
        # weeks go by in minutes: steps of a day, and evidence that some hundred frauds can give
        rollout=RollOut(shadow="1d", canary=(0.1,), every="1d", least=1000, harm=0.05),
    ),
)
