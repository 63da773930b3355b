"""Loops in one state directory know of one another, and a stack waits for those that use it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streams.errors import ConfigurationError
from workers.processes.sharing import in_use, only_loop, until_unused, using_stack


def test_a_pipeline_is_up_once_in_a_state_directory_and_another_beside_it(tmp_path: Path) -> None:
    with only_loop(tmp_path, "orders") as logs, only_loop(tmp_path, "visits") as others:
        assert logs != others
        with (
            pytest.raises(ConfigurationError, match=r"orders is up already in .*DRIFTLOOP_STATE"),
            only_loop(tmp_path, "orders"),
        ):
            raise AssertionError
    with only_loop(tmp_path, "orders") as again:
        assert again == logs


async def test_a_stack_waits_for_those_that_use_it(tmp_path: Path) -> None:
    assert not in_use(tmp_path)
    with using_stack(tmp_path), using_stack(tmp_path):
        assert in_use(tmp_path)
        waiting = asyncio.create_task(until_unused(tmp_path, asyncio.Event()))
        cut_short = asyncio.Event()
        cut_short.set()
        await until_unused(tmp_path, cut_short)
        assert not waiting.done()
    async with asyncio.timeout(5):
        await waiting
