"""The ledger's tables, by version (PRAGMA user_version). A migration is never changed once released; a new one is appended."""

from __future__ import annotations

import sqlite3

MIGRATIONS = (
    """
    CREATE TABLE submissions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,  -- AUTOINCREMENT: a freed id must not jump the queue
        folder TEXT NOT NULL,
        name BLOB NOT NULL,                    -- as the file system has it: any bytes
        kind TEXT NOT NULL,
        rubric TEXT NOT NULL,
        owner TEXT NOT NULL,
        state TEXT NOT NULL,
        moving INTEGER NOT NULL DEFAULT 0,     -- the state is committed, its file not yet known to be in place
        ready INTEGER NOT NULL DEFAULT 1,      -- 0: it is being written to again
        attempt INTEGER NOT NULL DEFAULT 1,
        tries INTEGER NOT NULL DEFAULT 0,
        order_ns INTEGER NOT NULL,
        device INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        received_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        slot TEXT,
        verdict TEXT,
        family TEXT,
        points REAL,
        points_possible REAL,
        reason TEXT,
        message TEXT,
        inspection BLOB,                       -- JSON, from the sanitizing until the report is in place
        report BLOB                            -- JSON, until the report is in place
    ) STRICT;
    CREATE UNIQUE INDEX one_waiting_per_name ON submissions (folder, name) WHERE state IN ('queued', 'held');
    CREATE INDEX next_in_line ON submissions (state, order_ns, name, id);
    CREATE INDEX unfinished_moves ON submissions (moving) WHERE moving = 1;
    CREATE INDEX newest ON submissions (updated_at);
    CREATE TABLE events (
        submission INTEGER NOT NULL REFERENCES submissions (id),
        at REAL NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        note TEXT
    ) STRICT;
    CREATE INDEX events_of ON events (submission);
    """,
    # How a submission ended, as far as it may use up an attempt of its owner: not what we broke, nor what was refused for want of attempts.
    # The index holds nothing else, so that what an owner has used costs the same to count whatever the others, or they themselves, did.
    """
    ALTER TABLE submissions ADD COLUMN ending TEXT GENERATED ALWAYS AS (
        CASE
            WHEN state = 'done' THEN 'done'
            WHEN state = 'rejected' AND reason <> 'attempts-exhausted' THEN 'rejected'
            WHEN state = 'failed' AND reason = 'limit-exceeded' THEN 'limit-exceeded'
        END
    ) VIRTUAL;
    CREATE INDEX attempts_of ON submissions (rubric, owner, ending, received_at) WHERE ending IS NOT NULL;
    """,
    # What was marked, to be compared with what comes. `size` finds the neighbours of noisy copies, which differ in it by next to nothing.
    """
    CREATE TABLE fingerprints (
        submission INTEGER PRIMARY KEY REFERENCES submissions (id),
        rubric TEXT NOT NULL,
        owner TEXT NOT NULL,
        exact TEXT NOT NULL,
        permuted TEXT NOT NULL,
        shapes TEXT NOT NULL,
        size REAL NOT NULL,
        sketch BLOB NOT NULL
    ) STRICT;
    CREATE INDEX same_weights ON fingerprints (rubric, exact, owner);
    CREATE INDEX permuted_weights ON fingerprints (rubric, permuted, owner);
    CREATE INDEX near_weights ON fingerprints (rubric, shapes, size, owner);
    """,
    # How many there are in each state, what ended last, whether the spool is paused: read at every turn and by every `status`, at the same
    # cost after a million.
    """
    CREATE TABLE tallies (state TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO tallies SELECT state, count(*) FROM submissions GROUP BY state;
    CREATE TRIGGER tally_new AFTER INSERT ON submissions BEGIN
        INSERT INTO tallies VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET n = n + 1;
    END;
    CREATE TRIGGER tally_moved AFTER UPDATE OF state ON submissions WHEN old.state <> new.state BEGIN
        UPDATE tallies SET n = n - 1 WHERE state = old.state;
        INSERT INTO tallies VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET n = n + 1;
    END;
    CREATE TRIGGER tally_gone AFTER DELETE ON submissions BEGIN
        UPDATE tallies SET n = n - 1 WHERE state = old.state;
    END;
    CREATE TABLE flags (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX by_name ON submissions (name);
    DROP INDEX newest;
    CREATE INDEX ended ON submissions (updated_at, id) WHERE state IN ('done', 'rejected', 'failed', 'withdrawn');
    """,
    # What is no longer kept of what has ended (core.keeping). The index holds what something may still be taken from.
    """
    ALTER TABLE submissions ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX kept ON submissions (pruned, updated_at, id) WHERE state IN ('done', 'rejected', 'failed') AND pruned < 3;
    """,
    # How long submissions stayed in each state, and on which slot: counted with the move itself, so that no way of moving forgets it.
    """
    CREATE TABLE durations (
        state TEXT NOT NULL,
        slot TEXT NOT NULL,                    -- "" but for evaluating
        times INTEGER NOT NULL,
        seconds REAL NOT NULL,
        PRIMARY KEY (state, slot)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER time_in_state AFTER UPDATE OF state ON submissions
    WHEN old.state <> new.state AND old.state IN ('queued', 'sanitizing', 'sanitized', 'evaluating') BEGIN
        INSERT INTO durations (state, slot, times, seconds)
        VALUES (
            old.state, CASE old.state WHEN 'evaluating' THEN coalesce(old.slot, '') ELSE '' END,
            1, max(new.updated_at - old.updated_at, 0.0)
        )
        ON CONFLICT DO UPDATE SET times = times + 1, seconds = seconds + excluded.seconds;
    END;
    """,
)


def migrate(connection: sqlite3.Connection) -> int:
    """Bring the ledger up to this version's tables, at once: nobody ever reads one that is half way. Returns the version it had; a newer
    ledger is left alone."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found < len(MIGRATIONS):
        steps = "".join(MIGRATIONS[found:])
        connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {len(MIGRATIONS)}; COMMIT;")
    return int(found)
