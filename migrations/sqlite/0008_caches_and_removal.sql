-- Answers that may be given again, and the removal of all that one user has.

-- Whether only a fresh answer will do.
ALTER TABLE tasks ADD COLUMN fresh INTEGER NOT NULL DEFAULT 0 CHECK (fresh IN (0, 1));

-- Which task holds the answer to a question; the key is made of all that the answer follows from. Goes with its task.
CREATE TABLE answers (
    key TEXT NOT NULL PRIMARY KEY,
    task_id TEXT NOT NULL UNIQUE REFERENCES tasks (task_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Tasks that were removed before their files: written with the removal, so that no crash forgets the files.
CREATE TABLE leftovers (
    task_id TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
