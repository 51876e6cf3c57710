-- Every statement of the SQLite store by name, each with the reason for its shape. Times are parameters, so that one
-- clock rules. {task} stands for the columns of a task in their order, {listed_task} for them without the answer, {rank}
-- for the part of that name. tests/unit/test_store_sqlite.py pins how little the hot ones look at.

-- name: enqueue
-- The place is the row id: handed out under the write lock, so the order of places is the order of acceptance.
INSERT INTO tasks
    (task_id, user_id, filename, media_type, size, sha256, prompt, model, temperature, max_tokens, detail,
     response_format, fresh, estimated_wait, estimated_work, created_at)
VALUES
    (:task_id, :user_id, :filename, :media_type, :size, :sha256, :prompt, :model, :temperature, :max_tokens, :detail,
     :response_format, :fresh, :estimated_wait, :estimated_work, :now)
ON CONFLICT (task_id) DO NOTHING
RETURNING {task}

-- name: get
-- A point read by the unique index: status polls are the most frequent call of all.
SELECT {task} FROM tasks WHERE task_id = :task_id

-- name: same_request
-- What a request under this key became, and its fingerprint.
SELECT {task}, idempotency_keys.request_sha256
FROM idempotency_keys JOIN tasks ON tasks.task_id = idempotency_keys.task_id
WHERE idempotency_keys.user_id = :user_id AND idempotency_keys.key = :key

-- name: keep_request
-- In the transaction of its enqueue.
INSERT INTO idempotency_keys (user_id, key, request_sha256, task_id) VALUES (:user_id, :key, :request_sha256, :task_id)

-- name: tasks_of
-- Walks the user's part of one index backwards from the last place seen, so that a page costs the same wherever it is.
-- Answers can be long and are not listed.
SELECT
    {listed_task},
    iif(tasks.status = 'waiting', {rank}, NULL) AS position
FROM tasks INDEXED BY tasks_of_user
WHERE user_id = :user_id AND place < :before AND (:status IS NULL OR status = :status)
ORDER BY place DESC LIMIT :limit

-- name: known
-- The ids as one JSON array, so that any number of them is one statement.
SELECT {task} FROM tasks WHERE task_id IN (SELECT value FROM json_each(:task_ids))

-- name: claim
-- One statement, so that no two claimers can take the same task. `models` steps from model to model through the index
-- and each one's first task is one more step, so that 100,000 tasks of a blocked model are not even looked at.
UPDATE tasks SET
    status = 'running', owner = :owner, attempt = attempt + 1, stage = 'reading', claimed_at = :now,
    started_at = coalesce(started_at, :now)
WHERE place = (
    WITH RECURSIVE models (model) AS (
        SELECT min(model) FROM tasks WHERE status = 'waiting'
        UNION ALL
        SELECT (SELECT min(model) FROM tasks WHERE status = 'waiting' AND model > models.model)
        FROM models WHERE model IS NOT NULL
    )
    SELECT min((
        SELECT place FROM tasks
        WHERE status = 'waiting' AND model = models.model AND not_before <= :now
        ORDER BY place LIMIT 1
    ))
    FROM models WHERE model NOT IN (SELECT value FROM json_each(:blocked_models))
)
RETURNING {task}

-- name: next_retry
-- Reads one entry of an index that holds the backed-off tasks alone.
SELECT min(not_before) FROM tasks WHERE status = 'waiting' AND not_before > :now AND not_before > 0

-- name: release
-- The place stays as it was; that is all it takes to return to it.
UPDATE tasks SET
    status = 'waiting', owner = NULL, claimed_at = NULL, stage = NULL, not_before = :not_before,
    upstream_failures = upstream_failures + :upstream_failed,
    worked_seconds = worked_seconds + max(:now - claimed_at, 0)
WHERE task_id = :task_id AND attempt = :attempt AND owner = :owner AND status = 'running'

-- name: report
-- max(): what was said once is never taken back, also when a task is read anew.
UPDATE tasks SET
    stage = :stage, progress = max(progress, :progress)
WHERE task_id = :task_id AND attempt = :attempt AND owner = :owner AND status = 'running'

-- name: touch
-- A claim that is lost may have been taken by another process: nothing that was read of the task before is good any more.
SELECT touched(:task_id, 1)

