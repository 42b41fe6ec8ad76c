-- The hand-off: what Admin decides, and how it comes to the modules; how the modules are.

-- Only its own Stack knows the secret behind the hash. An instance of before has none: nobody can claim it.
ALTER TABLE instances ADD COLUMN join_secret_hash BLOB
    CONSTRAINT instances_join_secret_hash CHECK (length(join_secret_hash) = 32);
ALTER TABLE instances ADD COLUMN maintenance INTEGER NOT NULL DEFAULT 0
    CONSTRAINT instances_maintenance CHECK (maintenance IN (0, 1));

-- A slug is unique for ever: the row stays, whatever becomes of the tenant. Of an erased one nothing stays that says
-- whose it was, so that its owner may have another.
ALTER TABLE memberships RENAME TO memberships_of_before;
ALTER TABLE tenants RENAME TO tenants_of_before;

CREATE TABLE tenants (
    tenant_id        TEXT    NOT NULL,
    slug             TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    owner            TEXT,
    founder          TEXT,
    instance_id      TEXT    NOT NULL,
    generation       INTEGER NOT NULL DEFAULT 1,
    status           TEXT    NOT NULL,
    status_before    TEXT,
    erase_time       INTEGER,
    reported_version INTEGER NOT NULL DEFAULT 0,
    stacks           INTEGER NOT NULL DEFAULT 0,
    storage_gb       INTEGER NOT NULL DEFAULT 0,
    create_time      INTEGER NOT NULL,
    version          INTEGER NOT NULL DEFAULT 1,
    CONSTRAINT tenants_pk PRIMARY KEY (tenant_id),
    CONSTRAINT tenants_slug UNIQUE (slug),
    CONSTRAINT tenants_owner UNIQUE (owner),
    CONSTRAINT tenants_owner_is_there FOREIGN KEY (owner) REFERENCES organisations (org_id),
    CONSTRAINT tenants_instance_is_there FOREIGN KEY (instance_id) REFERENCES instances (instance_id),
    CONSTRAINT tenants_generation CHECK (generation >= 1),
    CONSTRAINT tenants_status CHECK (status IN ('creating', 'active', 'suspended', 'deleted', 'erasing', 'erased')),
    CONSTRAINT tenants_status_before CHECK (status_before IN ('creating', 'active', 'suspended')),
    CONSTRAINT tenants_deletion CHECK (
        (status = 'deleted') = (status_before IS NOT NULL)
        AND (status IN ('deleted', 'erasing', 'erased')) = (erase_time IS NOT NULL)),
    CONSTRAINT tenants_erasure CHECK (
        (status = 'erased') = (owner IS NULL)
        AND (status = 'erased') = (founder IS NULL)
        AND (status = 'erased') = (name = ''))
) STRICT;

CREATE TABLE memberships (
    tenant_id TEXT NOT NULL,
    sub       TEXT NOT NULL,
    role      TEXT NOT NULL,
    CONSTRAINT memberships_pk PRIMARY KEY (tenant_id, sub),
    CONSTRAINT memberships_tenant FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT memberships_role CHECK (role IN ('viewer', 'member', 'admin'))
) STRICT;

-- Of before, a tenant has one member: who created it. Its instance gets it with the first snapshot.
INSERT INTO tenants (tenant_id, slug, name, owner, founder, instance_id, status, create_time, version)
SELECT tenant_id, slug, name, owner,
       (SELECT sub
          FROM memberships_of_before
         WHERE memberships_of_before.tenant_id = tenants_of_before.tenant_id AND role = 'admin'
         ORDER BY sub
         LIMIT 1),
       instance_id, 'active', create_time, version
  FROM tenants_of_before;

INSERT INTO memberships (tenant_id, sub, role)
SELECT tenant_id, sub, role
  FROM memberships_of_before;

DROP TABLE memberships_of_before;
DROP TABLE tenants_of_before;

CREATE INDEX tenants_list ON tenants (create_time, tenant_id);
CREATE INDEX tenants_of_instance ON tenants (instance_id, tenant_id);
CREATE INDEX tenants_erasable ON tenants (erase_time, tenant_id) WHERE status = 'deleted';
CREATE INDEX memberships_of_user ON memberships (sub, tenant_id);

-- That a subject changed, for one module that has to know: 'service:<module>/<instance>'. Numbers are given once, also
-- when the row is gone: they are the versions that modules acknowledge.
CREATE TABLE outbox (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    module      TEXT    NOT NULL,
    instance    TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    create_time INTEGER NOT NULL,
    CONSTRAINT outbox_kind CHECK (kind IN ('tenants', 'revocations'))
) STRICT;

CREATE INDEX outbox_of_stream ON outbox (module, instance, kind, seq);
CREATE INDEX outbox_of_subject ON outbox (kind, subject, seq);

-- How far a module has one kind. A snapshot under way has a version from its first page on; snapshot_last says that its
-- last page was given out.
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
    CONSTRAINT sync_streams_kind CHECK (kind IN ('flags', 'tenants', 'revocations')),
    CONSTRAINT sync_streams_snapshot_due CHECK (snapshot_due IN (0, 1)),
    CONSTRAINT sync_streams_snapshot CHECK (snapshot_due = 1 OR snapshot_version IS NULL),
    CONSTRAINT sync_streams_snapshot_last CHECK (snapshot_last IN (0, 1))
) STRICT;

