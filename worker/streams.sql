-- Streams and their chunks. Whoever writes a chunk or ends a stream locks the generation first (`lock`, a statement of its
-- own: what follows sees what the lock waited for), so that no transition falls between; claims lock no generation.
-- `now` is NULL in production.

-- name: open
-- Also one that was dropped with an earlier round before anybody read of it, when this round turned back to its attempt;
-- and one that was superseded by an earlier attempt whose result was lost: what was read of it is kept. One that was
-- interrupted before stays so, and is read on while what was drained of it is kept: without its beginning nothing is sold.
INSERT INTO generation_streams AS s (generation_id, attempt, user_id, turn, due_at)
VALUES ($1, $2, $3, generation_stream_turn($3, $1), coalesce($4::timestamptz, now()))
ON CONFLICT (generation_id, attempt) DO UPDATE SET
    turn = excluded.turn,
    due_at = excluded.due_at,
    awaited_at = NULL,
    looked_at = NULL,
    ended_at = NULL,
    trouble = CASE WHEN s.trouble = 'interrupted' THEN s.trouble END
WHERE
    s.trouble = 'superseded'
    OR (s.trouble = 'dropped' AND s.chunks = 0)
    OR (
        s.trouble = 'interrupted'
        AND s.ended_at IS NOT NULL
        AND EXISTS (
            SELECT FROM generation_drains AS d WHERE d.generation_id = s.generation_id AND d.attempt = s.attempt
        )
    );

-- name: claim
-- Those first whose job has ended, since RunPod keeps what they wait for only so long; then everybody's in turn.
-- A lease that was not given back: whoever had it may have read what it never wrote.
WITH due AS (
    SELECT generation_id, attempt FROM generation_streams
    WHERE due_at <= coalesce($4::timestamptz, now())
    ORDER BY awaited_at, turn, due_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),

claimed AS (
    UPDATE generation_streams AS s SET
        lease_token = $1,
        due_at = coalesce($4::timestamptz, now()) + $2::interval,
        looked_at = CASE WHEN s.awaited_at IS NOT NULL THEN coalesce(s.looked_at, $4::timestamptz, now()) END,
        trouble = coalesce(s.trouble, CASE WHEN s.lease_token IS NOT NULL THEN 'interrupted' END)
    FROM due WHERE s.generation_id = due.generation_id AND s.attempt = due.attempt
    RETURNING s.generation_id, s.attempt, s.lease_token, s.characters, s.bytes, s.chunks
)

SELECT
    claimed.attempt AS stream_attempt,
    claimed.lease_token AS stream_token,
    claimed.characters,
    claimed.bytes,
    claimed.chunks,
    coalesce($4::timestamptz, now()) - g.submitted_at AS age,
    g.*
FROM claimed INNER JOIN generations AS g ON claimed.generation_id = g.id;

-- name: lock
SELECT FROM generations WHERE id = $1 FOR NO KEY UPDATE;

-- name: append
-- A look's text for whoever reads on, and what it was for the settlement; many have no text in them. Also while another
-- attempt is pursued, as long as this one may be turned to again: it is shown where nothing else is, and not after an
-- answer that is being settled, whose text the chunks join to. If that is of no use, the end brings what was not shown.
WITH fenced AS (
    UPDATE generation_streams AS s SET
        due_at = coalesce($7::timestamptz, now()) + $6::interval,
        characters = s.characters + char_length($4),
        bytes = s.bytes + octet_length($5::bytea),
        chunks = s.chunks + 1
    FROM generations AS g
    WHERE
        s.generation_id = $1
        AND s.attempt = $2
        AND s.lease_token = $3
        AND s.chunks = $8
        AND s.generation_id = g.id
        AND NOT generation_is_terminal(g.state)
    RETURNING s.generation_id, s.attempt, s.chunks, g.version, g.user_id, g.state, s.attempt = g.attempt AS is_pursued
),

drained AS (
    INSERT INTO generation_drains (generation_id, attempt, number, body)
    SELECT generation_id, attempt, chunks, $5 FROM fenced
),

latest AS (
    SELECT seq, attempt FROM generation_chunks WHERE generation_id = $1 ORDER BY version DESC, seq DESC LIMIT 1
),

chunk AS (
    INSERT INTO generation_chunks (generation_id, version, seq, attempt, user_id, text, replaces, at)
    SELECT
        fenced.generation_id,
        fenced.version,
        coalesce(latest.seq, 0) + 1,
        fenced.attempt,
        fenced.user_id,
        $4,
        coalesce(latest.attempt <> fenced.attempt, fenced.attempt > 1),
        coalesce($7::timestamptz, now())
    FROM fenced LEFT JOIN latest ON true
    WHERE
        $4 <> ''
        AND (
            fenced.is_pursued
            OR (fenced.state <> 'finishing' AND coalesce(latest.attempt, fenced.attempt) = fenced.attempt)
        )
)

SELECT true FROM fenced;

