"""Whether a pipeline's model can be built, exported and served; nothing is trained or published."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import workers
from streams.errors import ModelError
from streams.spec import Pipeline
from streams.spec.layout import Rows
from workers.releases.onnx_files import check_signature, read_onnx, run, session


def try_model(pipeline: Pipeline, module: str, rows: Rows) -> None:
    """Try the model of a pipeline, which a module declares, on rows.

    Raises:
        ModelError: it could not be trained, exported, or served; says why.
    """
    if pipeline.model.onnx is not None:
        try:
            data = read_onnx(pipeline.model.onnx)
            check_signature(data, pipeline.layout, pipeline.model.outputs)
            run(session(data), rows)
        except ModelError as error:
            mend = "" if " - " in str(error) else f" - export {pipeline.model.onnx} anew"
            raise ModelError(f"{module}: model.onnx: {error}{mend}") from None
    elif pipeline.model.network is not None and "torch" in sys.modules:
        from workers.training.trial import try_here  # a process would load torch once more

        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # torch's own long notes
            try_here(pipeline, rows)
    else:
        _try_elsewhere(module, rows)


def _try_elsewhere(module: str, rows: Rows) -> None:
    """In a process of its own: libraries take seconds and hundreds of megabytes."""
    paths = (os.environ.get("PYTHONPATH", ""), str(Path(workers.__file__).parents[1]))
    found = subprocess.run(
        # a file in the working directory hides none of Python's own modules
        [sys.executable, "-P", "-m", "workers.training.trial", module],
        input=rows.tobytes(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        check=False,
    )
    if found.returncode:
        said = (found.stdout or found.stderr).decode(errors="replace").strip().splitlines()
        raise ModelError(said[-1] if said else f"ended with {found.returncode}")
