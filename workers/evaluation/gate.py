"""The gate: may this candidate replace the champion? Rules over evidence, and nothing else.

Each rule (`workers/evaluation/rules.py`) says passed, failed or open, with its number and the bound
that it was held to. One that failed rejects the candidate, else one that is open leaves it
inconclusive, else it is promoted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streams.records import Action
from streams.spec import Gate
from workers.evaluation.case import Case, Mask
from workers.evaluation.evidence import Evidence, gather
from workers.evaluation.history import VERDICT
from workers.evaluation.rules import Rule, Verdict, apply, careful
from workers.releases.manifests import RULE


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided, and from what."""

    action: Action
    rules: tuple[Rule, ...]
    """The one that decided first."""
    evidence: Evidence

    @property
    def reason(self) -> str:
        """One line: the rule that decided in words, and every other with its number."""
        first, *others = self.rules
        return "; ".join([f"{first.name}: {first.said}", *map(str, others)])

    def as_metrics(self) -> dict[str, float]:
        """The numbers that are defined, for a manifest: rules, and what later gates read."""
        e, name = self.evidence, self.evidence.policy.metric
        champion, anchor = e.champion, e.anchor
        numbers = {
            VERDICT: _NUMBER[self.action],
            name: e.candidate.value,
            f"{name}_se": e.candidate.error,
            f"champion_{name}": champion.metric,
            "gain": champion.gain.value,
            "gain_se": champion.gain.error,
            "pooled_gain": champion.pooled.value,
            "pooled_gain_se": champion.pooled.error,
            "windows": float(champion.windows),
            "anchor": float(anchor.version) if anchor.compared else math.nan,
            "anchor_gain": anchor.gain.value,
            "anchor_gain_se": anchor.gain.error,
            "anchor_low": anchor.pooled.low(careful(e, anchor)),
        }
        for rule in self.rules:
            numbers[f"{RULE}{rule.name}"] = rule.number
            numbers[f"{RULE}{rule.name}.bound"] = rule.bound
            numbers[f"{RULE}{rule.name}.verdict"] = _NUMBER[rule.verdict]
        return {name: value for name, value in numbers.items() if math.isfinite(value)}


_NUMBER = {
    Action.PROMOTE: 1.0,
    Action.INCONCLUSIVE: 0.0,
    Action.REJECT: -1.0,
    Verdict.PASSED: 1.0,
    Verdict.OPEN: 0.0,
    Verdict.FAILED: -1.0,
}


def decide(
    policy: Gate, case: Case, slices: Mapping[str, Mask] | None = None, seed: int = 0
) -> GateDecision:
    """Promote, reject or leave open a candidate, on the evaluation slice.

    `slices` are masks [n] over its examples, by name. The same arguments give the same decision.

    What is promoted on several windows is the *recipe*: that it, retrained, is not worse than this
    champion by more than the margin. Of the candidate itself its own window says that it is not
    proven worse, and that its gain as measured is within the margin too.
    """
    evidence = gather(policy, case, slices or {}, seed)
    action, rules = combine(apply(evidence))
    return GateDecision(action, tuple(rules), evidence)


def combine(rules: Sequence[Rule]) -> tuple[Action, list[Rule]]:
    """The action, and the rules with the one that decided first."""
    for verdict, action in ((Verdict.FAILED, Action.REJECT), (Verdict.OPEN, Action.INCONCLUSIVE)):
        for rule in rules:
            if rule.verdict is verdict:
                return action, [rule, *(one for one in rules if one is not rule)]
    judged = [
        rule for rule in rules if rule.name in ("margin", "floor") and math.isfinite(rule.number)
    ]
    last = judged[-1] if judged else rules[0]
    return Action.PROMOTE, [last, *(one for one in rules if one is not last)]
