"""A pipeline's directories in the Triton model repository: versions, manifests, `config.pbtxt`.

The first model has the pipeline's name. A version that takes other tensors is in a further model's
directory; the numbers of versions are the pipeline's, so that no two models have the same.

A version directory is written elsewhere on the same file system and moved in by one rename; it is
never changed afterwards. Triton serves only the versions that `config.pbtxt` names.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

from streams.adapters.triton.repository import CONFIG, MODEL
from streams.errors import ConfigurationError, ModelError
from streams.records import Manifest, decoder
from streams.spec.triton import configured
from streams.versions import is_model_of

MANIFEST = "manifest.json"
CARD = "model-card.md"

_decode = decoder(Manifest).decode


class Repository:
    """One pipeline's model directories."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self.home = root / name

    def models(self) -> list[str]:
        """The pipeline's models, its first in any case."""
        found = (path.name for path in self.root.glob(f"{self.name}_*"))
        return [self.name, *sorted(name for name in found if is_model_of(self.name, name))]

    def versions(self, model: str = "") -> list[int]:
        """The versions on disk, ascending; those of one model, or all."""
        homes = [self.root / name for name in ([model] if model else self.models())]
        paths = (path for home in homes if home.is_dir() for path in home.iterdir())
        return sorted(int(p.name) for p in paths if re.fullmatch(r"[1-9]\d*", p.name))

    def model_of(self, version: int) -> str:
        """The model that a version is of; the first where it is not on disk."""
        for name in self.models():
            if (self.root / name / str(version)).is_dir():
                return name
        return self.name

    def directory(self, version: int) -> Path:
        """Where a version is."""
        return self.root / self.model_of(version) / str(version)

    def manifest(self, version: int) -> Manifest:
        """A version's manifest.

        Raises:
            ModelError: it is missing or unreadable.
        """
        path = self.directory(version) / MANIFEST
        try:
            found: Manifest = _decode(path.read_bytes())
        except (OSError, msgspec.MsgspecError) as error:
            raise ModelError(
                f"{self.name} version {version} has no readable manifest ({path}: {error}) - "
                "choose another version: `driftloop models list`"
            ) from None
        return found

    def model(self, version: int, sha256: str = "") -> bytes:
        """A version's ONNX file, checked against its manifest, and against `sha256` if given.

        Raises:
            ModelError: it is missing, or is not the file that was published.
        """
        manifest = self.manifest(version)
        path = self.directory(version) / MODEL
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"{self.name} version {version} cannot be read ({error.strerror})"
            ) from None
        if digest(data) not in {manifest.model_sha256} & {sha256 or manifest.model_sha256}:
            raise ModelError(
                f"{self.name} version {version} was changed after it was published: the checksum "
                f"of {path} is not the manifest's - delete it, and serve another version"
            )
        return data

    def add(self, version: int, files: Mapping[str, bytes], model: str = "") -> None:
        """Write a version directory of a model and move it in at once.

        Raises:
            ModelError: the version exists; a version is never overwritten.
            ConfigurationError: the repository cannot be written.
        """
        home = self.root / (model or self.name)
        target, staging = home / str(version), home / f".staging-{version}-{os.getpid()}"
        if (there := self.directory(version)).exists():
            raise ModelError(f"{there} exists - a version is never overwritten")
        try:
            staging.mkdir(parents=True)
            for name, data in files.items():
                _write(staging / name, data)
            staging.rename(target)
            _sync(home)
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise self._unwritable(error) from None

    def remove(self, version: int) -> None:
        """Delete a version that never served."""
        shutil.rmtree(self.directory(version), ignore_errors=True)

    def sweep(self) -> None:
        """Delete the half-written files of a publisher that was killed."""
        for home in [self.root / model for model in self.models()]:
            for path in home.glob(".staging-*"):
                shutil.rmtree(path, ignore_errors=True)
            for path in home.glob(f".{CONFIG}-*"):
                path.unlink(missing_ok=True)

    @contextmanager
    def lock_file(self) -> Iterator[IO[bytes]]:
        """An empty file to lock; it stays.

        Raises:
            ConfigurationError: the repository cannot be written.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            file = (self.home / ".lock").open("ab")
        except OSError as error:
            raise self._unwritable(error) from None
        with file:
            yield file

    def config(self, model: str = "") -> str | None:
        """The text of a model's `config.pbtxt`; None where there is none."""
        with suppress(FileNotFoundError):
            return (self.root / (model or self.name) / CONFIG).read_text()
        return None

    def configs(self) -> dict[str, str]:
        """The text of each model's `config.pbtxt`, where there is one."""
        found = {model: self.config(model) for model in self.models()}
        return {model: text for model, text in found.items() if text is not None}

    def configured(self) -> list[int]:
        """The versions that some `config.pbtxt` names, ascending."""
        return sorted(version for text in self.configs().values() for version in configured(text))

    def state_of_files(self) -> list[tuple[str, int, int, int]]:
        """Changes when a file of a configured version, or the configuration, does; costs little."""
        homes = [self.directory(version) for version in self.configured()]
        files = [home / name for home in homes for name in (MODEL, MANIFEST)]
        found = []
        for path in (*(self.root / model / CONFIG for model in self.models()), *files):
            with suppress(OSError):
                stat = path.stat()
                found.append((str(path), stat.st_ino, stat.st_ctime_ns, stat.st_size))
        return found

    def write_config(self, text: str | None, model: str = "") -> None:
        """Replace a model's `config.pbtxt` at once; None removes it.

        Raises:
            ConfigurationError: the repository cannot be written.
        """
        home = self.root / (model or self.name)
        try:
            if text is None:
                (home / CONFIG).unlink(missing_ok=True)
                return
            home.mkdir(parents=True, exist_ok=True)
            staging = home / f".{CONFIG}-{os.getpid()}"
            _write(staging, text.encode())
            staging.replace(home / CONFIG)
            _sync(home)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"cannot write to the model repository {self.root} ({error.strerror}) - make it "
            "writable, or set DRIFTLOOP_MODEL_REPOSITORY"
        )


def digest(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """Make renames in a directory durable, where the platform can."""
    with suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
