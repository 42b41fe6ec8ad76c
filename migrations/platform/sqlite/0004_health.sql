-- The boot before the present one: what is left of its reports may come late. And whether the silence of a module is in the
-- history.
ALTER TABLE health ADD COLUMN earlier_boot_id TEXT NOT NULL DEFAULT '';
ALTER TABLE health ADD COLUMN silence_noted INTEGER NOT NULL DEFAULT 0;
