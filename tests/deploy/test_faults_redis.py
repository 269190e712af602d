"""The fault matrix of a machine, its second part: Redis fails in all its ways."""

from __future__ import annotations

import time

import pytest
from deploy.box import Box
from deploy.faults import House, main_of

REDIS = "redis-server.service"
DEAD = f"/etc/systemd/system/{REDIS}.d/zz-test.conf"  # read after the one that is deployed
# Fills what Redis may hold to the brim: 24 MiB in pieces of 100 KiB.
FILL = "local v = string.rep('x', 102400) for i = 1, 260 do redis.call('set', 'filling:' .. i, v) end return 1"


@pytest.fixture
def box(house: House) -> Box:
    return house.box


# -- Redis ------------------------------------------------------------------------------------------------------------


def test_a_redis_that_is_killed(house: House, box: Box) -> None:
    with house.suffers(fault="Redis killed (SIGKILL)") as case:
        case.hurts(f"kill -KILL {main_of(REDIS)}")
        time.sleep(1)
        case.mended(well=house.get_well)
        said = case.told("restarts")
        assert f"{REDIS} died and was started again once" in said
        case.ends()


def test_a_redis_that_stays_dead(house: House, box: Box) -> None:
    with house.suffers(fault="Redis dead for good") as case:
        box.put(DEAD, "[Service]\nExecStart=\nExecStart=/bin/false\nRestartSec=100ms\nRestartMaxDelaySec=1\n")
        box.run("systemctl daemon-reload")
        case.hurts(f"systemctl kill --signal=KILL {REDIS}")
        said = case.told_by_a_unit(REDIS)
        assert f"{REDIS} failed" in said
        case.stays_told_once()
        box.run(f"rm {DEAD}; systemctl daemon-reload")
        case.mended(f"systemctl reset-failed {REDIS}; systemctl start {REDIS}", well=house.get_well)
        case.ends()


def test_a_redis_that_is_full(house: House, box: Box) -> None:
    settings = {"OPS_REDIS_EXPECTED": "", "OPS_EVENT_HOURS": "0.01"}
    box.run("redis-operator CONFIG SET maxmemory 24mb")
    with house.suffers(fault="Redis full", **settings) as case:
        case.hurts(f'redis-operator EVAL "{FILL}" 0')
        said = case.told("redis_memory")
        assert "of 24 MiB" in said
        assert "critical above 95%" in said
        case.stays_told_once()
        case.mended("redis-operator FLUSHALL")
        time.sleep(36)  # so long OPS_EVENT_HOURS has it be told that keys were dropped
        case.ends()
        box.run(f"systemctl restart {REDIS}")
        house.get_well()


def test_a_redis_that_takes_no_writes(house: House, box: Box) -> None:
    with house.suffers(fault="Redis read-only (copy of another)") as case:
        case.hurts("redis-operator REPLICAOF 192.0.2.1 6379")
        said = case.told("redis_config")
        assert "Redis is a copy of 192.0.2.1 6379 and takes no writes" in said
        case.stays_told_once()
        case.mended("redis-operator REPLICAOF NO ONE", well=house.get_well)
        case.ends()


def test_a_redis_that_is_slow(house: House, box: Box) -> None:
    with house.suffers(fault="Redis slow (CLIENT PAUSE)") as case:
        case.hurts("redis-operator CLIENT PAUSE 40000 ALL")
        time.sleep(2)
        said = case.told("redis")
        assert "does not answer: Timeout" in said
        case.stays_told_once(1)
        time.sleep(max(0.0, 41 - case.lasts))
        case.mended(well=house.get_well)
        case.ends()


def test_a_redis_that_somebody_set_otherwise(house: House, box: Box) -> None:
    with house.suffers(fault="Redis configuration drifted") as case:
        case.hurts("redis-operator CONFIG SET maxmemory-policy noeviction")
        said = case.told("redis_config")
        assert "maxmemory-policy" in said
        assert "deployed was 'allkeys-lru'" in said
        case.stays_told_once()
        case.mended("systemctl restart redis-server", well=house.get_well)
        case.ends()
