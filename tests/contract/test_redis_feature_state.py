"""What only Redis can do: be away, forget its functions, run out of memory, expire keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from streams.adapters.memory.state import MemoryFeatureState
from streams.adapters.redis.state import Library, RedisFeatureState
from streams.errors import ConfigurationError, Unavailable
from streams.spec.windows import FoldPlan, KeyPlan
from tests.folds import PLAN, E, L, fold_batch, label_batch
from tests.valkey import Valkey, free_port


def buy(time: int, id: int = 0) -> E:
    return E(time, ("c", "s"), id or time, (1.5,))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """A server that the test may stop; it keeps what it is told."""
    with Valkey(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as valkey:
        yield valkey


Connect = Callable[..., Awaitable[RedisFeatureState]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """`RedisFeatureState.connect`, closed at the end."""
    made: list[RedisFeatureState] = []

    async def state(
        url: str, name: str = "p", plan: FoldPlan = PLAN, timeout: float = 10.0
    ) -> RedisFeatureState:
        made.append(await RedisFeatureState.connect(url, name, plan, timeout))
        return made[-1]

    yield state
    for each in made:
        await each.close()


async def test_a_killed_server_is_unavailable_and_continues_where_it_was(
    connect: Connect, server: Valkey
) -> None:
    state = await connect(server.url, timeout=1.0)
    memory = MemoryFeatureState(PLAN)
    first = await state.fold(fold_batch([buy(100), buy(101)]))
    await memory.fold(fold_batch([buy(100), buy(101)]))
    await state.fold_labels(label_batch([L(100, ("s",))]))
    await memory.fold_labels(label_batch([L(100, ("s",))]))
    server.kill()
    for call in (
        lambda: state.fold(fold_batch([buy(125)], 2)),
        lambda: state.fold_labels(label_batch([L(101, ("s",))], 1)),
        lambda: state.position(0),
        lambda: state.label_note(0),
        lambda: state.reposition(0, 9),
    ):
        with pytest.raises(
            Unavailable, match=rf"Redis at 127.0.0.1:{server.port} .*DRIFTLOOP_REDIS"
        ):
            await call()
    server.start()
    assert await state.position(0) == 2
    again = await state.fold(fold_batch([buy(100), buy(101)]))
    np.testing.assert_array_equal(again.aggregates, first.aggregates)
    folded = await state.fold(fold_batch([buy(125)], 2))
    expected = await memory.fold(fold_batch([buy(125)], 2))
    np.testing.assert_array_equal(folded.aggregates, expected.aggregates)


async def test_a_server_that_hangs_is_unavailable(connect: Connect, server: Valkey) -> None:
    state = await connect(server.url, timeout=0.2)
    with server.client() as client:
        client.client_pause(700)
        with pytest.raises(Unavailable, match=r"[Tt]ime"):
            await state.fold(fold_batch([buy(100)]))
        await asyncio.sleep(0.7)
    # the paused call may have been executed when the server woke up: the fence makes it once
    await state.fold(fold_batch([buy(100)]))
    folded = await state.fold(fold_batch([buy(101)], 1))
    assert folded.aggregates[0, 0] == 2


async def test_functions_that_the_server_lost_are_loaded_again(
    connect: Connect, server: Valkey
) -> None:
    state = await connect(server.url)
    await state.fold(fold_batch([buy(100)]))
    with server.client() as client:
        client.function_flush()
        folded = await state.fold(fold_batch([buy(101)], 1))
        assert folded.aggregates[0, 0] == 2
        client.function_flush()
        assert (await state.fold_labels(label_batch([L(100, ("s",))]))).added == 1


async def test_two_versions_of_the_code_run_side_by_side(connect: Connect, server: Valkey) -> None:
    old = await connect(server.url)
    another = Library.of(most=1000)
    new = await RedisFeatureState.connect(server.url, "p", PLAN, library=another)
    await new.fold(fold_batch([buy(100)]))
    await new.close()
    folded = await old.fold(fold_batch([buy(101)], 1))
    assert folded.aggregates[0, 0] == 2
    with server.client() as client:
        assert len(client.function_list()) == 2


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_server_that_may_drop_keys_is_refused_and_a_change_is_said_once(
    connect: Connect, server: Valkey, policy: str
) -> None:
    state = await connect(server.url)
    with server.client() as client:
        client.config_set("maxmemory-policy", policy)
        with pytest.raises(ConfigurationError, match="maxmemory-policy noeviction"):
            await connect(server.url)
        with structlog.testing.capture_logs() as lines:
            for _ in range(2):
                await state.eviction.watch()
            client.config_set("maxmemory-policy", "noeviction")
            for _ in range(2):
                await state.eviction.watch()
    assert [line["log_level"] for line in lines] == ["error", "info"]
    assert policy in lines[0]["event"]


async def test_keys_that_were_dropped_are_said(connect: Connect, server: Valkey) -> None:
    state = await connect(server.url)
    await state.eviction.watch()
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-random")
        client.set("a", bytes(1_000_000))
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 500_000)
        client.set("b", bytes(1000))
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
    with structlog.testing.capture_logs() as lines:
        await state.eviction.watch()
    assert [line["keys"] >= 1 for line in lines] == [True]
    assert REGISTRY.get_sample_value("driftloop_redis_evicted_keys")


async def test_state_of_a_topic_that_was_made_anew_is_another(
    connect: Connect, server: Valkey
) -> None:
    first = await connect(server.url)
    await first.fold(fold_batch([buy(100), buy(101)]))
    assert await first.answered(0) == 0
    await first.fold(fold_batch([buy(102)], 2, committed=2))
    assert await first.answered(0) == 2
    anew = await RedisFeatureState.connect(server.url, "p", PLAN, topic_id="another")
    assert await anew.position(0) is None
    assert await anew.answered(0) is None
    folded = await anew.fold(fold_batch([buy(100)]))
    assert folded.aggregates[0, 0] == 1
    await anew.close()


async def test_a_changed_plan_starts_afresh(connect: Connect, server: Valkey) -> None:
    one = await connect(server.url)
    await one.fold(fold_batch([buy(100)]))
    changed = FoldPlan((replace(PLAN.keys[0], edges=(0, 10, 90)), PLAN.keys[1]))
    other = await connect(server.url, plan=changed)
    assert await other.position(0) is None
    assert await one.position(0) == 1


async def test_one_call_per_micro_batch(connect: Connect, server: Valkey) -> None:
    state = await connect(server.url)
    with server.client() as client:
        client.config_resetstat()
        await state.fold(fold_batch([buy(100 + i) for i in range(50)]))
        calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    assert calls["cmdstat_fcall"] == 1
    assert calls["cmdstat_mget"] == 2, "one per key field"
    assert calls["cmdstat_set"] == 3, "card, shop and fence"


async def test_keys_expire_after_twice_the_history_and_a_week_at_least(
    connect: Connect, server: Valkey
) -> None:
    state = await connect(server.url)
    await state.fold(fold_batch([buy(100)]))
    await state.fold_labels(label_batch([L(100, ("s",))]))
    with server.client() as client:
        lifetimes = {key: client.ttl(key) for key in client.scan_iter()}
    assert len(lifetimes) == 5, "card, shop, fence, journal, label fence"
    assert all(7 * 86_400 - 60 < ttl <= 7 * 86_400 for ttl in lifetimes.values())
    assert len({key[: key.index(b"}")] for key in lifetimes}) == 1, "one hash slot"


async def test_most_events_are_written_in_place(connect: Connect, server: Valkey) -> None:
    state = await connect(server.url)
    with server.client() as client:
        await state.fold(fold_batch([buy(100 + i) for i in range(40)]))
        client.config_resetstat()
        for i in range(40):
            await state.fold(fold_batch([buy(140 + i)], 40 + i))
        calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    assert calls["cmdstat_setrange"] > 60
    assert calls["cmdstat_set"] < 40 + 20, "the fence each time, an entity now and then"


async def test_entities_that_are_still_seen_do_not_expire(connect: Connect, server: Valkey) -> None:
    state = await connect(server.url)
    await state.fold(fold_batch([buy(100), buy(101), buy(102), buy(103)]))
    with server.client() as client:
        for key in client.scan_iter():
            client.expire(key, 3600)
        await state.fold(fold_batch([buy(103 + 86_400)], 4))
        assert min(client.ttl(key) for key in client.scan_iter()) > 6 * 86_400


@pytest.mark.parametrize(("edges", "values"), [(44, 0), (45, 0), (3, 20), (2, 28), (60, 3)])
async def test_plans_with_many_numbers(
    connect: Connect, valkey: Valkey, edges: int, values: int
) -> None:
    """Up to 90 numbers are folded by compiled code, more by the general code."""
    names = tuple(f"v{i}" for i in range(values))
    windows = tuple((0, i) for i in range(1, edges))
    plan = FoldPlan((KeyPlan("k", tuple(range(edges)), names, True, windows, edges - 1),))
    state, memory = await connect(valkey.url, "many", plan), MemoryFeatureState(plan)
    for first in range(0, 60, 10):
        events = [
            E(100 + i, ("a",), i, tuple(0.5 * i + j for j in range(values)))
            for i in range(first, first + 10)
        ]
        folded = await state.fold(fold_batch(events, first))
        expected = await memory.fold(fold_batch(events, first))
        np.testing.assert_allclose(folded.aggregates, expected.aggregates, rtol=1e-12)


async def test_out_of_memory_is_unavailable_and_changes_nothing(
    connect: Connect, server: Valkey
) -> None:
    state = await connect(server.url)
    await state.fold(fold_batch([buy(100)]))
    with server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(
            Unavailable, match=r"is full and takes no writes .* - raise its maxmemory"
        ):
            await state.fold(fold_batch([buy(101)], 1))
        client.config_set("maxmemory", 0)
    assert await state.position(0) == 1
    assert (await state.fold(fold_batch([buy(101)], 1))).aggregates[0, 0] == 2


async def test_the_journal_holds_only_what_is_not_committed(
    connect: Connect, server: Valkey
) -> None:
    state = await connect(server.url)
    with server.client() as client:
        for i in range(20):
            await state.fold(fold_batch([buy(100 + i)], i, committed=max(0, i - 3)))
            lengths = [
                client.llen(key) for key in client.scan_iter() if client.type(key) == b"list"
            ]
            assert lengths == [min(i + 1, 4)]


async def test_an_error_of_ours_is_not_taken_for_absence(connect: Connect, server: Valkey) -> None:
    state = await connect(server.url)
    await state.fold(fold_batch([buy(100)]))
    with server.client() as client:
        fence = next(key for key in client.scan_iter() if key.endswith(b"f:0"))
        client.delete(fence)
        client.lpush(fence, "wrong type")
    with pytest.raises(ResponseError, match=r"WRONGTYPE|wrong kind"):
        await state.fold(fold_batch([buy(101)], 1))


async def test_no_server_at_the_address(connect: Connect) -> None:
    port = free_port()
    begin = time.monotonic()
    with pytest.raises(Unavailable, match=rf"127.0.0.1:{port}.*DRIFTLOOP_REDIS"):
        await connect(f"redis://:secret@127.0.0.1:{port}")
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize("url", ["http://user:secret@host:1", "redis://:secret@host:x", ""])
async def test_an_address_that_is_none(connect: Connect, url: str) -> None:
    with pytest.raises(ConfigurationError, match="DRIFTLOOP_REDIS") as caught:
        await connect(url)
    assert "secret" not in str(caught.value)


async def test_passwords_are_used_and_never_shown(connect: Connect, tmp_path: Path) -> None:
    with Valkey(tmp_path, "--requirepass", "s3cret") as server:
        address = f"127.0.0.1:{server.port}"
        state = await connect(f"redis://:s3cret@{address}/0")
        await state.fold(fold_batch([buy(100)]))
        for url in (f"redis://:wr0ng@{address}", f"redis://{address}"):
            with pytest.raises(ConfigurationError, match=address) as caught:
                await connect(url)
            assert "wr0ng" not in str(caught.value)
        server.kill()
        with pytest.raises(Unavailable) as away:
            await state.position(0)
        assert "s3cret" not in str(away.value) + repr(state)


async def test_a_client_of_ones_own(valkey: Valkey) -> None:
    client = Redis.from_url(valkey.url)
    state = RedisFeatureState(client, "own-client", PLAN)
    folded = await state.fold(fold_batch([buy(100)]))
    assert folded.aggregates[0, 0] == 1
    await state.close()


async def test_partitions_fold_at_the_same_time(connect: Connect, valkey: Valkey) -> None:
    state = await connect(valkey.url, "parallel")
    batches = [fold_batch([buy(100 + i) for i in range(40)], partition=p) for p in range(8)]
    folded = await asyncio.gather(*(state.fold(batch) for batch in batches))
    # one entity, remembered ids: the first partition to fold counts each event
    assert sum(int((~part.duplicate).sum()) for part in folded) == 40


async def test_a_cluster(connect: Connect, tmp_path: Path) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with Valkey(tmp_path, *options) as server:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            for _ in range(500):
                if b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"):
                    break
                await asyncio.sleep(0.02)
        state = await connect(server.url, timeout=1.0)
        events = [E(100 + i, (f"c{i % 7}", f"s{i % 5}"), i, (1.0,)) for i in range(50)]
        once = await state.fold(fold_batch(events))
        again = await state.fold(fold_batch(events))
        np.testing.assert_array_equal(again.aggregates, once.aggregates)
        assert (await state.fold_labels(label_batch([L(149, ("s4",))]))).added == 1
        assert await state.position(0) == 50
        server.kill()
        with pytest.raises(Unavailable):
            await state.fold(fold_batch(events[:1], 50))


async def test_a_user_who_may_not_load_functions(connect: Connect, server: Valkey) -> None:
    with server.client() as client:
        client.acl_setuser(
            "limited", enabled=True, passwords=["+pw"], keys="*", commands=["+get", "+info"]
        )
    with pytest.raises(ConfigurationError, match=r"'function\|load'") as caught:
        await connect(f"redis://limited:pw@127.0.0.1:{server.port}")
    assert "pw" not in str(caught.value)
