-- Whether the instance of a tenant has ever taken it: one that it refuses at first never was.
ALTER TABLE tenants ADD COLUMN taken INTEGER NOT NULL DEFAULT 0;
UPDATE tenants SET taken = 1 WHERE status <> 'creating';
