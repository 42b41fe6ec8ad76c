-- How often a user changed, and when last: Zitadel tells both with every answer of its user API.
ALTER TABLE users ADD COLUMN sequence INTEGER NOT NULL DEFAULT 1;
ALTER TABLE users ADD COLUMN change_time INTEGER NOT NULL DEFAULT 0;
UPDATE users SET change_time = COALESCE(locked_time, create_time);