-- name: save_pages
-- The fence and the fruits of a finished step in one; the pages follow in the same transaction.
UPDATE tasks SET
    crashes = 0, progress = max(progress, :progress), pages_done = max(pages_done, :pages_done),
    pages_total = coalesce(:pages_total, pages_total)
WHERE task_id = :task_id AND attempt = :attempt AND owner = :owner AND status = 'running'

-- name: save_page
-- A page that is read again replaces itself.
INSERT INTO pages (task_id, number, source, reason, chars, picture_width, picture_height)
VALUES (:task_id, :number, :source, :reason, :chars, :picture_width, :picture_height)
ON CONFLICT (task_id, number) DO UPDATE SET
    source = excluded.source, reason = excluded.reason, chars = excluded.chars,
    picture_width = excluded.picture_width, picture_height = excluded.picture_height

-- name: count_call
-- The fence alone: whoever lost the claim must not call any more.
UPDATE tasks SET stage = stage
WHERE task_id = :task_id AND attempt = :attempt AND owner = :owner AND status = 'running'

-- name: count_call_pages
-- By the primary key.
UPDATE pages SET attempts = attempts + 1
WHERE task_id = :task_id AND number IN (SELECT value FROM json_each(:numbers))

-- name: save_part
-- As save_pages; an answer also shows that the endpoint works.
UPDATE tasks SET
    crashes = 0, upstream_failures = 0, stage = :stage, progress = max(progress, :progress)
WHERE task_id = :task_id AND attempt = :attempt AND owner = :owner AND status = 'running'

-- name: save_part_answer
-- A part that is answered again replaces itself.
INSERT INTO parts
    (task_id, level, scope, first_page, first_byte, last_page, last_byte, model, content, finish_reason, prompt_tokens,
     completion_tokens, notes)
VALUES
    (:task_id, :level, :scope, :first_page, :first_byte, :last_page, :last_byte, :model, :content, :finish_reason,
     :prompt_tokens, :completion_tokens, :notes)
ON CONFLICT (task_id, level, scope) DO UPDATE SET
    first_page = excluded.first_page, first_byte = excluded.first_byte, last_page = excluded.last_page,
    last_byte = excluded.last_byte, model = excluded.model, content = excluded.content,
    finish_reason = excluded.finish_reason, prompt_tokens = excluded.prompt_tokens,
    completion_tokens = excluded.completion_tokens, notes = excluded.notes

-- name: use_page
-- A page that was asked about in pieces adds up; that one of its answers was cut short is not forgotten. Of one that could
-- not be used no model got more than the number.
UPDATE pages SET
    used = :used, tokens = tokens + :tokens, model = iif(:used = 'none', model, :model),
    finish_reason = iif(:used = 'none' OR finish_reason = 'length', finish_reason, :finish_reason)
WHERE task_id = :task_id AND number = :number

-- name: pages
-- Read along the primary key, so the order costs nothing.
SELECT number, source, reason, chars, picture_width, picture_height FROM pages WHERE task_id = :task_id ORDER BY number

-- name: parts
-- A task has few parts, so sorting them costs nothing either.
SELECT
    level, scope, first_page, first_byte, last_page, last_byte, model, content, finish_reason, prompt_tokens,
    completion_tokens, notes
FROM parts WHERE task_id = :task_id ORDER BY level, first_page, first_byte

-- name: ledger
-- A range of the primary key, so that a page of a long ledger costs what it holds.
SELECT
    number, source, reason, chars, picture_width, picture_height, used, model, attempts, tokens, finish_reason
FROM pages WHERE task_id = :task_id AND number > :after ORDER BY number LIMIT :limit

-- name: page_counts
-- Likewise: 20,000 rows at the very most, and a few kilobytes of them each.
SELECT coalesce(used, source), count(*) FROM pages WHERE task_id = :task_id GROUP BY 1

-- name: complete
-- Conditional on the claim: an attempt that was cancelled or replaced must not overwrite what came after it.
UPDATE tasks SET
    status = 'completed', owner = NULL, claimed_at = NULL, stage = NULL, progress = 100, ended_at = :now,
    worked_seconds = worked_seconds + max(:now - claimed_at, 0), result = :result
WHERE task_id = :task_id AND attempt = :attempt AND owner = :owner AND status = 'running'

