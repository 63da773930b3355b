"""The packages of the embedded stack: fetched once per user, pinned by checksum.

Kafka's jars come from Maven Central through jgo, Triton and its Python backend's packages from
PyPI through uv.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from streams.errors import ConfigurationError, Unavailable
from workers.fetching import Notify, install, lock, staging

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
    with lock(cache, "kafka"):
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

    made = staging(home)
    context = MavenContext(resolver=PythonResolver(), repo_cache=made / "repo", timeout=60)
    for number, coordinate in enumerate(coordinates, 1):
        progress(f"fetching Kafka's jars, {number} of {len(coordinates)}: {coordinate}")
        group, artifact, version = coordinate.split(":")
        try:
            jar = context.project(group, artifact).at_version(version).artifact().resolve()
        except Exception as error:  # jgo raises what requests and its resolver raise
            raise Unavailable(
                "Maven Central", coordinate, "HTTPS_PROXY", f"{type(error).__name__}: {error}"
            ) from None
        shutil.copyfile(jar, made / f"{_name(coordinate)}.jar")
    shutil.rmtree(made / "repo")
    made.rename(home)


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
    with lock(cache, "triton"):
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
    progress("fetching Triton and its Python backend's packages (about 150 MB)")
    made = staging(home)
    install(made, TRITON_REQUIREMENTS.read_text(), "--compile-bytecode")
    server = made / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy2(stub, server / "backends" / "python" / stub.name)
    for executable in (server / "bin" / "tritonserver", server / "backends/python" / stub.name):
        executable.chmod(0o755)
    made.rename(home)


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
