from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.valkey import Valkey


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A server for tests that neither stop it nor look at other pipelines' keys."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server
