"""The table of checks: what is looked at, which section of docs/operations.md says what to do, and what to type first.

Each file probes (asks the machine), judges (pure: values and limits to findings) and summarises.
"""

from __future__ import annotations

from ops.check import Check
from ops.checks import (
    api,
    app,
    certificate,
    clock,
    disk,
    host,
    jobs,
    keeper,
    kernel,
    leaks,
    money,
    network,
    redis,
    services,
    storage,
    upkeep,
)

HEALTH = "curl http://localhost:8000/health"
MEMORY = "Memory, swap and load"
TIMERS = "systemctl list-timers 'trading*' certbot.timer"
SYSCTL = "cat /etc/sysctl.d/60-trading.conf"
OPERATOR = "sudo redis-operator"

CHECKS = (
    # the machine
    Check("disk", "Disk", disk.disk, 10, "df -h"),
    Check("memory", MEMORY, host.memory, 10, "free -h"),
    Check("swap", MEMORY, host.swap, 10, "free -h"),
    Check("load", MEMORY, host.load, 10, "uptime"),
    Check(
        "pressure",
        MEMORY,
        host.pressure,
        10,
        "cat /proc/pressure/memory /proc/pressure/io /proc/pressure/cpu",
        host.has_pressure,
    ),
    Check("oom", "A process was killed for memory", kernel.oom, 10, "journalctl -k -n 50", kernel.counts_kills),
    Check("descriptors", "Open files", kernel.descriptors, 15, "cat /proc/sys/fs/file-nr", kernel.has_descriptors),
    Check("leaks", "A leak", leaks.growth, 30, "curl http://localhost:8000/api/v1/ops/leaks"),
    Check("clock", "Clock", clock.clock, 20, "timedatectl timesync-status", services.here),
    Check("kernel", "Settings that drifted", kernel.drift, 10, SYSCTL, kernel.has_settings),
    Check("reboot", "A reboot is due", host.reboot, 10, "sudo trading-status", host.knows_reboots),
    Check("updates", "Updates", upkeep.updates, 60, "journalctl -u apt-daily-upgrade -n 50", upkeep.has_apt),
    # the network
    Check("names", "Names", network.names, 15, "resolvectl status", network.has_names),
    Check("ports", "Ports", network.ports, 10, "sudo ss -tulpn", network.has_ports),
    Check("certificate", "The certificate", certificate.served, 15, "sudo trading-status", certificate.is_served),
    # units and jobs
    Check("services", "A unit failed", services.units, 15, "systemctl list-units --failed", services.deployed),
    Check("failed", "A unit failed", services.failed, 25, "systemctl list-units --failed", services.deployed),
    Check("restarts", "A unit failed", services.restarts, 15, "journalctl -u trading-engine -n 50", services.deployed),
    Check("timers", "Timers", upkeep.timers, 15, "systemctl list-timers --all", services.here),
    Check("jobs", "A job did not run", jobs.stamps, 10, TIMERS, services.deployed),
    Check("storage", "Backups", storage.copies, 10, "sudo systemctl start trading-backup", storage.is_kept),
    Check("archive", "Backups", storage.archived, 10, "journalctl -u trading-archive -n 20", storage.is_archived),
    Check("ledger", "Verify the ledger", storage.ledger, 10, "sudo tradectl ledger verify", storage.is_verified),
    Check("drill", "Backups", storage.drill, 10, "sudo systemctl start trading-drill", storage.is_drilled),
    Check("keeper", "A process died on a laptop", keeper.deaths, 10, "tradectl doctor", keeper.keeps),
    # the application
    Check("api", "Reasons of the health answer", api.health, 60, HEALTH),
    Check("live", "The web process does not answer", app.live, 60, "systemctl status trading-api"),
    Check("ready", "Reasons of the health answer", app.ready, 60, "curl http://localhost:8000/health/ready"),
    Check("loop", "the engine's loop has not moved for … s", app.loop, 60, "systemctl status trading-engine"),
    Check("trading", "States", app.trading, 60, "tradectl status"),
    Check("orders", "the broker did not say what became of …", app.orders, 60, "tradectl orders --limit 20"),
    Check("providers", "A provider failed", app.providers, 60, "tradectl providers"),
    Check("loss", "A daily loss", money.loss, 60, "tradectl portfolio", money.limits_loss),
    Check("no_trade", "No trade", money.no_trade, 60, "tradectl explain", money.expects_trades),
    # Redis
    Check("redis", "Redis is down", redis.ping, 10, "redis-cli ping", redis.is_named),
    Check("redis_memory", "How Redis is", redis.memory, 10, "redis-cli info memory", redis.is_named),
    Check("redis_evictions", "How Redis is", redis.evictions, 10, "redis-cli info stats", redis.is_named),
    Check("redis_saves", "How Redis is", redis.saves, 10, "redis-cli info persistence", redis.is_named),
    Check("redis_latency", "How Redis is", redis.latency, 10, f"{OPERATOR} LATENCY LATEST", redis.is_named),
    Check("redis_slow", "How Redis is", redis.slow, 10, f"{OPERATOR} SLOWLOG GET 10", redis.is_named),
    Check("redis_config", "Settings that drifted", redis.config, 10, f"{OPERATOR} CONFIG GET save", redis.is_expected),
)
