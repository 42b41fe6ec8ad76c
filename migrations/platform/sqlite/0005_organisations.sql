-- Organisations are handed over, too: to modules that decide by plan and have no store of tenants.

-- SQLite changes no constraint: the tables are made anew. Numbers go on behind the last one that was given.
ALTER TABLE outbox RENAME TO outbox_of_before;

CREATE TABLE outbox (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    module      TEXT    NOT NULL,
    instance    TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    create_time INTEGER NOT NULL,
    CONSTRAINT outbox_kind CHECK (kind IN ('tenants', 'organisations', 'revocations'))
) STRICT;

INSERT INTO outbox (seq, module, instance, kind, subject, create_time)
SELECT seq, module, instance, kind, subject, create_time
  FROM outbox_of_before;

DELETE FROM sqlite_sequence WHERE name = 'outbox';
INSERT INTO sqlite_sequence (name, seq)
SELECT 'outbox', seq
  FROM sqlite_sequence
 WHERE name = 'outbox_of_before';

DROP TABLE outbox_of_before;

CREATE INDEX outbox_of_stream ON outbox (module, instance, kind, seq);
CREATE INDEX outbox_of_subject ON outbox (kind, subject, seq);

ALTER TABLE sync_streams RENAME TO sync_streams_of_before;

CREATE TABLE sync_streams (
    module               TEXT    NOT NULL,
    instance             TEXT    NOT NULL,
    kind                 TEXT    NOT NULL,
    endpoint             TEXT    NOT NULL,
    acknowledged_version INTEGER NOT NULL DEFAULT 0,
    snapshot_due         INTEGER NOT NULL DEFAULT 1,
    snapshot_version     INTEGER,
    snapshot_last        INTEGER NOT NULL DEFAULT 0,
    attempts             INTEGER NOT NULL DEFAULT 0,
    next_attempt_time    INTEGER NOT NULL,
    acknowledge_time     INTEGER,
    last_error           TEXT    NOT NULL DEFAULT '',
    CONSTRAINT sync_streams_pk PRIMARY KEY (module, instance, kind),
    CONSTRAINT sync_streams_kind CHECK (kind IN ('flags', 'tenants', 'organisations', 'revocations')),
    CONSTRAINT sync_streams_snapshot_due CHECK (snapshot_due IN (0, 1)),
    CONSTRAINT sync_streams_snapshot CHECK (snapshot_due = 1 OR snapshot_version IS NULL),
    CONSTRAINT sync_streams_snapshot_last CHECK (snapshot_last IN (0, 1))
) STRICT;

INSERT INTO sync_streams (module, instance, kind, endpoint, acknowledged_version, snapshot_due, snapshot_version,
                          snapshot_last, attempts, next_attempt_time, acknowledge_time, last_error)
SELECT module, instance, kind, endpoint, acknowledged_version, snapshot_due, snapshot_version, snapshot_last, attempts,
       next_attempt_time, acknowledge_time, last_error
  FROM sync_streams_of_before;

DROP TABLE sync_streams_of_before;
