"""Who takes part: our worker, and rivals in an environment of their own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import uv
from filelock import FileLock

from streams.errors import DriftloopError, Unavailable
from streams.settings import Settings
from tests.bench.workloads import Workload
from tests.faults.harness import ROOT, Worker, Workers

REQUIREMENTS = Path(__file__).parent / "peers" / "requirements.txt"


class ContenderFailed(DriftloopError):
    """A contender ended, or wrote what the others did not."""


@dataclass(frozen=True)
class Contender:
    """One way to score the events of a topic."""

    title: str
    program: str = ""
    """Module of a rival; empty for our own worker."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What our worker is told."""

    def topics(self, workload: Workload) -> tuple[str, str]:
        """Its topics of predictions and of what was scored."""
        topics = workload.pipeline.topics
        if not self.program:
            return topics.predictions, topics.scored
        rival = f"{workload.pipeline.name}.{self.program}"
        return f"{rival}.predictions", f"{rival}.scored"


CONTENDERS = {
    "ours": Contender("Driftloop, exactly once", settings={"delivery": "exactly_once"}),
    "ours-at-least-once": Contender(
        "Driftloop, at least once", settings={"delivery": "at_least_once"}
    ),
    "confluent": Contender("confluent-kafka, by hand", "confluent_loop"),
    "aiokafka": Contender("aiokafka, by hand", "aiokafka_loop"),
    "faust": Contender("stock Faust, take()", "stock_faust"),
    "quix": Contender("Quix Streams", "quix"),
    "bytewax": Contender("Bytewax", "bytewax_flow"),
}


class Starter:
    """Starts contenders on one workload; `workers` starts ours."""

    def __init__(
        self, settings: Settings, workload: Workload, name: str, folder: Path, python: Path | None
    ) -> None:
        self._settings = settings
        self._workload = workload
        self._name = name
        self._folder = folder
        self._python = python
        folder.mkdir()
        variable = workload.pipeline.name.replace("-", "_")
        (folder / f"{variable}.py").write_text(
            f"from tests.bench.workloads import {workload.declared} as pipeline\n"
        )
        self.workers = Workers(settings, workload.pipeline, folder)

    def start(self, contender: Contender, group: str) -> Worker:
        """Start a process; `group` is a rival's new consumer group."""
        if not contender.program:
            return self.workers.start("score", **contender.settings)
        predictions, scored = contender.topics(self._workload)
        settings, log = self._settings, self._folder / f"{group}.log"
        arguments = {
            "workload": self._name,
            "kafka": settings.kafka,
            "triton": settings.triton,
            "redis": settings.redis.get_secret_value(),
            "group": group,
            "predictions": predictions,
            "scored": scored,
        }
        command = [str(self._python), "-m", f"tests.bench.peers.{contender.program}"]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, *(part for k, v in arguments.items() for part in (f"--{k}", v))],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )
        return Worker(process, log)


def peers_python(cache: Path, report: Callable[[str], None]) -> Path:
    """The interpreter of the rivals' environment, which is made where it is missing.

    Raises:
        Unavailable: the packages could not be had.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    home = cache / f"peers-{digest}-py{version}"
    python, ready = home / "bin" / "python", home / "ready"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "peers.lock"):
        if not ready.exists():
            report(f"making the rivals' environment in {home}")
            _uv("venv", "--clear", "--python", sys.executable, str(home))
            _uv(
                "pip",
                "install",
                "--python",
                str(python),
                "--require-hashes",
                "-r",
                str(REQUIREMENTS),
            )
            ready.touch()
    return python


def _uv(*arguments: str) -> None:
    command = [uv.find_uv_bin(), *arguments, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable("the package index", "PyPI", "UV_INDEX_URL", reason)
