"""The composition root of the online path: settings and a pipeline in, an application out.

Nothing connects before the application starts.
"""

from __future__ import annotations

from functools import partial

from streams.settings import Settings
from streams.spec import Pipeline
from streams.wiring.application import run_application
from streams.wiring.evaluation import evaluation_app
from streams.wiring.labelling import labelling_app
from streams.wiring.scoring import scoring_app
from streams.wiring.shadowing import shadowing_app

__all__ = ["run_evaluation", "run_labelling", "run_scoring", "run_shadowing", "scoring_app"]


def run_scoring(settings: Settings, pipeline: Pipeline) -> None:
    """Score `P.events` in this process, until SIGINT or SIGTERM. Raises what ends it."""
    run_application(partial(scoring_app, settings, pipeline), settings)


def run_labelling(settings: Settings, pipeline: Pipeline) -> None:
    """Join `P.scored` and `P.feedback` in this process, until SIGINT or SIGTERM; raises so, too."""
    run_application(partial(labelling_app, settings, pipeline), settings)


def run_evaluation(settings: Settings, pipeline: Pipeline) -> None:
    """Count `P.examples` in this process, until SIGINT or SIGTERM; raises so, too."""
    run_application(partial(evaluation_app, settings, pipeline), settings)


def run_shadowing(settings: Settings, pipeline: Pipeline) -> None:
    """Compare what was served with a challenger, until SIGINT or SIGTERM; raises so, too."""
    run_application(partial(shadowing_app, settings, pipeline), settings)
