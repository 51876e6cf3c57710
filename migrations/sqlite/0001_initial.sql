-- The durable queue, the accounts, and what was measured and learned.
-- Times are Unix seconds (UTC). Statements end at the end of a line. Never edit a released file: add the next one.

-- "docv2" to file(1), and how a database of another program is told from ours: 'docv' in ASCII.
PRAGMA application_id = 1685021558;

CREATE TABLE schema_migrations (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    applied_at REAL NOT NULL
) STRICT;

-- AUTOINCREMENT: a place is never given twice, so that the order of acceptance survives removals.
-- Short columns first, long text last: a scan that needs only the former does not read overflow pages.
CREATE TABLE tasks (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'completed', 'failed')),
    model TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    pages_done INTEGER NOT NULL DEFAULT 0 CHECK (pages_done >= 0),
    pages_total INTEGER CHECK (pages_total >= 0),
    not_before REAL NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    crashes INTEGER NOT NULL DEFAULT 0,
    upstream_failures INTEGER NOT NULL DEFAULT 0,
    stage TEXT CHECK (stage IN ('reading', 'asking', 'combining')),
    progress REAL NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
    created_at REAL NOT NULL,
    started_at REAL,
    claimed_at REAL,
    worked_seconds REAL NOT NULL DEFAULT 0,
    ended_at REAL,
    temperature REAL NOT NULL,
    max_tokens INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    filename TEXT NOT NULL,
    error_type TEXT,
    error TEXT,
    prompt TEXT NOT NULL,
    result TEXT CHECK (result IS NULL OR json_valid(result)),
    -- The work that it adds to the backlog while it waits: its bytes until it was opened, then the pages left.
    unread INTEGER NOT NULL AS (pages_total IS NULL),
    unread_bytes INTEGER NOT NULL AS (iif(pages_total IS NULL, size, 0)),
    -- A page is done when its answer is, and that is what progress counts.
    pages_left INTEGER NOT NULL AS (CAST(coalesce(pages_total, 0) * (100 - progress) / 100 + 0.5 AS INTEGER)),
    CHECK ((owner IS NOT NULL) = (status = 'running')),
    CHECK ((claimed_at IS NOT NULL) = (status = 'running')),
    CHECK ((ended_at IS NOT NULL) = (status IN ('completed', 'failed'))),
    CHECK ((result IS NOT NULL) = (status = 'completed')),
    CHECK ((error IS NOT NULL AND error_type IS NOT NULL) = (status = 'failed'))
) STRICT;

-- The claim: first place of each model. `not_before` is in it so that backed-off tasks are passed over within the index.
CREATE INDEX tasks_waiting ON tasks (model, place, not_before) WHERE status = 'waiting';
CREATE INDEX tasks_backed_off ON tasks (not_before) WHERE status = 'waiting' AND not_before > 0;
CREATE INDEX tasks_running ON tasks (place) WHERE status = 'running';
CREATE INDEX tasks_ended ON tasks (ended_at) WHERE ended_at IS NOT NULL;

-- The same table as tasks.TRANSITIONS, so that no statement, an operator's included, revives an ended task.
CREATE TRIGGER tasks_transition BEFORE UPDATE OF status ON tasks
WHEN old.status <> new.status AND (old.status, new.status) NOT IN (VALUES
    ('waiting', 'running'), ('waiting', 'failed'),
    ('running', 'waiting'), ('running', 'completed'), ('running', 'failed'))
BEGIN
    SELECT raise(ABORT, 'a task cannot go from this status to that one');
END;

