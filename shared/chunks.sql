-- name: text
-- what a person has been shown: everything since the last chunk that took the place of the others; of one attempt, or of
-- whichever came last
SELECT string_agg(c.text, '' ORDER BY c.version, c.seq) FROM generation_chunks AS c
WHERE
    c.generation_id = $1
    AND ($2::integer IS NULL OR c.attempt = $2)
    AND c.seq >= coalesce(
        (
            SELECT max(r.seq) FROM generation_chunks AS r
            WHERE r.generation_id = $1 AND ($2::integer IS NULL OR r.attempt = $2) AND r.replaces
        ), 0
    );

-- name: since
-- chunks of the attempts that are pursued, of several generations, each after its own place
SELECT c.generation_id, c.seq, c.text, c.replaces FROM unnest($1::uuid[], $2::integer[]) AS heard (id, seq)
INNER JOIN generations AS g ON heard.id = g.id
INNER JOIN generation_chunks AS c ON g.id = c.generation_id AND g.attempt = c.attempt AND heard.seq < c.seq
ORDER BY c.generation_id, c.version, c.seq;
