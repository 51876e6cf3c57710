-- How many tasks of each user wait, kept by the same triggers as the sums of their work: counting them at each
-- submission took 1 ms of 10,000. And blocks of three widths, each eight of the next, so that fewer sums are added up at each poll.

DROP TRIGGER backlog_insert;
DROP TRIGGER backlog_delete;
DROP TRIGGER backlog_leave;
DROP TRIGGER backlog_return;
DROP INDEX tasks_waiting_of_user;
DELETE FROM backlog;

CREATE TABLE waiting (
    user_id TEXT NOT NULL PRIMARY KEY,
    tasks INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO waiting SELECT user_id, count(*) FROM tasks WHERE status = 'waiting' GROUP BY user_id;

INSERT INTO backlog
SELECT
    column1 AS width, place / column1 AS bucket, model, media_type, count(*), sum(unread), sum(unread_bytes),
    sum(pages_left)
FROM tasks, (VALUES (8192), (1024), (128))
WHERE status = 'waiting'
GROUP BY width, bucket, model, media_type;

CREATE TRIGGER waiting_insert AFTER INSERT ON tasks WHEN new.status = 'waiting'
BEGIN
    INSERT INTO backlog
    VALUES
        (8192, new.place / 8192, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left),
        (1024, new.place / 1024, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left),
        (128, new.place / 128, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left)
    ON CONFLICT DO UPDATE SET
        tasks = tasks + 1, unread = unread + excluded.unread, unread_bytes = unread_bytes + excluded.unread_bytes,
        pages = pages + excluded.pages;
    INSERT INTO waiting VALUES (new.user_id, 1) ON CONFLICT DO UPDATE SET tasks = tasks + 1;
END;

CREATE TRIGGER waiting_delete AFTER DELETE ON tasks WHEN old.status = 'waiting'
BEGIN
    UPDATE backlog SET
        tasks = tasks - 1, unread = unread - old.unread, unread_bytes = unread_bytes - old.unread_bytes,
        pages = pages - old.pages_left
    WHERE
        (
            width = 8192 AND bucket = old.place / 8192
            OR width = 1024 AND bucket = old.place / 1024
            OR width = 128 AND bucket = old.place / 128
        )
        AND model = old.model AND media_type = old.media_type;
    DELETE FROM backlog
    WHERE
        (
            width = 8192 AND bucket = old.place / 8192
            OR width = 1024 AND bucket = old.place / 1024
            OR width = 128 AND bucket = old.place / 128
        )
        AND model = old.model AND media_type = old.media_type AND tasks = 0;
    UPDATE waiting SET tasks = tasks - 1 WHERE user_id = old.user_id;
    DELETE FROM waiting WHERE user_id = old.user_id AND tasks = 0;
END;

CREATE TRIGGER waiting_leave AFTER UPDATE ON tasks WHEN old.status = 'waiting'
BEGIN
    UPDATE backlog SET
        tasks = tasks - 1, unread = unread - old.unread, unread_bytes = unread_bytes - old.unread_bytes,
        pages = pages - old.pages_left
    WHERE
        (
            width = 8192 AND bucket = old.place / 8192
            OR width = 1024 AND bucket = old.place / 1024
            OR width = 128 AND bucket = old.place / 128
        )
        AND model = old.model AND media_type = old.media_type;
    DELETE FROM backlog
    WHERE
        (
            width = 8192 AND bucket = old.place / 8192
            OR width = 1024 AND bucket = old.place / 1024
            OR width = 128 AND bucket = old.place / 128
        )
        AND model = old.model AND media_type = old.media_type AND tasks = 0;
    UPDATE waiting SET tasks = tasks - 1 WHERE user_id = old.user_id;
    DELETE FROM waiting WHERE user_id = old.user_id AND tasks = 0;
END;

CREATE TRIGGER waiting_return AFTER UPDATE ON tasks WHEN new.status = 'waiting'
BEGIN
    INSERT INTO backlog
    VALUES
        (8192, new.place / 8192, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left),
        (1024, new.place / 1024, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left),
        (128, new.place / 128, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left)
    ON CONFLICT DO UPDATE SET
        tasks = tasks + 1, unread = unread + excluded.unread, unread_bytes = unread_bytes + excluded.unread_bytes,
        pages = pages + excluded.pages;
    INSERT INTO waiting VALUES (new.user_id, 1) ON CONFLICT DO UPDATE SET tasks = tasks + 1;
END;