-- name: fail
-- Likewise. The stage stays: it tells where the task failed.
UPDATE tasks SET
    status = 'failed', owner = NULL, claimed_at = NULL, ended_at = :now,
    worked_seconds = worked_seconds + max(:now - claimed_at, 0), error = :error, error_type = :error_type
WHERE task_id = :task_id AND attempt = :attempt AND owner = :owner AND status = 'running'

-- name: cancel
-- Whoever owns it: its worker learns by ClaimLost.
UPDATE tasks SET
    status = 'failed', owner = NULL, claimed_at = NULL, ended_at = :now,
    worked_seconds = worked_seconds + max(:now - coalesce(claimed_at, :now), 0), error = :error, error_type = :error_type
WHERE task_id = :task_id AND status IN ('waiting', 'running')

-- name: keep_answer
-- In the transaction of its completion. The newest answer is the one that is given again.
INSERT INTO answers (key, task_id) VALUES (:key, :task_id)
ON CONFLICT (key) DO UPDATE SET task_id = excluded.task_id

-- name: answered
-- Two point reads. `since` is what the answer must be newer than.
SELECT tasks.task_id FROM answers JOIN tasks ON tasks.task_id = answers.task_id
WHERE answers.key = :key AND tasks.ended_at > :since

-- name: complete_again
-- As complete. No model was asked, so there are no tokens; and what was estimated is not held against what a model would
-- have taken.
UPDATE tasks SET
    status = 'completed', owner = NULL, claimed_at = NULL, stage = NULL, progress = 100, ended_at = :now,
    worked_seconds = worked_seconds + max(:now - claimed_at, 0), estimated_wait = NULL, estimated_work = NULL,
    (pages_done, pages_total, result) = (
        SELECT
            pages_done, pages_total,
            json_set(result, '$.cached', json('true'), '$.prompt_tokens', 0, '$.completion_tokens', 0)
        FROM tasks AS before WHERE before.task_id = :before_id
    )
WHERE task_id = :task_id AND attempt = :attempt AND owner = :owner AND status = 'running'

-- name: copy_pages
-- What the answer stands on goes with it, but for the calls and tokens, which were another task's.
INSERT INTO pages
    (task_id, number, source, reason, chars, picture_width, picture_height, used, model, finish_reason)
SELECT :task_id, number, source, reason, chars, picture_width, picture_height, used, model, finish_reason
FROM pages WHERE task_id = :before_id
ON CONFLICT (task_id, number) DO UPDATE SET
    used = excluded.used, model = excluded.model, finish_reason = excluded.finish_reason

-- name: clear_answers
-- In bounded bites, as expire.
DELETE FROM answers WHERE key IN (SELECT key FROM answers LIMIT :bite)

-- name: give_up
-- At start every running task is one that the server died on; this time once too often. Nobody knows when it died, so
-- nothing is added to worked_seconds.
UPDATE tasks SET
    status = 'failed', owner = NULL, claimed_at = NULL, crashes = crashes + 1, ended_at = :now,
    error = :error, error_type = :error_type
WHERE status = 'running' AND crashes + 1 >= :crash_limit
RETURNING place, task_id

-- name: requeue
-- The rest of them, after give_up.
UPDATE tasks SET status = 'waiting', owner = NULL, claimed_at = NULL, stage = NULL, crashes = crashes + 1
WHERE status = 'running'
RETURNING place, task_id

-- part: rank
-- 1 and how many wait before `place`. Wide blocks from the sums, then narrow ones, the rest of its own by place.
1
+ coalesce((SELECT sum(backlog.tasks) FROM backlog WHERE width = 8192 AND bucket < place / 8192), 0)
+ coalesce((
    SELECT sum(backlog.tasks) FROM backlog WHERE width = 1024 AND bucket >= place / 8192 * 8 AND bucket < place / 1024
), 0)
+ coalesce((
    SELECT sum(backlog.tasks) FROM backlog WHERE width = 128 AND bucket >= place / 1024 * 8 AND bucket < place / 128
), 0)
+ (
    SELECT count(*) FROM (SELECT place AS other, status AS its_status FROM tasks)
    WHERE other >= place / 128 * 128 AND other < place AND its_status = 'waiting'
)

-- name: position
-- Of a place, whether or not a task has it.
SELECT {rank} FROM (SELECT :place AS place)

