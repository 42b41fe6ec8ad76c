-- The ground of one tenant's file. No row says whose it is: the file does.
-- Times are microseconds since 1970-01-01T00:00:00Z. Ids are text, with their prefix.

-- Whose file this is, so that no other tenant is ever served from it.
CREATE TABLE tenant (
    only      INTEGER NOT NULL,
    tenant_id TEXT    NOT NULL,
    CONSTRAINT tenant_pk PRIMARY KEY (only),
    CONSTRAINT tenant_only CHECK (only = 1)
) STRICT;

-- email is as it was verified, email_key the same in lower case.
CREATE TABLE members (
    sub               TEXT    NOT NULL,
    email             TEXT    NOT NULL,
    email_key         TEXT    NOT NULL,
    name              TEXT    NOT NULL,
    role              TEXT    NOT NULL,
    create_time       INTEGER NOT NULL,
    last_sign_in_time INTEGER,
    version           INTEGER NOT NULL DEFAULT 1,
    CONSTRAINT members_pk PRIMARY KEY (sub),
    CONSTRAINT members_role CHECK (role IN ('viewer', 'member', 'admin'))
) STRICT;

CREATE INDEX members_list ON members (create_time, sub);
CREATE INDEX members_email ON members (email_key);

-- That a pending one has expired is told by its time.
CREATE TABLE invitations (
    invitation_id TEXT    NOT NULL,
    email         TEXT    NOT NULL,
    role          TEXT    NOT NULL,
    status        TEXT    NOT NULL DEFAULT 'pending',
    inviter       TEXT    NOT NULL,
    code_hash     BLOB    NOT NULL,
    create_time   INTEGER NOT NULL,
    expire_time   INTEGER NOT NULL,
    CONSTRAINT invitations_pk PRIMARY KEY (invitation_id),
    CONSTRAINT invitations_code UNIQUE (code_hash),
    CONSTRAINT invitations_hash CHECK (length(code_hash) = 32),
    CONSTRAINT invitations_role CHECK (role IN ('viewer', 'member', 'admin')),
    CONSTRAINT invitations_status CHECK (status IN ('pending', 'accepted', 'withdrawn'))
) STRICT;

CREATE INDEX invitations_list ON invitations (create_time, invitation_id);
CREATE INDEX invitations_pending ON invitations (email, expire_time) WHERE status = 'pending';

-- Without a kit it is a draft.
CREATE TABLE stacks (
    stack_id    TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    kit_id      TEXT,
    kit_version TEXT,
    kit_digest  TEXT,
    spec_yaml   TEXT    NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    version     INTEGER NOT NULL DEFAULT 1,
    CONSTRAINT stacks_pk PRIMARY KEY (stack_id),
    CONSTRAINT stacks_name UNIQUE (name),
    CONSTRAINT stacks_kit CHECK (
        (kit_id IS NULL) = (kit_version IS NULL) AND (kit_id IS NULL) = (kit_digest IS NULL)),
    CONSTRAINT stacks_spec CHECK (octet_length(spec_yaml) <= 65536)
) STRICT;

CREATE INDEX stacks_list ON stacks (create_time, stack_id);

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
