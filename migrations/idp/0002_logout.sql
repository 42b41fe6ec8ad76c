-- A locked user cannot sign in.
ALTER TABLE users ADD COLUMN locked_time INTEGER;

-- Logout tokens that are to be delivered: a row is written in the transaction that ended the session.
CREATE TABLE logouts (
    logout_id   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    client_id   TEXT    NOT NULL,
    sub         TEXT    NOT NULL,
    sid         TEXT    NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    due_time    INTEGER NOT NULL, -- when the next try may be
    create_time INTEGER NOT NULL
) STRICT;
CREATE INDEX logouts_due ON logouts (due_time);

-- The clients that got tokens in a session.
CREATE TABLE session_clients (
    sid         TEXT    NOT NULL,
    client_id   TEXT    NOT NULL,
    sub         TEXT    NOT NULL,
    create_time INTEGER NOT NULL,
    PRIMARY KEY (sid, client_id)
) STRICT;
