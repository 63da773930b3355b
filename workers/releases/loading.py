"""Which versions Triton serves, by model: what each `config.pbtxt` says, and having it loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from streams.adapters.triton.repository import MODEL, require_unchanged
from streams.errors import ModelError, Unavailable
from streams.records import Manifest
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.layout import Layout
from streams.spec.triton import configured, read_config
from streams.versions import Picks, model_named, pick
from workers.releases.configuration import Configuration, Control
from workers.releases.onnx_files import check_signature
from workers.releases.repository import Repository

_READY_POLLS = 100


class Loading:
    """Configures and loads one pipeline's models."""

    def __init__(
        self, settings: Settings, pipeline: Pipeline, repository: Repository, control: Control
    ) -> None:
        self.configuration = Configuration(settings, pipeline)
        self.picks = Picks(pipeline, self._published)
        """What versions take, as the manifests beside them say."""
        self._pipeline = pipeline
        self._repository = repository
        self._control = control

    @property
    def instances(self) -> int:
        """How many instances of each version Triton runs."""
        return self.configuration.instances(self._repository.configs().values())

    def model_for(self, manifest: Manifest) -> str:
        """The model that a new version goes to; empty for the pipeline's first.

        What was there first keeps the pipeline's name, so that nothing has to move. Raises
        `ModelError` as `pick`.
        """
        model = self.model_of_layout(pick(self._pipeline, manifest).layout)
        return "" if model == self._pipeline.name else model

    def model_of_layout(self, layout: Layout) -> str:
        """The model that a new version goes to which takes rows so laid out."""
        name = self._pipeline.name
        return name if self._first_takes(layout) else model_named(name, layout)

    def texts(self, versions: Iterable[int], instances: int = 0) -> dict[str, str]:
        """By model the file that serves these versions and no others; 0: as many as now run."""
        count = instances or self.instances
        return {
            model: self.configuration.text(model, self._layout(model, numbers), numbers, count)
            for model, numbers in self._by_model(versions).items()
        }

    def configure(self, versions: Iterable[int], instances: int = 0) -> list[str]:
        """Write what serves these versions and no others; the models that serve none any more."""
        texts, before = self.texts(versions, instances), self._repository.configs()
        self._write(texts)
        return [model for model in before if model not in texts]

    async def serve_only(self, versions: Iterable[int], first: int = 0) -> None:
        """Have these versions served, and no others; the model of `first` is loaded before others.

        Raises:
            ModelError: they do not load.
            Unavailable: Triton is away; it does not load others when it is back.
        """
        gone = self.configure(versions)
        await self.load(first)
        for model in gone:
            await self._control.unload(model)

    async def load(self, first: int = 0) -> None:
        """Load what is configured, the model of a version before others. Raises as `Control`."""
        before = self._repository.model_of(first)
        for model in sorted(self._repository.configs(), key=lambda one: (one != before, one)):
            await self._control.load(model)

    async def back_to(self, before: Mapping[str, str]) -> None:
        """Serve what served before."""
        gone = self._repository.configs().keys() - before.keys()
        self._write(before)
        with suppress(Unavailable):  # Triton reads the configuration when it is back
            await self.load()
            for model in gone:
                await self._control.unload(model)

    def restore_files(self, before: Mapping[str, str]) -> None:
        """Write the files as they were, and leave Triton as it is."""
        self._write(before)

    async def resize(self, instances: int, known: Mapping[int, Manifest]) -> None:
        """As `Publisher.resize`."""
        before, versions = self._repository.configs(), self._repository.configured()
        if not versions:
            return
        for model in before:
            await asyncio.to_thread(require_unchanged, self._repository.root / model, known)
        if self.texts(versions, instances) != before:
            self.configure(versions, instances)
        try:
            await self.load()
        except ModelError:
            await self.back_to(before)
            raise

    async def ready(self, version: int) -> bool:
        """Whether a version is ready everywhere. Raises `Unavailable`."""
        return await self._control.ready(version, self._repository.model_of(version))

    async def wait_until_ready(self, version: int) -> None:
        """Return when it is. Raises `ModelError`: it does not become ready; `Unavailable`."""
        for _ in range(_READY_POLLS):
            if await self.ready(version):
                return
            await asyncio.sleep(0.1)
        raise ModelError("Triton does not make it ready - see Triton's log")

    def _write(self, texts: Mapping[str, str]) -> None:
        now = self._repository.configs()
        for model in [*texts, *(one for one in now if one not in texts)]:
            if texts.get(model) != now.get(model):
                self._repository.write_config(texts.get(model), model)

    def _by_model(self, versions: Iterable[int]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for version in sorted(set(versions)):
            found.setdefault(self._repository.model_of(version), []).append(version)
        return found

    def _layout(self, model: str, versions: Sequence[int]) -> Layout:
        """What a model's versions take; as it was configured, where the pipeline makes it no more.

        Raises `ModelError` where neither tells.
        """
        try:
            return self.picks.of(versions[0]).layout
        except ModelError:
            found = read_config(self._repository.config(model) or "")
            if found is None:
                raise
            return Layout(found.inputs)

    def _first_takes(self, layout: Layout) -> bool:
        """Whether the versions of the pipeline's first model take such rows, or there are none."""
        first = self._repository.name
        found = read_config(self._repository.config() or "")
        if found is not None and configured(found.text()):
            return _shapes(Layout(found.inputs)) == _shapes(layout)
        if not (versions := self._repository.versions(first)):
            return True
        try:
            data = (self._repository.root / first / str(versions[-1]) / MODEL).read_bytes()
            check_signature(data, layout, self._pipeline.model.outputs)
        except (OSError, ModelError):
            return False
        return True

    def _published(self, version: int) -> Manifest | None:
        try:
            return self._repository.manifest(version)
        except ModelError:
            return None


def _shapes(layout: Layout) -> list[tuple[str, str, tuple[int, ...]]]:
    return sorted((one.name, one.dtype, one.shape) for one in layout.tensors)
