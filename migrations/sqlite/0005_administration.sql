-- What administrators set while docv2 runs.

-- Every state of the runtime configuration, the latest in force. `overrides` is all that was set at run time, over the
-- environment and the defaults; `changes` is what this version was asked to change.
CREATE TABLE configurations (
    version INTEGER PRIMARY KEY CHECK (version >= 1),
    changed_at REAL NOT NULL,
    changed_by TEXT NOT NULL,
    changes TEXT NOT NULL CHECK (json_valid(changes)),
    overrides TEXT NOT NULL CHECK (json_valid(overrides))
) STRICT;

-- When each user's documents were accepted, for the limits. Apart from the tasks, which may be removed before a day is
-- over. Two may come at the same moment, so there is no key to be unique.
CREATE TABLE submissions (
    user_id TEXT NOT NULL,
    submitted_at REAL NOT NULL
) STRICT;

CREATE INDEX submissions_of_user ON submissions (user_id, submitted_at);

CREATE INDEX tasks_waiting_of_user ON tasks (user_id) WHERE status = 'waiting';

-- A failed task may be tried again, at a place further back than the one it had.
DROP TRIGGER tasks_transition;
CREATE TRIGGER tasks_transition BEFORE UPDATE OF status ON tasks
WHEN old.status <> new.status AND (old.status, new.status) NOT IN (VALUES
    ('waiting', 'running'), ('waiting', 'failed'),
    ('running', 'waiting'), ('running', 'completed'), ('running', 'failed'))
    AND NOT (old.status = 'failed' AND new.status = 'waiting' AND new.place > old.place)
BEGIN
    SELECT raise(ABORT, 'a task cannot go from this status to that one');
END;
