-- Who had the last places at an endpoint is told from who comes new there, also when their job has just ended.
-- squawk-ignore-file require-concurrent-index-creation

CREATE INDEX generation_attempts_places ON public.generation_attempts (endpoint_id, started_at DESC);

-- Of the last fifty places at each of these endpoints whose jobs have ended: who had them and has waited for more of the
-- type since before, and when the last of theirs began. What came to nothing, or was recalled, was no place; and what began
-- while the database's clock ran ahead does not tell who had come before.
CREATE FUNCTION public.generation_last_places(p_endpoint_ids text[]) RETURNS TABLE (
    endpoint_id text, user_id text, started_at timestamptz
)
LANGUAGE sql STABLE ROWS 10 SET search_path = '' AS $$
    SELECT had.endpoint_id, had.user_id, had.started_at
    FROM (
        SELECT there.endpoint_id, g.user_id, g.type, max(last.started_at) AS started_at
        FROM unnest(p_endpoint_ids) AS there (endpoint_id)
        CROSS JOIN LATERAL (
            SELECT a.generation_id, a.outcome, a.started_at FROM public.generation_attempts AS a
            WHERE a.endpoint_id = there.endpoint_id AND a.started_at <= now()
            ORDER BY a.started_at DESC
            LIMIT 50
        ) AS last
        INNER JOIN public.generations AS g ON last.generation_id = g.id
        WHERE
            last.outcome NOT IN ('not_sent', 'recalled')
            AND NOT (g.endpoint_id = there.endpoint_id AND g.state IN ('submitting', 'submitted', 'running'))
        GROUP BY there.endpoint_id, g.user_id, g.type
    ) AS had
    CROSS JOIN LATERAL (
        SELECT FROM public.generations AS more
        WHERE
            more.user_id = had.user_id
            AND more.due_at IS NOT NULL
            AND more.state IN ('reserved', 'submitted')
            AND more.type = had.type
            AND more.created_at < had.started_at
        ORDER BY more.held_back, more.vstart  -- the order of an index: the first one there tells
        LIMIT 1
    ) AS waits
$$;

SELECT public.access_to_functions();