-- Waiting work, summed by blocks of 2048 places: the rank of a task and the work before it then cost a look at the
-- sums and at one block of tasks instead of at every task. Kept by triggers, so that it is right whoever writes.
CREATE TABLE backlog (
    bucket INTEGER NOT NULL,
    model TEXT NOT NULL,
    media_type TEXT NOT NULL,
    tasks INTEGER NOT NULL,
    unread INTEGER NOT NULL,
    unread_bytes INTEGER NOT NULL,
    pages INTEGER NOT NULL,
    PRIMARY KEY (bucket, model, media_type)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER backlog_insert AFTER INSERT ON tasks WHEN new.status = 'waiting'
BEGIN
    INSERT INTO backlog
    VALUES (new.place / 2048, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left)
    ON CONFLICT DO UPDATE SET
        tasks = tasks + 1, unread = unread + excluded.unread, unread_bytes = unread_bytes + excluded.unread_bytes,
        pages = pages + excluded.pages;
END;

CREATE TRIGGER backlog_delete AFTER DELETE ON tasks WHEN old.status = 'waiting'
BEGIN
    UPDATE backlog SET
        tasks = tasks - 1, unread = unread - old.unread, unread_bytes = unread_bytes - old.unread_bytes,
        pages = pages - old.pages_left
    WHERE bucket = old.place / 2048 AND model = old.model AND media_type = old.media_type;
    DELETE FROM backlog
    WHERE bucket = old.place / 2048 AND model = old.model AND media_type = old.media_type AND tasks = 0;
END;

CREATE TRIGGER backlog_leave AFTER UPDATE ON tasks WHEN old.status = 'waiting'
BEGIN
    UPDATE backlog SET
        tasks = tasks - 1, unread = unread - old.unread, unread_bytes = unread_bytes - old.unread_bytes,
        pages = pages - old.pages_left
    WHERE bucket = old.place / 2048 AND model = old.model AND media_type = old.media_type;
    DELETE FROM backlog
    WHERE bucket = old.place / 2048 AND model = old.model AND media_type = old.media_type AND tasks = 0;
END;

CREATE TRIGGER backlog_return AFTER UPDATE ON tasks WHEN new.status = 'waiting'
BEGIN
    INSERT INTO backlog
    VALUES (new.place / 2048, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left)
    ON CONFLICT DO UPDATE SET
        tasks = tasks + 1, unread = unread + excluded.unread, unread_bytes = unread_bytes + excluded.unread_bytes,
        pages = pages + excluded.pages;
END;

CREATE TABLE pages (
    task_id TEXT NOT NULL REFERENCES tasks (task_id) ON DELETE CASCADE,
    number INTEGER NOT NULL CHECK (number >= 1),
    source TEXT NOT NULL CHECK (source IN ('text', 'picture', 'both', 'none')),
    reason TEXT NOT NULL,
    chars INTEGER NOT NULL,
    picture_width INTEGER NOT NULL,
    picture_height INTEGER NOT NULL,
    PRIMARY KEY (task_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE parts (
    task_id TEXT NOT NULL REFERENCES tasks (task_id) ON DELETE CASCADE,
    level INTEGER NOT NULL,
    number INTEGER NOT NULL,
    scope TEXT NOT NULL,
    whole_pages INTEGER NOT NULL CHECK (whole_pages IN (0, 1)),
    first_page INTEGER NOT NULL,
    last_page INTEGER NOT NULL,
    model TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    notes TEXT NOT NULL CHECK (json_valid(notes)),
    content TEXT NOT NULL,
    PRIMARY KEY (task_id, level, scope)
) STRICT;

-- NOCASE: an e-mail address is one account, however it is typed.
CREATE TABLE users (
    user_id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL COLLATE NOCASE UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('user', 'admin')),
    active INTEGER NOT NULL CHECK (active IN (0, 1)),
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE api_keys (
    key_id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    sha256 TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    last_used_at REAL,
    revoked_at REAL
) STRICT;

CREATE INDEX api_keys_user ON api_keys (user_id);

-- Fading sums; the mean is total / pages.
CREATE TABLE measurements (
    kind TEXT NOT NULL CHECK (kind IN ('seconds', 'bytes')),
    name TEXT NOT NULL,
    pages REAL NOT NULL,
    total REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE notes (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL CHECK (json_valid(value)),
    updated_at REAL NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

-- For people at the sqlite3 shell (3.40 and later). Times end in Z: UTC.

CREATE VIEW queue AS
SELECT
    row_number() OVER (ORDER BY place) AS position,
    task_id,
    user_id,
    model,
    media_type,
    round(size / 1048576.0, 2) AS megabytes,
    pages_done || '/' || coalesce(pages_total, '?') AS pages,
    strftime('%Y-%m-%d %H:%M:%SZ', created_at, 'unixepoch') AS accepted,
    CAST(strftime('%s', 'now') - created_at AS INTEGER) AS waiting_seconds,
    iif(not_before > strftime('%s', 'now') + 0, strftime('%Y-%m-%d %H:%M:%SZ', not_before, 'unixepoch'), NULL)
        AS retried_at,
    attempt AS attempts,
    crashes,
    upstream_failures,
    filename
FROM tasks WHERE status = 'waiting'
ORDER BY place;

CREATE VIEW running AS
SELECT
    task_id,
    user_id,
    model,
    stage,
    round(progress, 1) AS percent,
    pages_done || '/' || coalesce(pages_total, '?') AS pages,
    strftime('%Y-%m-%d %H:%M:%SZ', created_at, 'unixepoch') AS accepted,
    strftime('%Y-%m-%d %H:%M:%SZ', claimed_at, 'unixepoch') AS claimed,
    CAST(strftime('%s', 'now') - claimed_at + worked_seconds AS INTEGER) AS worked_seconds,
    attempt,
    crashes,
    owner,
    filename
FROM tasks WHERE status = 'running'
ORDER BY place;

CREATE VIEW failures AS
SELECT
    strftime('%Y-%m-%d %H:%M:%SZ', ended_at, 'unixepoch') AS failed,
    task_id,
    user_id,
    model,
    stage,
    error_type,
    error,
    attempt AS attempts,
    crashes,
    upstream_failures,
    filename
FROM tasks WHERE status = 'failed'
ORDER BY ended_at DESC;

CREATE VIEW throughput AS
SELECT
    strftime('%Y-%m-%d %H:00Z', ended_at, 'unixepoch') AS hour,
    sum(status = 'completed') AS completed,
    sum(status = 'failed') AS failed,
    sum(pages_done) AS pages,
    round(avg(started_at - created_at), 1) AS mean_seconds_waiting,
    round(avg(worked_seconds), 1) AS mean_seconds_worked
FROM tasks WHERE ended_at IS NOT NULL
GROUP BY hour
ORDER BY hour DESC;
