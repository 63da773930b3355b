"""The files stored with a model: its manifest, and the card that people read."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from streams.records import Manifest
from streams.spec import Pipeline
from streams.spec.tasks import Task


def code_version(pipeline: Pipeline) -> str:
    """Version of Driftloop, and a hash of the source of the module that declares the pipeline."""
    try:
        version = importlib.metadata.version("driftloop")
    except importlib.metadata.PackageNotFoundError:
        version = "source"
    for module in list(sys.modules.values()):
        declared = getattr(module, "__dict__", {})
        if declared.get("pipeline") is pipeline and declared.get("__file__"):
            source = Path(declared["__file__"]).read_bytes()
            return f"{version}+{hashlib.sha256(source).hexdigest()[:12]}"
    return version


def blank(pipeline: Pipeline) -> Manifest:
    """A manifest that says what the pipeline is, and nothing of a model yet."""
    return Manifest(
        pipeline=pipeline.name,
        version=0,
        parent=0,
        offsets={},
        label_watermark=0.0,
        slices={},
        counts={},
        schema_hash=pipeline.schema_hash,
        feature_names=list(pipeline.learned.feature_names),
        columns=pipeline.learned.column_meanings,
        inputs=pipeline.input_meanings,
        policies=pipeline.policies.said(),
        row=pipeline.column_meanings if pipeline.retiring else {},
        seed=0,
        parameters={},
        code=code_version(pipeline),
        environment={},
        normalisation={},
        threshold=0.5,
        metrics={},
        model_sha256="",
        created_at=round(time.time(), 3),
    )


RULE = "gate."
"""How a gate's rule is named among a manifest's metrics: `gate.NAME`, `.bound` and `.verdict`."""
_VERDICTS = {1.0: "passed", 0.0: "open", -1.0: "failed"}


def gate_rules(metrics: Mapping[str, float]) -> list[tuple[str, str, str, str]]:
    """The gate's rules among a manifest's metrics: name, verdict, number and bound, in words."""
    ending = ".verdict"
    names = [name[: -len(ending)] for name in metrics if name.endswith(ending)]

    def shown(name: str) -> str:
        return f"{metrics[name]:g}" if name in metrics else "-"

    return [
        (
            name.removeprefix(RULE),
            _VERDICTS.get(metrics[f"{name}{ending}"], "-"),
            shown(name),
            shown(f"{name}.bound"),
        )
        for name in names
    ]


def plain_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """A manifest's metrics without the gate's rules."""
    return {name: value for name, value in metrics.items() if not name.startswith(RULE)}


def model_card(manifest: Manifest, decision: str, task: Task) -> str:
    """The manifest in words, as Markdown."""
    counted = ("Examples", "Positives")[: 2 if task.classes else 1]
    decides = f"Decides for class 1 from a score of {manifest.threshold:.4f}. "
    lines = [
        f"# {manifest.pipeline}, version {manifest.version}",
        "",
        f"Made {_time(manifest.created_at)} by Driftloop {manifest.code}. {decision}",
        "",
        *([f"It was made for {manifest.cause}.", ""] if manifest.cause else []),
        "## Learnt from",
        "",
        f"Examples whose labels were mature up to {_time(manifest.label_watermark)} (event time)."
        if manifest.offsets
        else "An ONNX file that the pipeline brings; nothing was trained here.",
        "",
        *_table(
            ("Slice", "From", "To", *counted),
            [
                (
                    *(name, _time(span[0]), _time(span[1])),
                    *map(str, manifest.counts.get(name, [])[: len(counted)]),
                )
                for name, span in manifest.slices.items()
            ],
        ),
        *_table(
            ("Offsets", "First", "Next"),
            [(name, str(span[0]), str(span[1])) for name, span in manifest.offsets.items()],
        ),
        "## Judged by",
        "",
        *_table(
            ("Metric", "Value"),
            [(name, f"{value:g}") for name, value in plain_metrics(manifest.metrics).items()],
        ),
        *_table(("Gate's rule", "Verdict", "Number", "Bound"), gate_rules(manifest.metrics)),
        f"{decides if task.thresholds else ''}Compared with "
        + (f"version {manifest.parent}." if manifest.parent else "no earlier version."),
        "",
        "## Takes",
        "",
        f"{len(manifest.feature_names)} features (schema {manifest.schema_hash}): "
        + ", ".join(f"`{name}`" for name in manifest.feature_names)
        + ".",
        "",
        "## Repeat it",
        "",
        f"`driftloop train MODULE --from-version {manifest.version}` trains again from the same "
        "offsets; on the same machine it gives the same file.",
        "",
        *_table(("Parameter", "Value"), [(k, str(v)) for k, v in manifest.parameters.items()]),
        *_table(("Environment", "Version"), list(manifest.environment.items())),
        f"SHA-256 of `model.onnx`: `{manifest.model_sha256}`",
        "",
    ]
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    rule = tuple("---" for _ in head)
    return [*(f"| {' | '.join(row)} |" for row in (head, rule, *rows)), ""]


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
