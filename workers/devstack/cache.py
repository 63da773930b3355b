"""The packages of the embedded stack: fetched once per user, pinned by checksum.

Kafka's jars come from Maven Central through jgo, Triton and its Python backend's packages from
PyPI through uv. Each is built beside its final place and moved in whole, under a lock, so that a
crash leaves nothing half-made and two processes may start at once.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from streams.errors import ConfigurationError, Unavailable

Notify = Callable[[str], None]
"""Told a line that people should see."""

_HERE = Path(__file__).parent
JARS = _HERE / "kafka-jars.txt"
TRITON_REQUIREMENTS = _HERE / "triton-requirements.txt"


@dataclass(frozen=True)
class TritonHome:
    """A Triton server that can be started."""

    server: Path
    libraries: Path
    """Directory of the bundled shared libraries."""
    python_backend: Path
    packages: Path
    """What the Python backend imports: numpy 1, onnxruntime."""
    libpython: Path
    """Directory of the shared libpython that the Python backend loads."""


def jars(cache: Path, progress: Notify) -> list[Path]:
    """Kafka's jars, each checked against its pinned SHA-256.

    Raises:
        ConfigurationError: a jar is not what was pinned.
        Unavailable: a download failed.
    """
    pinned = [line.split() for line in JARS.read_text().splitlines()]
    home = cache / "kafka" / hashlib.sha256(JARS.read_bytes()).hexdigest()[:12]
    with _lock(cache, "kafka"):
        if not home.exists():
            _fetch_jars([coordinate for coordinate, _ in pinned], home, progress)
    found = [home / f"{_name(coordinate)}.jar" for coordinate, _ in pinned]
    for jar, (coordinate, digest) in zip(found, pinned, strict=True):
        if not jar.exists() or hashlib.sha256(jar.read_bytes()).hexdigest() != digest:
            raise ConfigurationError(
                f"{coordinate} is not the pinned file - remove {home} to fetch it again"
            )
    return found


def _name(coordinate: str) -> str:
    return coordinate.split(":", 1)[1].replace(":", "-")


def _fetch_jars(coordinates: list[str], home: Path, progress: Notify) -> None:
    from jgo.maven import MavenContext, PythonResolver

    staging = _staging(home)
    context = MavenContext(resolver=PythonResolver(), repo_cache=staging / "repo", timeout=60)
    for number, coordinate in enumerate(coordinates, 1):
        progress(f"fetching Kafka's jars, {number} of {len(coordinates)}: {coordinate}")
        group, artifact, version = coordinate.split(":")
        try:
            jar = context.project(group, artifact).at_version(version).artifact().resolve()
        except Exception as error:  # jgo raises what requests and its resolver raise
            raise Unavailable(
                "Maven Central", coordinate, "HTTPS_PROXY", f"{type(error).__name__}: {error}"
            ) from None
        shutil.copyfile(jar, staging / f"{_name(coordinate)}.jar")
    shutil.rmtree(staging / "repo")
    staging.rename(home)


def triton(cache: Path, progress: Notify) -> TritonHome:
    """Triton for this Python, with the environment of its Python backend.

    Raises:
        ConfigurationError: this Python cannot run it; says what is missing.
        Unavailable: a download failed.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in ("3.11", "3.12"):
        raise ConfigurationError(
            f"the embedded Triton needs Python 3.11 or 3.12, this is {version} - "
            "use one of those, or set DRIFTLOOP_TRITON to a server of your own"
        )
    libpython = _libpython()
    digest = hashlib.sha256(TRITON_REQUIREMENTS.read_bytes()).hexdigest()[:12]
    home = cache / "triton" / f"{digest}-py{version}"
    with _lock(cache, "triton"):
        if not home.exists():
            _build_triton(home, version, progress)
    server = home / "pytriton" / "tritonserver"
    return TritonHome(
        server=server / "bin" / "tritonserver",
        libraries=home / "nvidia_pytriton.libs",
        python_backend=server / "backends" / "python",
        packages=home,
        libpython=libpython,
    )


def _build_triton(home: Path, version: str, progress: Notify) -> None:
    import uv

    progress("fetching Triton and its Python backend's packages (about 150 MB)")
    staging = _staging(home)
    command = [
        uv.find_uv_bin(),
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--compile-bytecode",
        "--python",
        sys.executable,
        "--target",
        str(staging),
        "-r",
        str(TRITON_REQUIREMENTS),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable("the package index", "PyPI", "UV_INDEX_URL", reason)
    server = staging / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy2(stub, server / "backends" / "python" / stub.name)
    for executable in (server / "bin" / "tritonserver", server / "backends/python" / stub.name):
        executable.chmod(0o755)
    staging.rename(home)


def _libpython() -> Path:
    """The directory of this Python's shared library."""
    name = sysconfig.get_config_var("INSTSONAME") or ""
    directories = (sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix) / "lib")
    for directory in directories:
        if directory and name.endswith((".so", ".so.1.0")) and (Path(directory) / name).exists():
            return Path(directory)
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    shared = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    for directory in (Path("/usr/lib") / multiarch, Path("/usr/lib64"), Path("/usr/lib")):
        if (directory / shared).exists():
            return directory
    raise ConfigurationError(
        f"the embedded Triton needs {shared}, which this Python does not have - install it "
        f"(Debian: libpython{sys.version_info.major}.{sys.version_info.minor}), or set "
        "DRIFTLOOP_TRITON"
    )


def _staging(home: Path) -> Path:
    staging = home.with_name(home.name + ".part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    return staging


def _lock(cache: Path, name: str) -> AbstractContextManager[object]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to {cache} ({error.strerror}) - set DRIFTLOOP_CACHE_DIR"
        ) from None
    return FileLock(cache / f"{name}.lock")