-- name: backlog
-- Likewise, by model and type; `first` is where a block of `before` begins.
SELECT model, media_type, sum(tasks), sum(unread), sum(unread_bytes), sum(pages)
FROM (
    SELECT model, media_type, tasks, unread, unread_bytes, pages FROM backlog
    WHERE width = 1024 AND bucket >= :first / 1024 AND bucket < :before / 1024
    UNION ALL
    SELECT model, media_type, tasks, unread, unread_bytes, pages FROM backlog
    WHERE width = 128 AND bucket >= max(:first / 128, :before / 1024 * 8) AND bucket < :before / 128
    UNION ALL
    SELECT model, media_type, 1, unread, unread_bytes, pages_left FROM tasks
    WHERE place >= :before / 128 * 128 AND place < :before AND status = 'waiting'
)
GROUP BY model, media_type

-- name: tail
-- Places are never handed out twice, so that the row is there even when no task is.
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'tasks'), 0) + 1

-- name: depth
-- The sums for those that wait; those that run are few and have an index of their own, which is named since some
-- planners would rather read a larger one.
SELECT
    (SELECT coalesce(sum(tasks), 0) FROM backlog WHERE width = 8192),
    (SELECT count(*) FROM tasks INDEXED BY tasks_running WHERE status = 'running')

-- name: ended_since
-- Along the ends, so as many rows as there are since. Who changes his mind is no fault of the service.
SELECT count(*), count(nullif(error_type, 'cancelled')) FROM tasks WHERE ended_at >= :ended_after

-- name: expire
-- In bounded bites: one removal of a day's tasks would hold every other write up.
DELETE FROM tasks
WHERE place IN (SELECT place FROM tasks WHERE ended_at < :ended_before ORDER BY ended_at LIMIT :bite)
RETURNING task_id

-- name: writes_of_others
-- Of the connection: it changes with each commit of another one, and costs no look at any table.
PRAGMA data_version

-- name: measure
-- Each measurement takes a tenth off the weight of those before it: the sums follow a change within some ten tasks.
INSERT INTO measurements (kind, name, weight, x, y, xx, xy, updated_at)
VALUES (:kind, :name, 1, :x, :y, :x * :x, :x * :y, :now)
ON CONFLICT (kind, name) DO UPDATE SET
    weight = 0.9 * weight + 1, x = 0.9 * x + excluded.x, y = 0.9 * y + excluded.y, xx = 0.9 * xx + excluded.xx,
    xy = 0.9 * xy + excluded.xy, updated_at = excluded.updated_at

-- name: measured
-- Asked at every estimate, and a handful of rows.
SELECT name, weight, x, y, xx, xy FROM measurements WHERE kind = :kind

-- name: estimate_errors
-- Walks the index of ended tasks from its newest end.
SELECT (ended_at - created_at) / (estimated_wait + estimated_work) - 1 FROM tasks
WHERE ended_at IS NOT NULL AND status = 'completed' AND estimated_wait + estimated_work > 0
ORDER BY ended_at DESC LIMIT :last

-- name: save_note
-- The last word counts.
INSERT INTO notes (kind, name, value, updated_at) VALUES (:kind, :name, :value, :now)
ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at

-- name: notes
-- Few rows, read seldom.
SELECT name, value FROM notes WHERE kind = :kind

-- name: add_user
-- DO NOTHING rather than an error: a taken e-mail is told by the count of rows.
INSERT INTO users (user_id, email, name, role, active, created_at)
VALUES (:user_id, :email, :name, :role, :active, :created_at)
ON CONFLICT DO NOTHING

-- name: user_by_email
-- The column compares without case.
SELECT user_id, email, name, role, active, created_at FROM users WHERE email = :email

-- name: users
-- rowid breaks ties of one instant.
SELECT user_id, email, name, role, active, created_at FROM users ORDER BY created_at, rowid

-- name: credentials
-- A point read: it runs before every request that comes with a token.
SELECT user_id, email, name, role, active, created_at, password, session_stamp FROM users
WHERE user_id = :user_id AND active = 1

-- name: set_password
-- A trigger ends the sessions.
UPDATE users SET password = :password WHERE user_id = :user_id

