"""Forgetting what workers have derived from topics: they derive it again."""

from __future__ import annotations

import shutil

from redis import Redis, RedisCluster
from redis.exceptions import RedisError

from streams.adapters.redis.server import refusal
from streams.errors import ConfigurationError
from streams.kafka.connection import admin_client, unavailable
from streams.kafka.topics import group_id
from streams.settings import Settings
from streams.spec import Pipeline

_AT_ONCE = 1000


async def require_idle(settings: Settings, pipeline: Pipeline) -> None:
    """See that no scoring or labelling worker runs.

    Raises:
        ConfigurationError: one does.
        Unavailable: no broker answers.
    """
    async with admin_client(settings) as admin:
        for role in ("score", "label"):
            group = group_id(pipeline.name, role)
            with unavailable(settings):
                [answer] = await admin.describe_consumer_groups([group])
            [(_, _, _, _, _, members, *_)] = answer.groups
            if members:
                raise ConfigurationError(
                    f"{len(members)} workers of group {group} run - stop them first"
                )


def reset(settings: Settings, pipeline: Pipeline) -> tuple[int, int]:
    """Delete the pipeline's feature state and its label stores on this machine.

    Returns how many keys and how many label stores that were. Nothing else in Redis is touched.

    Raises:
        Unavailable: Redis is away.
    """
    url = settings.redis.get_secret_value()
    client: Redis | RedisCluster = Redis.from_url(url)
    try:
        if client.info("cluster").get("cluster_enabled"):
            client.close()
            client = RedisCluster.from_url(url)
        keys = _unlink(client, f"{{{pipeline.name}}}*")
    except (OSError, RedisError) as error:
        raise refusal(error, url) from None
    finally:
        client.close()
    home = settings.state_dir / "labels" / pipeline.name
    stores = sum(1 for _ in home.glob("*/*")) if home.exists() else 0
    shutil.rmtree(home, ignore_errors=not home.exists())
    return keys, stores


def _unlink(client: Redis | RedisCluster, pattern: str) -> int:
    gone, found = 0, list[bytes]()
    for key in client.scan_iter(match=pattern, count=_AT_ONCE):
        found.append(key)
        if len(found) == _AT_ONCE:
            gone += int(client.unlink(*found))
            found = []
    return gone + (int(client.unlink(*found)) if found else 0)
