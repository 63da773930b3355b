"""What is fetched once per user: beside its final place, then moved in whole, under a lock.

So a crash leaves nothing half-made, and two processes may start at once. Python packages come
through uv, from the index that uv's or pip's configuration names.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from streams.errors import ConfigurationError, Unavailable

Notify = Callable[[str], None]
"""Told a line that people should see."""

_OF_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}
"""Options of pip, and the variables by which uv is told the same."""


def lock(cache: Path, name: str) -> AbstractContextManager[object]:
    """Held by the one process that makes `name`.

    Raises:
        ConfigurationError: the cache cannot be written, or driftloop[stack] is not installed.
    """
    try:
        from filelock import FileLock
    except ImportError:
        raise _not_installed("filelock") from None
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to {cache} ({error.strerror}) - set DRIFTLOOP_CACHE_DIR"
        ) from None
    return FileLock(cache / f"{name}.lock")


def staging(home: Path) -> Path:
    """An empty directory beside a place, to be renamed to it."""
    made = home.with_name(home.name + ".part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    return made


def install(target: Path, requirements: str, *options: str) -> None:
    """Unpack these wheels, each with its hash, into a directory; without what they depend on.

    Raises:
        ConfigurationError: a file is not what was pinned, or driftloop[stack] is not installed.
        Unavailable: a download failed.
    """
    try:
        import uv
    except ImportError:
        raise _not_installed("uv") from None
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--python", sys.executable, "--target", str(target), *options, "-r", "-"]
    done = subprocess.run(
        command,
        input=requirements,
        capture_output=True,
        text=True,
        check=False,
        env={**index_of_pip(os.environ), **os.environ},
    )
    if not done.returncode:
        return
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if any("Hash mismatch" in line for line in lines):
        wheels = requirements.split(" ", 1)[0] if requirements.count("==") == 1 else "a wheel"
        raise ConfigurationError(
            f"{wheels} is not the pinned file: the package index serves another - name an index "
            "that serves PyPI's files in UV_DEFAULT_INDEX"
        )
    raise Unavailable(
        "the package index", "PyPI", "UV_DEFAULT_INDEX", (lines or ["no reason given"])[-1]
    )


def index_of_pip(environment: Mapping[str, str]) -> dict[str, str]:
    """The index that pip is told to use, as variables for uv; none where uv has been told itself.

    pip's own variables come before its files, a user's file before the machine's.
    """
    if any(name in environment for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX")):
        return {}
    files = configparser.RawConfigParser()
    home = Path(environment.get("HOME", "/nonexistent"))
    own = Path(environment.get("XDG_CONFIG_HOME", home / ".config")) / "pip" / "pip.conf"
    named = environment.get("PIP_CONFIG_FILE", os.devnull)
    site = Path(sys.prefix) / "pip.conf"
    files.read([Path("/etc/pip.conf"), home / ".pip" / "pip.conf", own, site, Path(named)])
    found = {}
    for option, variable in _OF_PIP.items():
        name = "PIP_" + option.upper().replace("-", "_")
        value = environment.get(name) or files.get("global", option, fallback="")
        if value:
            found[variable] = " ".join(value.split())
    return found


def _not_installed(name: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is not installed - pip install 'driftloop[stack]'")