-- name: add_key
-- As add_user.
INSERT INTO api_keys (key_id, user_id, name, prefix, sha256, created_at, last_used_at, revoked_at, own)
VALUES (:key_id, :user_id, :name, :prefix, :sha256, :created_at, :last_used_at, :revoked_at, :own)
ON CONFLICT DO NOTHING

-- name: own_key
-- A unique index holds at most one.
SELECT key_id, user_id, name, prefix, created_at, last_used_at, revoked_at FROM api_keys
WHERE user_id = :user_id AND own = 1 AND revoked_at IS NULL

-- name: revoke_own_key
-- Before another one takes its place, in the same transaction.
UPDATE api_keys SET revoked_at = :now WHERE user_id = :user_id AND own = 1 AND revoked_at IS NULL
RETURNING key_id, user_id, name, prefix, created_at, last_used_at, revoked_at

-- name: user_by_key
-- Two point reads in one; it runs before nearly every authenticated request.
SELECT
    users.user_id, users.email, users.name, users.role, users.active, users.created_at,
    api_keys.key_id, api_keys.user_id, api_keys.name, api_keys.prefix, api_keys.created_at, api_keys.last_used_at,
    api_keys.revoked_at, api_keys.sha256
FROM api_keys JOIN users ON users.user_id = api_keys.user_id
WHERE api_keys.sha256 = :sha256 AND api_keys.revoked_at IS NULL AND users.active = 1

-- name: keys
-- Revoked ones included: the list is also the record.
SELECT key_id, user_id, name, prefix, created_at, last_used_at, revoked_at FROM api_keys
WHERE user_id = :user_id ORDER BY created_at, rowid

-- name: revoke_key
-- Only the first revocation counts, and keeps its time.
UPDATE api_keys SET revoked_at = :now WHERE key_id = :key_id AND revoked_at IS NULL

-- name: key_used
-- max(): notes of several requests may arrive out of order.
UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, 0), :when) WHERE key_id = :key_id

-- name: add_configuration
-- The number is the caller's: the latest one that it knew and one more. Whoever comes second changes nothing.
INSERT INTO configurations (version, changed_at, changed_by, changes, overrides)
VALUES (:version, :changed_at, :changed_by, :changes, :overrides)
ON CONFLICT (version) DO NOTHING

-- name: configurations
-- Walks the primary key backwards from the version asked for.
SELECT version, changed_at, changed_by, changes, overrides FROM configurations
WHERE version <= :up_to ORDER BY version DESC LIMIT :limit

-- name: all_tasks
-- As `tasks_of`, along the places of all. A rare status is looked for through many others; nobody asks often.
SELECT
    {listed_task},
    iif(tasks.status = 'waiting', {rank}, NULL) AS position
FROM tasks
WHERE place < :before AND (:status IS NULL OR status = :status)
ORDER BY place DESC LIMIT :limit

-- name: retry
-- The one way out of `failed`, and only to a place that nobody had. Pages and parts stay: they were paid for.
UPDATE tasks SET
    place = 1 + max(
        (SELECT seq FROM sqlite_sequence WHERE name = 'tasks'), (SELECT max(place) FROM tasks)
    ),
    status = 'waiting', error = NULL, error_type = NULL, ended_at = NULL, started_at = NULL, worked_seconds = 0,
    crashes = 0, upstream_failures = 0, not_before = 0, stage = NULL, progress = 0, estimated_wait = NULL,
    estimated_work = NULL
WHERE task_id = :task_id AND status = 'failed'
RETURNING {task}

-- name: forget_last_answer
-- Of a task that wanted an answer in a form: with the one that did not fit, every other try would end as the first did.
DELETE FROM parts
WHERE task_id = :task_id AND level > 0 AND level = (SELECT max(level) FROM parts WHERE task_id = :task_id)
    AND EXISTS (SELECT 1 FROM tasks WHERE task_id = :task_id AND response_format IS NOT NULL)

-- name: give_place
-- AUTOINCREMENT learns of places from insertions alone.
UPDATE sqlite_sequence SET seq = max(seq, :place) WHERE name = 'tasks'

-- name: standing
-- All that a user's limits are about, in one statement, since each costs a turn at Python's lock: how many tasks of the
-- user wait, how many in all, and when the latest document but so many was accepted, for each of some numbers. With that
-- one in the window, another would be too many. Found by its number, as counting up to it took 0.3 ms of 10,000.
SELECT
    coalesce((SELECT tasks FROM waiting WHERE user_id = :user_id), 0),
    (SELECT coalesce(sum(tasks), 0) FROM backlog WHERE width = 8192),
    submissions.submitted_at
