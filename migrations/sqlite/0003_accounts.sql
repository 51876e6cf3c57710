-- Sign-in, a key that users look after themselves, lists of own tasks, and requests that may be sent twice.

-- argon2id in its usual text form; NULL where no password was set.
ALTER TABLE users ADD COLUMN password TEXT;
-- Goes into every token of the user and must still be the same when one comes back.
ALTER TABLE users ADD COLUMN session_stamp TEXT NOT NULL DEFAULT '';

-- A changed password and a lost or regained account end all sessions, whoever writes it.
CREATE TRIGGER users_end_sessions AFTER UPDATE OF password, active ON users
WHEN new.password IS NOT old.password OR new.active <> old.active
BEGIN
    UPDATE users SET session_stamp = lower(hex(randomblob(16))) WHERE user_id = new.user_id;
END;

-- The one key that users make, replace and remove themselves; those made for them are not theirs to replace.
ALTER TABLE api_keys ADD COLUMN own INTEGER NOT NULL DEFAULT 0 CHECK (own IN (0, 1));
CREATE UNIQUE INDEX api_keys_own ON api_keys (user_id) WHERE own = 1 AND revoked_at IS NULL;

-- `status` is in it so that a filtered list passes over the others within the index.
CREATE INDEX tasks_of_user ON tasks (user_id, place, status);

-- Which task a request became, so that the same one sent again becomes no second task. Goes with its task.
CREATE TABLE idempotency_keys (
    user_id TEXT NOT NULL,
    key TEXT NOT NULL,
    request_sha256 TEXT NOT NULL,
    task_id TEXT NOT NULL UNIQUE REFERENCES tasks (task_id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, key)
) STRICT, WITHOUT ROWID;
