-- Each audit must return no rows. The sentence says what a row would mean; the first column names it.

-- name: terminal_is_settled
-- a generation has ended, but credits are still held for it: a person's money is stranded
SELECT g.id FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE generation_is_terminal(g.state) AND NOT h.final AND g.finished_at > now() - interval '1 day'
LIMIT $1;

-- name: settled_is_terminal
-- credits were charged or returned for a generation that is still going: it may end free of charge
SELECT g.id FROM credit_holds AS h
INNER JOIN generations AS g ON h.hold_id = g.hold_id
WHERE h.final AND g.due_at IS NOT NULL
LIMIT $1;

-- name: charge_matches_hold
-- what the person was told they were charged is not what the ledger took
SELECT g.id FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE
    g.finished_at > now() - interval '1 day'
    AND h.final
    AND g.charged <> h.captured + h.late_captured
LIMIT $1;

-- name: hold_has_generation
-- credits are held for a generation that does not exist
SELECT h.hold_id FROM credit_holds AS h
WHERE
    h.state = 'open'
    AND h.created_at < now() - interval '1 minute'
    AND NOT EXISTS (SELECT 1 FROM generations AS g WHERE g.hold_id = h.hold_id)
LIMIT $1;

-- name: nothing_is_stuck
-- a row has been due for minutes and nobody took it: no worker runs, or one of its loops does not
SELECT g.id FROM generations AS g
WHERE g.due_at < now() - interval '5 minutes'
LIMIT $1;
