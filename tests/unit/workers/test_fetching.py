"""Packages are fetched whole or not at all, from where the user's tools would fetch them."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from streams.errors import ConfigurationError, Unavailable
from workers.fetching import index_of_pip
from workers.worlds.packages import Package, fetch, npm_registry


def wheel(folder: Path, content: bytes) -> str:
    """A wheel of one file of data; its SHA-256."""
    info = "tinydata-1.0.dist-info"
    files = {
        "tinydata/rows.csv": content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tinydata\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    path = folder / "tinydata-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return folder


def test_a_package_is_fetched_once(offline: Path, tmp_path: Path) -> None:
    package = Package("tinydata", "1.0", (wheel(offline, b"a,b\n1,2\n"),), 0.1, "none")
    told: list[str] = []
    home = fetch(package, tmp_path / "cache", told.append)
    assert (home / "tinydata" / "rows.csv").read_text() == "a,b\n1,2\n"
    assert told == ["fetching tinydata 1.0 (0 MB, licence: none)"]
    next(offline.iterdir()).unlink()
    assert fetch(package, tmp_path / "cache", told.append) == home
    assert len(told) == 1


def test_another_file_than_the_pinned_one_is_refused(offline: Path, tmp_path: Path) -> None:
    wheel(offline, b"a,b\n1,3\n")
    package = Package("tinydata", "1.0", ("0" * 64,), 0.1, "none")
    with pytest.raises(ConfigurationError, match=r"tinydata==1.0 is not the pinned file: .*") as no:
        fetch(package, tmp_path / "cache", lambda _: None)
    assert "\n" not in str(no.value)
    assert not package.place(tmp_path / "cache").exists()


def test_a_package_that_cannot_be_had_is_one_line(offline: Path, tmp_path: Path) -> None:
    package = Package("tinydata", "1.0", ("0" * 64,), 0.1, "none")
    with pytest.raises(Unavailable, match="cannot reach the package index at PyPI") as no:
        fetch(package, tmp_path / "cache", lambda _: None)
    assert "\n" not in str(no.value)


def test_a_changed_pin_has_another_place(tmp_path: Path) -> None:
    first, second = (Package("p", "1", (digest * 64,), 1, "none") for digest in "01")
    assert first.place(tmp_path) != second.place(tmp_path)


def test_pips_index_is_uvs_too(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://file.test/simple\nextra-index-url =\n  https://a.test/\n"
        "  https://b.test/\n"
    )
    told = {"PIP_CONFIG_FILE": str(config), "HOME": str(tmp_path)}
    found = index_of_pip(told)
    assert found["UV_DEFAULT_INDEX"] == "https://file.test/simple"
    assert found["UV_INDEX"] == "https://a.test/ https://b.test/"
    variable = {"PIP_INDEX_URL": "https://variable.test/simple"}
    assert index_of_pip(told | variable)["UV_DEFAULT_INDEX"] == "https://variable.test/simple"
    assert index_of_pip(told | {"UV_DEFAULT_INDEX": "https://own.test/simple"}) == {}


def test_npms_registry_is_as_npm_would_choose_it(tmp_path: Path) -> None:
    config = tmp_path / "npmrc"
    told = {"npm_config_userconfig": str(config)}
    assert npm_registry(told, "@scope") == "https://registry.npmjs.org/"
    config.write_text("; mine\nregistry=https://file.test/\n//file.test/:_authToken=x=y\n")
    assert npm_registry(told, "@scope") == "https://file.test/"
    variable = told | {"npm_config_registry": "https://variable.test"}
    assert npm_registry(variable, "@scope") == "https://variable.test"
    config.write_text("@scope:registry=https://scope.test/\n")
    assert npm_registry(variable, "@scope") == "https://scope.test/"
    with pytest.raises(ConfigurationError, match="'file:///etc' is no address"):
        npm_registry({"npm_config_registry": "file:///etc"}, "@other")
