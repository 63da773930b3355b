"""What the ledger tells the gate of earlier candidates: the anchor, looks, and open gains."""

from __future__ import annotations

import math

import msgspec

from streams.ledger.state import LedgerState
from streams.records import Manifest
from streams.spec import Pipeline
from streams.versions import fits

VERDICT = "gate"
"""The gate's verdict in a manifest's metrics: 1 promoted, 0 inconclusive, -1 rejected."""


class Gain(msgspec.Struct, frozen=True):
    """What an earlier candidate gained, as its manifest says."""

    evaluated: tuple[float, float]
    """[from, to) event time of its evaluation slice."""
    gain: float
    """Over the champion."""
    gain_se: float
    """Its standard error."""
    anchor_gain: float | None = None
    """Over the anchor; None where it was held against another, or none."""
    anchor_gain_se: float | None = None


class History(msgspec.Struct, frozen=True):
    """What the gate knows of earlier candidates."""

    anchor: int = 0
    """The version below which quality may not creep; 0 for none."""
    anchor_manifest: Manifest | None = None
    looks: int = 0
    """Candidates that were compared with this champion so far."""
    anchor_looks: int = 0
    """Candidates that were compared with this anchor so far."""
    run: tuple[Gain, ...] = ()
    """Candidates left open since the champion came, or since one was rejected; the latest first."""


def history(now: LedgerState, metric: str, pipeline: Pipeline) -> History:
    """What the ledger says to a candidate that will be judged by this metric."""
    held_against = find_anchor(now, pipeline)
    judged = [now.versions[v] for v in sorted(now.versions) if VERDICT in now.versions[v].metrics]
    compared = [
        one
        for one in judged
        if one.parent == now.champion and (not now.champion or f"champion_{metric}" in one.metrics)
    ]
    run = []
    for one in reversed(compared):
        if one.metrics[VERDICT] != 0 or "gain" not in one.metrics:
            break
        run.append(_gain(one, held_against))
    return History(
        anchor=held_against,
        anchor_manifest=now.versions.get(held_against),
        looks=len(compared),
        anchor_looks=sum(one.metrics.get("anchor") == held_against for one in judged),
        run=tuple(run),
    )


def find_anchor(now: LedgerState, pipeline: Pipeline) -> int:
    """The last champion that was proven better than the anchor before it; 0 for none.

    The first champion is the first anchor. Only versions that the pipeline can serve count, and
    none that was rolled back. What it needs of a manifest is the metric `anchor_low`: the lower
    end of that version's gain over the anchor that it was held against.
    """
    champions = [
        version
        for version in sorted(now.promoted)
        if version not in now.rolled_back
        and (manifest := now.versions.get(version)) is not None
        and fits(pipeline, manifest)
    ]
    better = [v for v in champions if now.versions[v].metrics.get("anchor_low", -math.inf) > 0]
    return (better[-1:] or champions[:1] or [0])[0]


def apart(run: tuple[Gain, ...], start: float) -> list[Gain]:
    """Those whose evaluation slices overlap neither one another's nor what begins at `start`.

    Only they are independent evidence; the latest are kept.
    """
    kept: list[Gain] = []
    for one in run:
        if one.evaluated[1] <= (kept[-1].evaluated[0] if kept else start):
            kept.append(one)
    return kept


def _gain(manifest: Manifest, held_against: int) -> Gain:
    found = manifest.metrics
    same = found.get("anchor") == held_against
    first, after = manifest.slices["evaluate"]
    return Gain(
        evaluated=(first, after),
        gain=found["gain"],
        gain_se=found["gain_se"],
        anchor_gain=found.get("anchor_gain") if same else None,
        anchor_gain_se=found.get("anchor_gain_se") if same else None,
    )