-- version: who has acknowledged it knows the row as it is.
CREATE TABLE revocations (
    sub         TEXT    NOT NULL,
    revoke_time INTEGER NOT NULL,
    locked      INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    CONSTRAINT revocations_pk PRIMARY KEY (sub),
    CONSTRAINT revocations_user FOREIGN KEY (sub) REFERENCES users (sub),
    CONSTRAINT revocations_locked CHECK (locked IN (0, 1))
) STRICT;

-- roles is a JSON array.
CREATE TABLE launch_codes (
    hash        BLOB    NOT NULL,
    tenant_id   TEXT    NOT NULL,
    instance_id TEXT    NOT NULL,
    sub         TEXT    NOT NULL,
    owner       TEXT    NOT NULL,
    roles       TEXT    NOT NULL,
    challenge   BLOB,
    auth_time   INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL,
    used_time   INTEGER,
    CONSTRAINT launch_codes_pk PRIMARY KEY (hash),
    CONSTRAINT launch_codes_tenant FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT launch_codes_hash CHECK (length(hash) = 32),
    CONSTRAINT launch_codes_challenge CHECK (length(challenge) = 32),
    CONSTRAINT launch_codes_roles CHECK (json_valid(roles))
) STRICT;

CREATE INDEX launch_codes_age ON launch_codes (expire_time);
CREATE INDEX launch_codes_of_tenant ON launch_codes (tenant_id);

-- The one row says which version of the whole set of flags, overrides and entitlements there is.
CREATE TABLE flag_set (
    one     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    CONSTRAINT flag_set_pk PRIMARY KEY (one),
    CONSTRAINT flag_set_one CHECK (one = 1)
) STRICT;

INSERT INTO flag_set (one, version) VALUES (1, 0);

-- version: that of the set in which the flag got its definition.
CREATE TABLE flags (
    key         TEXT    NOT NULL,
    definition  TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    CONSTRAINT flags_pk PRIMARY KEY (key),
    CONSTRAINT flags_definition CHECK (json_valid(definition))
) STRICT;

CREATE INDEX flags_list ON flags (create_time, key);

-- One row a version. subject is a flag's key, or has a space in it, which no key has.
CREATE TABLE flag_changes (
    version     INTEGER NOT NULL,
    subject     TEXT    NOT NULL,
    before_json TEXT    NOT NULL,
    after_json  TEXT    NOT NULL,
    sub         TEXT,
    reason      TEXT    NOT NULL,
    create_time INTEGER NOT NULL,
    CONSTRAINT flag_changes_pk PRIMARY KEY (version)
) STRICT;

CREATE INDEX flag_changes_list ON flag_changes (create_time, version);
CREATE INDEX flag_changes_list_of_subject ON flag_changes (subject, create_time, version);

CREATE TABLE flag_overrides (
    sub   TEXT NOT NULL,
    flags TEXT NOT NULL,
    CONSTRAINT flag_overrides_pk PRIMARY KEY (sub),
    CONSTRAINT flag_overrides_flags CHECK (json_valid(flags))
) STRICT;

-- entitlements is a JSON array, sorted.
CREATE TABLE entitlements (
    kind         TEXT    NOT NULL,
    owner        TEXT    NOT NULL,
    entitlements TEXT    NOT NULL,
    create_time  INTEGER NOT NULL,
    CONSTRAINT entitlements_pk PRIMARY KEY (kind, owner),
    CONSTRAINT entitlements_kind CHECK (kind IN ('plan', 'organisation')),
    CONSTRAINT entitlements_entitlements CHECK (json_valid(entitlements))
) STRICT;

CREATE INDEX entitlements_list ON entitlements (create_time, kind, owner);

-- The last report of each module, and the state that follows from its reports.
CREATE TABLE health (
    module           TEXT    NOT NULL,
    instance         TEXT    NOT NULL,
    boot_id          TEXT    NOT NULL,
    sequence         INTEGER NOT NULL,
    reported         TEXT    NOT NULL,
    database         TEXT    NOT NULL,
    api              TEXT    NOT NULL,
    agents           TEXT    NOT NULL,
    cpu_percent      INTEGER NOT NULL,
    memory_percent   INTEGER NOT NULL,
    storage_percent  INTEGER NOT NULL,
    reported_tenants INTEGER NOT NULL,
    reported_agents  INTEGER NOT NULL,
    software_version TEXT    NOT NULL,
    report_time      INTEGER NOT NULL,
    state            TEXT    NOT NULL,
    state_time       INTEGER NOT NULL,
    streak           INTEGER NOT NULL,
    CONSTRAINT health_pk PRIMARY KEY (module, instance)
) STRICT;

CREATE TABLE health_events (
    event_id         INTEGER PRIMARY KEY AUTOINCREMENT,
    module           TEXT    NOT NULL,
    instance         TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    cpu_percent      INTEGER NOT NULL,
    memory_percent   INTEGER NOT NULL,
    storage_percent  INTEGER NOT NULL,
    reported_tenants INTEGER NOT NULL,
    reported_agents  INTEGER NOT NULL,
    create_time      INTEGER NOT NULL
) STRICT;

CREATE INDEX health_events_list ON health_events (module, instance, create_time, event_id);
CREATE INDEX health_events_age ON health_events (create_time);
