-- When the invitation of a code is over: then the code leads nowhere, and goes. Of those of before nothing is known.
ALTER TABLE invitation_codes ADD COLUMN expire_time INTEGER;
CREATE INDEX invitation_codes_by_expiry ON invitation_codes (expire_time);
