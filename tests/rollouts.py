"""A pipeline that rolls versions out by degrees, also as a module for worker processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from streams.spec import Pipeline, RollOut
from tests.synthetic import declare

_MODULE = """\
from dataclasses import replace

from streams.spec import Policies, RollOut
from tests.synthetic import declare

pipeline = declare("{name}")
pipeline = replace(pipeline, policies=replace(pipeline.policies, rollout={rollout!r}))
"""


def module_of(folder: Path, name: str, policy: RollOut) -> Pipeline:
    """A pipeline of this policy, also as a module in the folder."""
    declared = declare(name)
    folder.mkdir()
    module = folder / f"{name.replace('-', '_')}.py"
    module.write_text(_MODULE.format(name=name, rollout=policy))
    return replace(declared, policies=replace(declared.policies, rollout=policy))
