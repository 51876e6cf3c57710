-- Documents in depth: how pages are read, the form of answers, the ledger of pages, and estimates held against the truth.

ALTER TABLE tasks ADD COLUMN detail TEXT NOT NULL DEFAULT 'auto' CHECK (detail IN ('auto', 'text', 'image'));
-- As OpenAI has it: {"type": "json_schema", "json_schema": {…}} or {"type": "json_object"}.
ALTER TABLE tasks ADD COLUMN response_format TEXT CHECK (response_format IS NULL OR json_valid(response_format));
-- What was expected at acceptance: seconds until it starts, and from there to its end.
ALTER TABLE tasks ADD COLUMN estimated_wait REAL;
ALTER TABLE tasks ADD COLUMN estimated_work REAL;

-- The ledger: what a model was given of a page ('none': only that it could not be read), which model, in how many
-- calls, the page's share of the tokens that the endpoint counted, and how the answer ended.
ALTER TABLE pages ADD COLUMN used TEXT CHECK (used IN ('text', 'picture', 'both', 'none'));
ALTER TABLE pages ADD COLUMN model TEXT;
ALTER TABLE pages ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pages ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pages ADD COLUMN finish_reason TEXT;

-- A part covers the text from a byte of its first page to a byte of its last one, so that what it covers means the same
-- in every later plan. Pieces and combinations told in the older way are asked for again.
DELETE FROM parts WHERE level > 0 OR whole_pages = 0;
ALTER TABLE parts DROP COLUMN whole_pages;
ALTER TABLE parts DROP COLUMN number;
ALTER TABLE parts ADD COLUMN first_byte INTEGER NOT NULL DEFAULT 0;
ALTER TABLE parts ADD COLUMN last_byte INTEGER;

-- Fading sums over pairs, from which both a mean and a line through the points can be told. What was measured before
-- held means alone, and is measured again within minutes.
DROP TABLE measurements;
CREATE TABLE measurements (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    weight REAL NOT NULL,
    x REAL NOT NULL,
    y REAL NOT NULL,
    xx REAL NOT NULL,
    xy REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- How far off the estimate given at acceptance was: above 0 the task took longer.
CREATE VIEW estimates AS
SELECT
    strftime('%Y-%m-%d %H:%M:%SZ', ended_at, 'unixepoch') AS ended,
    task_id,
    model,
    media_type,
    pages_total AS pages,
    round(estimated_wait, 1) AS estimated_wait,
    round(started_at - created_at, 1) AS waited,
    round(estimated_work, 1) AS estimated_work,
    round(ended_at - started_at, 1) AS worked,
    CAST(round(100 * ((ended_at - created_at) / (estimated_wait + estimated_work) - 1)) AS INTEGER) AS error_percent
FROM tasks WHERE status = 'completed' AND estimated_wait + estimated_work > 0
ORDER BY ended_at DESC;
