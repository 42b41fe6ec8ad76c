-- The ground of an instance's own database, instance.db: what it holds beside its tenants' own data.
-- Times are microseconds since 1970-01-01T00:00:00Z. Ids are text, with their prefix.

-- Who this instance is.
CREATE TABLE identity (
    only        INTEGER NOT NULL,
    instance_id TEXT    NOT NULL,
    CONSTRAINT identity_pk PRIMARY KEY (only),
    CONSTRAINT identity_only CHECK (only = 1)
) STRICT;

-- The tenants as they were pushed last. What has no place here any more keeps its row and its file; what is erased loses
-- both, and is marked as erasing until its file is gone. dirty: the members in the tenant's file may be others than those
-- of the index. version counts the changes that Admin mirrors; what was never mirrored has no reported_version.
CREATE TABLE tenants (
    tenant_id        TEXT    NOT NULL,
    slug             TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    owner            TEXT    NOT NULL,
    plan             TEXT,
    plan_end_time    INTEGER,
    status           TEXT    NOT NULL,
    generation       INTEGER NOT NULL,
    founder          TEXT    NOT NULL,
    founder_email    TEXT    NOT NULL,
    founder_name     TEXT    NOT NULL,
    create_time      INTEGER NOT NULL,
    placed           INTEGER NOT NULL DEFAULT 1,
    erasing          INTEGER NOT NULL DEFAULT 0,
    dirty            INTEGER NOT NULL DEFAULT 0,
    version          INTEGER NOT NULL DEFAULT 0,
    reported_version INTEGER,
    stacks           INTEGER NOT NULL DEFAULT 0,
    storage_gb       INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT tenants_pk PRIMARY KEY (tenant_id),
    CONSTRAINT tenants_plan CHECK (plan IN ('free', 'pro', 'enterprise')),
    CONSTRAINT tenants_grant CHECK ((plan IS NULL) = (plan_end_time IS NULL)),
    CONSTRAINT tenants_status CHECK (status IN ('active', 'suspended', 'deleted')),
    CONSTRAINT tenants_generation CHECK (generation >= 1),
    CONSTRAINT tenants_placed CHECK (placed IN (0, 1)),
    CONSTRAINT tenants_erasing CHECK (erasing IN (0, 1) AND (erasing = 0 OR placed = 0)),
    CONSTRAINT tenants_dirty CHECK (dirty IN (0, 1))
) STRICT;

CREATE UNIQUE INDEX tenants_slug ON tenants (slug) WHERE placed = 1;

-- The members of every tenant, taken over from the tenants' files.
CREATE TABLE memberships (
    tenant_id   TEXT    NOT NULL,
    sub         TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    create_time INTEGER NOT NULL,
    CONSTRAINT memberships_pk PRIMARY KEY (tenant_id, sub),
    CONSTRAINT memberships_tenant FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT memberships_role CHECK (role IN ('viewer', 'member', 'admin'))
) STRICT;

CREATE INDEX memberships_of_user ON memberships (sub, tenant_id);
CREATE INDEX memberships_by_age ON memberships (tenant_id, create_time, sub);

-- Which tenant's file has the invitation with the code of that hash, if any has.
CREATE TABLE invitation_codes (
    code_hash BLOB NOT NULL,
    tenant_id TEXT NOT NULL,
    CONSTRAINT invitation_codes_pk PRIMARY KEY (code_hash),
    CONSTRAINT invitation_codes_tenant FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT invitation_codes_hash CHECK (length(code_hash) = 32)
) STRICT;

CREATE INDEX invitation_codes_of_tenant ON invitation_codes (tenant_id);

-- Up to which version Admin's pushes were applied.
CREATE TABLE held_versions (
    kind    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    CONSTRAINT held_versions_pk PRIMARY KEY (kind),
    CONSTRAINT held_versions_kind CHECK (kind IN ('tenants', 'revocations'))
) STRICT;

CREATE TABLE revocations (
    sub         TEXT    NOT NULL,
    revoke_time INTEGER NOT NULL,
    locked      INTEGER NOT NULL,
    CONSTRAINT revocations_pk PRIMARY KEY (sub),
    CONSTRAINT revocations_locked CHECK (locked IN (0, 1))
) STRICT;

