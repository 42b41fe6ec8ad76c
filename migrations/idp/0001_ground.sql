-- The development identity provider. Times are milliseconds since 1970, UTC; hashes are SHA-256.

CREATE TABLE users (
    sub           TEXT    NOT NULL PRIMARY KEY,
    login         TEXT    NOT NULL UNIQUE, -- lower case
    email         TEXT    NOT NULL UNIQUE, -- lower case
    name          TEXT    NOT NULL,
    org           TEXT    NOT NULL,
    password_hash TEXT    NOT NULL, -- argon2id, as a PHC string
    create_time   INTEGER NOT NULL
) STRICT;

CREATE TABLE user_roles (
    sub  TEXT NOT NULL REFERENCES users (sub) ON DELETE CASCADE,
    role TEXT NOT NULL,
    org  TEXT NOT NULL, -- the granting organisation
    PRIMARY KEY (sub, role, org)
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    seq        INTEGER NOT NULL PRIMARY KEY,
    kid        TEXT    NOT NULL UNIQUE,
    alg        TEXT    NOT NULL CHECK (alg IN ('RS256', 'ES256', 'EdDSA')),
    pkcs8      BLOB    NOT NULL,
    signs_time INTEGER NOT NULL -- published before, signs from then on
) STRICT;

-- Authorization requests that wait for a sign-in.
CREATE TABLE requests (
    request_hash BLOB    NOT NULL PRIMARY KEY,
    client_id    TEXT    NOT NULL,
    redirect_uri TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    challenge    TEXT    NOT NULL,
    state        TEXT,
    nonce        TEXT,
    login_hint   TEXT,
    create_time  INTEGER NOT NULL,
    expire_time  INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    session_hash BLOB    NOT NULL PRIMARY KEY,
    sid          TEXT    NOT NULL UNIQUE, -- names the session in ID tokens
    sub          TEXT    NOT NULL REFERENCES users (sub) ON DELETE CASCADE,
    auth_time    INTEGER NOT NULL,
    create_time  INTEGER NOT NULL,
    expire_time  INTEGER NOT NULL
) STRICT;

-- A used code stays for a while: its second use must be told from nonsense.
CREATE TABLE codes (
    code_hash    BLOB    NOT NULL PRIMARY KEY,
    client_id    TEXT    NOT NULL,
    redirect_uri TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    challenge    TEXT    NOT NULL,
    nonce        TEXT,
    sid          TEXT    NOT NULL,
    sub          TEXT    NOT NULL REFERENCES users (sub) ON DELETE CASCADE,
    auth_time    INTEGER NOT NULL,
    create_time  INTEGER NOT NULL,
    expire_time  INTEGER NOT NULL,
    used_time    INTEGER,
    grant_id     TEXT -- what the first use gave
) STRICT;
CREATE INDEX codes_sid ON codes (sid);

-- What a redeemed code gave: access tokens name it, a family of refresh tokens is one row of it.
CREATE TABLE grants (
    grant_id     TEXT    NOT NULL PRIMARY KEY,
    sub          TEXT    NOT NULL REFERENCES users (sub) ON DELETE CASCADE,
    client_id    TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    sid          TEXT    NOT NULL,
    auth_time    INTEGER NOT NULL,
    family_hash  BLOB UNIQUE, -- absent without offline_access
    refresh_hash BLOB, -- the one refresh token of the family that is good
    create_time  INTEGER NOT NULL,
    expire_time  INTEGER NOT NULL
) STRICT;
CREATE INDEX grants_sid ON grants (sid);