-- name: is_written
-- whether the look after so many was written by this very lease: a commit whose reply was lost
SELECT EXISTS (
    SELECT FROM generation_streams WHERE generation_id = $1 AND attempt = $2 AND lease_token = $3 AND chunks = $4 + 1
);

-- name: renew
UPDATE generation_streams SET due_at = coalesce($5::timestamptz, now()) + $4::interval
WHERE generation_id = $1 AND attempt = $2 AND lease_token = $3
RETURNING true;

-- name: give_back
UPDATE generation_streams SET
    lease_token = NULL,
    turn = generation_stream_turn(user_id, generation_id),
    due_at = coalesce($6::timestamptz, now()) + $4::interval,
    trouble = coalesce(trouble, $5)
WHERE generation_id = $1 AND attempt = $2 AND lease_token = $3;

-- name: end
-- none is superseded whose attempt is pursued again by now
UPDATE generation_streams AS s SET
    lease_token = NULL, due_at = NULL, ended_at = coalesce($5::timestamptz, now()), trouble = coalesce(s.trouble, $4)
FROM generations AS g
WHERE
    s.generation_id = $1
    AND s.attempt = $2
    AND s.lease_token = $3
    AND s.generation_id = g.id
    AND ($4 IS DISTINCT FROM 'superseded' OR s.attempt <> g.attempt OR generation_is_terminal(g.state))
RETURNING true;

-- name: hurry_owner
-- As a webhook does: the generation's owner looks now. One that is at it looks again by itself.
UPDATE generations SET due_at = coalesce($2::timestamptz, now())
WHERE
    id = $1
    AND state IN ('submitted', 'running', 'finishing')
    AND lease_token IS NULL
    AND due_at > coalesce($2::timestamptz, now());

-- name: hurry
-- its job has ended: drained now, before those whose text is still being written
UPDATE generation_streams SET
    awaited_at = coalesce(awaited_at, $3::timestamptz, now()),
    due_at = CASE WHEN lease_token IS NULL THEN least(due_at, coalesce($3::timestamptz, now())) ELSE due_at END
WHERE
    generation_id = $1
    AND attempt = $2
    AND ended_at IS NULL
    AND (awaited_at IS NULL OR (lease_token IS NULL AND due_at > coalesce($3::timestamptz, now())));

-- name: others_wait
SELECT EXISTS (SELECT FROM generation_streams WHERE due_at <= coalesce($2::timestamptz, now()) - $1::interval);

-- name: state
-- none yet where an earlier round dropped it unread (see open)
SELECT ended_at, looked_at, trouble FROM generation_streams
WHERE generation_id = $1 AND attempt = $2 AND NOT (coalesce(trouble = 'dropped', false) AND chunks = 0);

-- name: drained
SELECT body FROM generation_drains WHERE generation_id = $1 AND attempt = $2 ORDER BY number;

-- name: conclude
-- Fenced by the lease of the generation, which is finishing: nobody drains after this.
UPDATE generation_streams AS s SET
    lease_token = NULL,
    due_at = NULL,
    ended_at = coalesce(s.ended_at, $5::timestamptz, now()),
    trouble = coalesce(s.trouble, CASE WHEN s.ended_at IS NULL THEN 'undrained' END)
FROM generations AS g
WHERE
    s.generation_id = $1
    AND s.attempt = $2
    AND g.id = s.generation_id
    AND g.version = $3
    AND g.lease_token = $4
RETURNING true;

-- name: complete_text
-- what the chunks lack of the text, or all of it in their place
INSERT INTO generation_chunks (generation_id, version, seq, attempt, user_id, text, replaces, at)
SELECT
    g.id,
    g.version,
    coalesce(
        (
            SELECT c.seq FROM generation_chunks AS c
            WHERE c.generation_id = g.id
            ORDER BY c.version DESC, c.seq DESC
            LIMIT 1
        ), 0
    ) + 1,
    g.attempt,
    g.user_id,
    $2,
    $3,
    coalesce($4::timestamptz, now())
FROM generations AS g WHERE g.id = $1;

-- name: forget
-- What was drained has served when its generation is settled. What was not charged is not kept for its person either, and
-- nothing is sold of a stream whose beginning is gone: one that was superseded is dropped, too. Who has its lease may have
-- read what is not written yet.
-- A statement of its own, after the transition: it sees the chunk that the transition waited for.
WITH dropped AS (
    UPDATE generation_streams SET
        lease_token = NULL,
        due_at = NULL,
        ended_at = coalesce(ended_at, $3::timestamptz, now()),
        trouble = coalesce(
            nullif(trouble, 'superseded'),
            CASE WHEN chunks = 0 AND lease_token IS NOT NULL THEN 'interrupted' ELSE 'dropped' END
        )
    WHERE generation_id = $1 AND NOT $2::boolean
),

said AS (
    DELETE FROM generation_chunks WHERE generation_id = $1 AND NOT $2::boolean
)

DELETE FROM generation_drains WHERE generation_id = $1;
