-- Numbers each user's submissions, so that the latest but so many is found at once, however many a window holds.

ALTER TABLE submissions RENAME TO submissions_unnumbered;
DROP INDEX submissions_of_user;

CREATE TABLE submissions (
    user_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    submitted_at REAL NOT NULL,
    PRIMARY KEY (user_id, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX submissions_of_user ON submissions (user_id, submitted_at);

INSERT INTO submissions
SELECT user_id, row_number() OVER (PARTITION BY user_id ORDER BY submitted_at), submitted_at
FROM submissions_unnumbered;

DROP TABLE submissions_unnumbered;
