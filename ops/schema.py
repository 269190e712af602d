"""The tables of the memory, as they came to be: each script brings a file from one version to the next."""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE checks (
        name TEXT PRIMARY KEY, status TEXT NOT NULL, since TEXT NOT NULL, at TEXT NOT NULL, summary TEXT NOT NULL,
        result TEXT NOT NULL, state TEXT NOT NULL) STRICT;
    CREATE TABLE flips (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, at TEXT NOT NULL, before TEXT, after TEXT NOT NULL,
        summary TEXT NOT NULL) STRICT;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, tags TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL,
        body TEXT NOT NULL, receivers TEXT, attempts INTEGER NOT NULL DEFAULT 0, fault TEXT) STRICT;
    CREATE TABLE failures (
        id INTEGER PRIMARY KEY, unit TEXT NOT NULL, key TEXT NOT NULL, result TEXT NOT NULL, at TEXT NOT NULL,
        told INTEGER NOT NULL, UNIQUE (unit, key)) STRICT;
    """,
    """
    CREATE TABLE samples (
        id INTEGER PRIMARY KEY, unit TEXT NOT NULL, life TEXT NOT NULL, at TEXT NOT NULL, rss INTEGER, pss INTEGER,
        uss INTEGER, fds INTEGER, threads INTEGER, cgroup INTEGER) STRICT;
    CREATE INDEX samples_of ON samples (unit, life, at);
    CREATE TABLE sizes (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, at TEXT NOT NULL, value REAL NOT NULL, of REAL) STRICT;
    CREATE INDEX sizes_of ON sizes (name, at);
    CREATE TABLE history (
        name TEXT NOT NULL, at TEXT NOT NULL, status TEXT NOT NULL, PRIMARY KEY (name, at)) STRICT, WITHOUT ROWID;
    CREATE TABLE alerts (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, opened TEXT NOT NULL, ended TEXT, state TEXT NOT NULL,
        status TEXT NOT NULL, since TEXT NOT NULL, summary TEXT NOT NULL, section TEXT NOT NULL,
        acknowledged TEXT, reminders INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE UNIQUE INDEX open_alerts ON alerts (name) WHERE ended IS NULL;
    CREATE TABLE silences (
        name TEXT PRIMARY KEY, at TEXT NOT NULL, until TEXT NOT NULL, by TEXT NOT NULL, why TEXT NOT NULL) STRICT;
    CREATE TABLE sources (
        name TEXT PRIMARY KEY, state TEXT NOT NULL, summary TEXT NOT NULL, section TEXT NOT NULL,
        first TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, tags TEXT NOT NULL, kind TEXT NOT NULL,
        title TEXT NOT NULL) STRICT;
    CREATE INDEX messages_at ON messages (at);
    CREATE TABLE news (
        message INTEGER NOT NULL, alert INTEGER NOT NULL, kind TEXT NOT NULL,
        PRIMARY KEY (message, alert, kind)) STRICT, WITHOUT ROWID;
    CREATE INDEX news_of ON news (alert);
    CREATE TABLE deliveries (
        message INTEGER NOT NULL, receiver TEXT NOT NULL, shown TEXT NOT NULL, at TEXT NOT NULL, ok INTEGER NOT NULL,
        attempts INTEGER NOT NULL, fault TEXT NOT NULL, PRIMARY KEY (message, receiver)) STRICT, WITHOUT ROWID;
    INSERT INTO messages SELECT id, at, tags, kind, title FROM outbox;
    ALTER TABLE outbox ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
    """,
    "ALTER TABLE outbox ADD COLUMN page TEXT NOT NULL DEFAULT '';",
)