-- The set of flags that is held. The maps are JSON objects.
CREATE TABLE flag_set (
    only          INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    definitions   TEXT    NOT NULL,
    plans         TEXT    NOT NULL,
    organisations TEXT    NOT NULL,
    overrides     TEXT    NOT NULL,
    apply_time    INTEGER NOT NULL,
    CONSTRAINT flag_set_pk PRIMARY KEY (only),
    CONSTRAINT flag_set_only CHECK (only = 1),
    CONSTRAINT flag_set_plans CHECK (json_valid(plans)),
    CONSTRAINT flag_set_organisations CHECK (json_valid(organisations)),
    CONSTRAINT flag_set_overrides CHECK (json_valid(overrides))
) STRICT;

-- token_hash is the SHA-256 of the token, roles a JSON array.
CREATE TABLE sessions (
    token_hash  BLOB    NOT NULL,
    tenant_id   TEXT    NOT NULL,
    sub         TEXT    NOT NULL,
    email       TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    owner       TEXT    NOT NULL,
    roles       TEXT    NOT NULL,
    auth_time   INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL,
    CONSTRAINT sessions_pk PRIMARY KEY (token_hash),
    CONSTRAINT sessions_tenant FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT sessions_hash CHECK (length(token_hash) = 32),
    CONSTRAINT sessions_roles CHECK (json_valid(roles))
) STRICT;

CREATE INDEX sessions_of_user ON sessions (sub, tenant_id);
CREATE INDEX sessions_of_tenant ON sessions (tenant_id);
CREATE INDEX sessions_age ON sessions (expire_time);

CREATE TABLE accounts (
    sub           TEXT NOT NULL,
    login         TEXT NOT NULL,
    name          TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    CONSTRAINT accounts_pk PRIMARY KEY (sub),
    CONSTRAINT accounts_login UNIQUE (login)
) STRICT;

-- What was done and refused. Rows are only ever added.
CREATE TABLE audit_events (
    event_id           TEXT    NOT NULL,
    create_time        INTEGER NOT NULL,
    actor_sub          TEXT,
    actor_service      TEXT,
    actor_impersonator TEXT,
    action             TEXT    NOT NULL,
    target             TEXT    NOT NULL,
    tenant_id          TEXT,
    ip                 TEXT    NOT NULL,
    user_agent         TEXT    NOT NULL,
    request_id         TEXT    NOT NULL,
    outcome            TEXT    NOT NULL,
    details            TEXT    NOT NULL,
    CONSTRAINT audit_events_pk PRIMARY KEY (event_id),
    CONSTRAINT audit_events_outcome CHECK (outcome IN ('done', 'refused')),
    CONSTRAINT audit_events_details CHECK (json_valid(details))
) STRICT;

CREATE INDEX audit_events_list ON audit_events (create_time, event_id);
CREATE INDEX audit_events_list_of_action ON audit_events (action, create_time, event_id);
CREATE INDEX audit_events_list_of_user ON audit_events (actor_sub, create_time, event_id);

CREATE TRIGGER audit_events_never_change BEFORE UPDATE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit_events: a row never changes');
END;

CREATE TRIGGER audit_events_never_go BEFORE DELETE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit_events: a row never goes');
END;

-- REPLACE takes a row away without asking the trigger above.
CREATE TRIGGER audit_events_are_never_replaced BEFORE INSERT ON audit_events
WHEN EXISTS (SELECT 1 FROM audit_events WHERE event_id = NEW.event_id)
BEGIN
    SELECT RAISE(ABORT, 'audit_events: a row is never replaced');
END;

-- What a caller promised to be a repeat, for 24 hours. tenant_id is '' where the method was called for none.
CREATE TABLE idempotency_records (
    caller      TEXT    NOT NULL,
    method      TEXT    NOT NULL,
    tenant_id   TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    digest      BLOB    NOT NULL,
    target_id   TEXT    NOT NULL,
    create_time INTEGER NOT NULL,
    CONSTRAINT idempotency_records_pk PRIMARY KEY (caller, method, tenant_id, key),
    CONSTRAINT idempotency_records_digest CHECK (length(digest) = 32)
) STRICT;

CREATE INDEX idempotency_records_age ON idempotency_records (create_time);
