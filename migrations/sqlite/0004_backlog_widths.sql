-- The sums of waiting work in blocks of two widths: whole wide blocks first, then narrow ones, and at most 127 tasks one
-- by one. A rank and the work before it are asked at every poll and at every acceptance.

DROP TRIGGER backlog_insert;
DROP TRIGGER backlog_delete;
DROP TRIGGER backlog_leave;
DROP TRIGGER backlog_return;
DROP TABLE backlog;

CREATE TABLE backlog (
    width INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    model TEXT NOT NULL,
    media_type TEXT NOT NULL,
    tasks INTEGER NOT NULL,
    unread INTEGER NOT NULL,
    unread_bytes INTEGER NOT NULL,
    pages INTEGER NOT NULL,
    PRIMARY KEY (width, bucket, model, media_type)
) STRICT, WITHOUT ROWID;

INSERT INTO backlog
SELECT
    column1 AS width, place / column1 AS bucket, model, media_type, count(*), sum(unread), sum(unread_bytes),
    sum(pages_left)
FROM tasks, (VALUES (4096), (128))
WHERE status = 'waiting'
GROUP BY width, bucket, model, media_type;

CREATE TRIGGER backlog_insert AFTER INSERT ON tasks WHEN new.status = 'waiting'
BEGIN
    INSERT INTO backlog
    VALUES
        (4096, new.place / 4096, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left),
        (128, new.place / 128, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left)
    ON CONFLICT DO UPDATE SET
        tasks = tasks + 1, unread = unread + excluded.unread, unread_bytes = unread_bytes + excluded.unread_bytes,
        pages = pages + excluded.pages;
END;

CREATE TRIGGER backlog_delete AFTER DELETE ON tasks WHEN old.status = 'waiting'
BEGIN
    UPDATE backlog SET
        tasks = tasks - 1, unread = unread - old.unread, unread_bytes = unread_bytes - old.unread_bytes,
        pages = pages - old.pages_left
    WHERE (width = 4096 AND bucket = old.place / 4096 OR width = 128 AND bucket = old.place / 128)
        AND model = old.model AND media_type = old.media_type;
    DELETE FROM backlog
    WHERE (width = 4096 AND bucket = old.place / 4096 OR width = 128 AND bucket = old.place / 128)
        AND model = old.model AND media_type = old.media_type AND tasks = 0;
END;

CREATE TRIGGER backlog_leave AFTER UPDATE ON tasks WHEN old.status = 'waiting'
BEGIN
    UPDATE backlog SET
        tasks = tasks - 1, unread = unread - old.unread, unread_bytes = unread_bytes - old.unread_bytes,
        pages = pages - old.pages_left
    WHERE (width = 4096 AND bucket = old.place / 4096 OR width = 128 AND bucket = old.place / 128)
        AND model = old.model AND media_type = old.media_type;
    DELETE FROM backlog
    WHERE (width = 4096 AND bucket = old.place / 4096 OR width = 128 AND bucket = old.place / 128)
        AND model = old.model AND media_type = old.media_type AND tasks = 0;
END;

CREATE TRIGGER backlog_return AFTER UPDATE ON tasks WHEN new.status = 'waiting'
BEGIN
    INSERT INTO backlog
    VALUES
        (4096, new.place / 4096, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left),
        (128, new.place / 128, new.model, new.media_type, 1, new.unread, new.unread_bytes, new.pages_left)
    ON CONFLICT DO UPDATE SET
        tasks = tasks + 1, unread = unread + excluded.unread, unread_bytes = unread_bytes + excluded.unread_bytes,
        pages = pages + excluded.pages;
END;
