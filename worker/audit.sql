-- Each audit must return no rows. The sentence says what a row would mean; the first column names it. They run every
-- minute, each by an index, over what is open and what ended lately; `twin verify` will read the whole ledger.

-- name: terminal_is_settled
-- a generation has ended, but credits are still held for it: a person's money is stranded
SELECT g.id FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE g.finished_at > now() - interval '15 minutes' AND NOT h.final
LIMIT $1;

-- name: settled_is_terminal
-- credits were charged or returned for good, for a generation that is still going: it may end free of charge
SELECT g.id FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE g.deadline_at IS NOT NULL AND h.final
LIMIT $1;

-- name: charge_matches_hold
-- what the person was told they were charged is not what the ledger took
SELECT g.id FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE g.finished_at > now() - interval '15 minutes' AND h.final AND g.charged <> h.captured + h.late_captured
LIMIT $1;

-- name: submissions_are_bounded
-- in one round a generation was sent to RunPod more often than MAXIMUM_ATTEMPTS, or recalled more often than MOST_RECALLS:
-- we buy GPU time that nobody pays for
SELECT g.id FROM generations AS g
INNER JOIN generation_attempts AS a ON g.id = a.generation_id AND g.earlier_attempts < a.attempt
WHERE g.deadline_at IS NOT NULL AND a.outcome IN ('calling', 'accepted', 'unknown', 'recalled')
GROUP BY g.id
HAVING count(*) FILTER (WHERE a.outcome <> 'recalled') > 2 OR count(*) FILTER (WHERE a.outcome = 'recalled') > 3
LIMIT $1;

-- name: nothing_is_overdue
-- a deadline passed long ago and nobody ended the generation: no worker runs, or it cannot do what it should
SELECT g.id FROM generations AS g
WHERE g.deadline_at < now() - interval '35 minutes'
LIMIT $1;

-- name: nothing_deleted_is_kept
-- what a person deleted is still here a day after it should be gone: storage is away, or no worker purges
(
    SELECT g.id FROM generations AS g
    WHERE g.purge_due_at < now() - interval '1 day'
    LIMIT $1
)
UNION
(
    SELECT g.id FROM generations AS g
    WHERE g.purging_at < now() - interval '1 day' AND g.purged_at IS NULL
    LIMIT $1
);

-- name: nothing_is_left_lying
-- a row has been due for minutes and nobody took it: no worker runs, or one of its loops does not. Who stands in line waits
-- for a place at an endpoint: how long is in /ops/queue.
SELECT g.id FROM generations AS g
WHERE
    g.deadline_at IS NOT NULL
    AND g.due_at < now() - interval '5 minutes'
    AND (g.state <> 'reserved' OR g.cancel_requested_at IS NOT NULL OR g.heard_attempt IS NOT NULL)
LIMIT $1;

-- name: held_back_has_somebody_ahead
-- a generation is held back behind its person's own, but none of these is on its way: nothing will let it in
SELECT g.id FROM generations AS g
WHERE
    g.due_at IS NOT NULL
    AND g.held_back
    AND NOT EXISTS (
        SELECT FROM generations AS mine WHERE mine.user_id = g.user_id AND mine.due_at IS NOT NULL AND NOT mine.held_back
    )
LIMIT $1;

-- name: text_is_its_chunks
-- what a person was shown of a text while it was made is not what was settled in the end
SELECT g.id FROM generations AS g
INNER JOIN generation_streams AS s ON g.id = s.generation_id AND g.attempt = s.attempt
WHERE
    g.finished_at > now() - interval '15 minutes'
    AND g.state = 'completed'
    AND g.outputs -> 0 ->> 'text' IS DISTINCT FROM (
        SELECT string_agg(c.text, '' ORDER BY c.version, c.seq) FROM generation_chunks AS c
        WHERE
            c.generation_id = g.id
            AND c.seq >= coalesce(
                (SELECT max(r.seq) FROM generation_chunks AS r WHERE r.generation_id = g.id AND r.replaces), 0
            )
    )
LIMIT $1;