FROM (VALUES (1))
LEFT JOIN json_each(:newer) AS newer
LEFT JOIN submissions ON submissions.user_id = :user_id
    AND submissions.number = (SELECT max(number) FROM submissions WHERE user_id = :user_id) - newer.value
ORDER BY newer.key

-- name: submitted
-- How many since each of some moments, and when the first of them was. Their numbers follow one another.
SELECT
    coalesce((SELECT max(number) FROM submissions WHERE user_id = :user_id) - earliest.number + 1, 0),
    coalesce(earliest.submitted_at, 0)
FROM json_each(:since) AS since
LEFT JOIN submissions AS earliest ON earliest.user_id = :user_id AND earliest.number = (
    SELECT number FROM submissions INDEXED BY submissions_of_user
    WHERE user_id = :user_id AND submitted_at > since.value ORDER BY submitted_at LIMIT 1
)
ORDER BY since.key

-- name: add_submission
-- In the transaction of its enqueue.
INSERT INTO submissions (user_id, number, submitted_at)
SELECT :user_id, coalesce(max(number), 0) + 1, :now FROM submissions WHERE user_id = :user_id

-- name: forget_submissions
-- With each new one those go that no window holds, so that a user never has more than a day's. All up to a number, so
-- that those that stay follow one another even where the clock jumped.
DELETE FROM submissions
WHERE user_id = :user_id
    AND number <= (
        SELECT max(number) FROM submissions INDEXED BY submissions_of_user
        WHERE user_id = :user_id AND submitted_at <= :until
    )

-- name: user
-- By the primary key.
SELECT user_id, email, name, role, active, created_at FROM users WHERE user_id = :user_id

-- name: set_active
-- Somebody must be left who can let others in.
UPDATE users SET active = :active
WHERE user_id = :user_id AND (
    :active OR role <> 'admin'
    OR EXISTS (SELECT 1 FROM users AS others WHERE role = 'admin' AND active AND others.user_id <> users.user_id)
)

-- name: tasks_to_remove
-- Some tasks at a time, and of long documents fewer: what hangs on them goes in the same transaction.
SELECT task_id, unfinished FROM (
    SELECT task_id, ended_at IS NULL AS unfinished, sum(pages_done + 1) OVER (ORDER BY place) - pages_done - 1 AS before
    FROM (
        SELECT place, task_id, ended_at, pages_done FROM tasks INDEXED BY tasks_of_user
        WHERE user_id = :user_id ORDER BY place LIMIT :bite
    )
)
WHERE before < :most_pages

-- name: hangs_on_tasks
-- Each by an index that begins with the task.
SELECT
    (SELECT count(*) FROM pages WHERE task_id IN (SELECT value FROM json_each(:task_ids))),
    (SELECT count(*) FROM parts WHERE task_id IN (SELECT value FROM json_each(:task_ids))),
    (SELECT count(*) FROM idempotency_keys WHERE task_id IN (SELECT value FROM json_each(:task_ids))),
    (SELECT count(*) FROM answers WHERE task_id IN (SELECT value FROM json_each(:task_ids)))

-- name: keep_leftovers
-- In the transaction of the removal: from then on nothing else knows of their files.
INSERT INTO leftovers (task_id) SELECT value FROM json_each(:task_ids) WHERE true
ON CONFLICT DO NOTHING

-- name: remove_tasks
-- What hangs on them goes by foreign keys.
DELETE FROM tasks WHERE task_id IN (SELECT value FROM json_each(:task_ids))

-- name: leftovers
-- Nearly always none.
SELECT task_id FROM leftovers LIMIT :bite

-- name: forget_leftovers
-- By the primary key.
DELETE FROM leftovers WHERE task_id IN (SELECT value FROM json_each(:task_ids))

-- name: remove_user
-- Keys go by a foreign key. Only one who is shut out, which has seen to it that an administrator is left, and of whom
-- nothing has come since.
DELETE FROM users
WHERE user_id = :user_id AND active = 0 AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.user_id = users.user_id)

-- name: remove_submissions
-- At most what was sent within a day.
DELETE FROM submissions WHERE user_id = :user_id
