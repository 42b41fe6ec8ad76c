-- The ground of the platform's database.
-- Times are microseconds since 1970-01-01T00:00:00Z. Ids are text, with their prefix.

CREATE TABLE organisations (
    org_id        TEXT    NOT NULL,
    plan          TEXT,
    plan_end_time INTEGER,
    create_time   INTEGER NOT NULL,
    CONSTRAINT organisations_pk PRIMARY KEY (org_id),
    CONSTRAINT organisations_plan CHECK (plan IN ('free', 'pro', 'enterprise')),
    CONSTRAINT organisations_grant CHECK ((plan IS NULL) = (plan_end_time IS NULL))
) STRICT;

-- email, name and picture are the identity provider's; display_name to email_notices are what the user set here.
CREATE TABLE users (
    sub           TEXT    NOT NULL,
    owner         TEXT    NOT NULL,
    email         TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    picture       TEXT    NOT NULL,
    display_name  TEXT    NOT NULL DEFAULT '',
    avatar_url    TEXT    NOT NULL DEFAULT '',
    locale        TEXT    NOT NULL DEFAULT '',
    timezone      TEXT    NOT NULL DEFAULT '',
    theme         TEXT,
    email_notices INTEGER NOT NULL DEFAULT 0,
    identity_time INTEGER NOT NULL,
    create_time   INTEGER NOT NULL,
    update_time   INTEGER NOT NULL,
    version       INTEGER NOT NULL DEFAULT 1,
    CONSTRAINT users_pk PRIMARY KEY (sub),
    CONSTRAINT users_owner FOREIGN KEY (owner) REFERENCES organisations (org_id),
    CONSTRAINT users_theme CHECK (theme IN ('light', 'dark', 'system')),
    CONSTRAINT users_email_notices CHECK (email_notices IN (0, 1))
) STRICT;

CREATE INDEX users_list ON users (create_time, sub);

-- A removed instance keeps its row, for those that refer to it, and frees its name.
CREATE TABLE instances (
    instance_id       TEXT    NOT NULL,
    name              TEXT    NOT NULL,
    region            TEXT    NOT NULL,
    mode              TEXT    NOT NULL,
    status            TEXT    NOT NULL,
    max_tenants       INTEGER NOT NULL,
    tenant_count      INTEGER NOT NULL DEFAULT 0,
    internal_endpoint TEXT    NOT NULL,
    public_endpoint   TEXT    NOT NULL,
    create_time       INTEGER NOT NULL,
    version           INTEGER NOT NULL DEFAULT 1,
    CONSTRAINT instances_pk PRIMARY KEY (instance_id),
    CONSTRAINT instances_mode CHECK (mode IN ('shared', 'dedicated')),
    CONSTRAINT instances_status CHECK (status IN ('active', 'draining', 'deleted')),
    CONSTRAINT instances_max_tenants CHECK (max_tenants >= 1 AND (mode = 'shared' OR max_tenants = 1)),
    CONSTRAINT instances_tenant_count CHECK (tenant_count BETWEEN 0 AND max_tenants)
) STRICT;

CREATE UNIQUE INDEX instances_name ON instances (name) WHERE status <> 'deleted';
CREATE INDEX instances_list ON instances (create_time, instance_id);
CREATE INDEX instances_placement ON instances (region, tenant_count, create_time, instance_id)
    WHERE status = 'active' AND mode = 'shared';

-- A slug is unique for ever: the row stays, whatever becomes of the tenant.
CREATE TABLE tenants (
    tenant_id   TEXT    NOT NULL,
    slug        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    owner       TEXT    NOT NULL,
    instance_id TEXT    NOT NULL,
    create_time INTEGER NOT NULL,
    version     INTEGER NOT NULL DEFAULT 1,
    CONSTRAINT tenants_pk PRIMARY KEY (tenant_id),
    CONSTRAINT tenants_slug UNIQUE (slug),
    CONSTRAINT tenants_owner UNIQUE (owner),
    CONSTRAINT tenants_owner_is_there FOREIGN KEY (owner) REFERENCES organisations (org_id),
    CONSTRAINT tenants_instance_is_there FOREIGN KEY (instance_id) REFERENCES instances (instance_id)
) STRICT;

CREATE INDEX tenants_list ON tenants (create_time, tenant_id);

CREATE TABLE memberships (
    tenant_id TEXT NOT NULL,
    sub       TEXT NOT NULL,
    role      TEXT NOT NULL,
    CONSTRAINT memberships_pk PRIMARY KEY (tenant_id, sub),
    CONSTRAINT memberships_tenant FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT memberships_role CHECK (role IN ('viewer', 'member', 'admin'))
) STRICT;

CREATE INDEX memberships_of_user ON memberships (sub, tenant_id);

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
CREATE INDEX audit_events_list_of_tenant ON audit_events (tenant_id, create_time, event_id);

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

CREATE TABLE mesh_keys (
    module      TEXT    NOT NULL,
    instance    TEXT    NOT NULL,
    kid         TEXT    NOT NULL,
    public_key  TEXT    NOT NULL,
    create_time INTEGER NOT NULL,
    CONSTRAINT mesh_keys_pk PRIMARY KEY (module, instance),
    CONSTRAINT mesh_keys_kid UNIQUE (kid)
) STRICT;
