-- Who had the last places at an endpoint is told from who comes new there, also when their job has just ended.
-- Attempts are not many yet; who writes to them meanwhile waits for it, or tries again.
-- squawk-ignore-file require-concurrent-index-creation

CREATE INDEX generation_attempts_places ON public.generation_attempts (endpoint_id, started_at DESC);

-- Where the place ends in its line's time: there whoever had it stands, once the clock has passed what they have waiting.
ALTER TABLE public.generation_attempts ADD COLUMN vfinish bigint;

-- Of the last fifty places at each of these endpoints whose jobs have ended: who had them, of those who have waited for
-- another of the type since before; when the last of theirs began, and where it ended. What was not sent, not taken, was
-- recalled, or waits again was no place. What began while the database's clock ran ahead does not tell who had come
-- before. Of what somebody had asked for before, the newest is what waits the longest; so few tell enough, however many
-- there are. Not in SQL, which would be planned for each call.
CREATE FUNCTION public.generation_last_places(p_endpoint_ids text[]) RETURNS TABLE (
    endpoint_id text, type public.generation_type, user_id text, started_at timestamptz, vfinish bigint
)
LANGUAGE plpgsql STABLE ROWS 10 SET search_path = '' AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT had.endpoint_id, had.type, had.user_id, had.started_at, had.vfinish
    FROM (
        SELECT
            there.endpoint_id,
            place.endpoint AS name,
            g.type,
            g.user_id,
            max(place.started_at) AS started_at,
            max(place.vfinish) AS vfinish
        FROM unnest(p_endpoint_ids) AS there (endpoint_id)
        CROSS JOIN LATERAL (
            SELECT latest.* FROM (
                SELECT a.generation_id, a.endpoint, a.outcome, a.started_at, a.vfinish FROM public.generation_attempts AS a
                WHERE a.endpoint_id = there.endpoint_id AND a.started_at <= now()
                ORDER BY a.started_at DESC
                LIMIT 200
            ) AS latest
            WHERE latest.outcome NOT IN ('not_sent', 'refused', 'recalled')
            LIMIT 50
        ) AS place
        INNER JOIN public.generations AS g ON place.generation_id = g.id
        WHERE
            g.state <> 'reserved'
            AND NOT (g.endpoint_id = there.endpoint_id AND g.state IN ('submitting', 'submitted', 'running'))
        GROUP BY there.endpoint_id, place.endpoint, g.type, g.user_id
    ) AS had
    WHERE EXISTS (
        SELECT FROM (
            SELECT g.* FROM public.generations AS g
            WHERE g.user_id = had.user_id AND g.type_name = had.type::text AND g.created_at < had.started_at
            ORDER BY g.created_at DESC
            LIMIT 20
        ) AS before
        WHERE
            (before.state = 'reserved' OR (before.state = 'submitted' AND before.endpoint_id = had.endpoint_id))
            AND (before.wanted_endpoint IS NULL OR before.wanted_endpoint = had.name)
            AND before.cancel_requested_at IS NULL
            AND NOT EXISTS (
                SELECT FROM public.generation_retries AS r
                WHERE r.generation_id = before.id AND r.retried_at >= had.started_at
            )
    );
END
$$;

SELECT public.access_to_functions();
