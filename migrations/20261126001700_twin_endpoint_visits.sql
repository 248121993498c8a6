-- Lines of several types may meet at one endpoint, and lanes of one line that the clock has passed: their places say
-- nothing of each other. First is then whoever had a job there the longest ago.
-- squawk-ignore-file require-concurrent-index-creation

CREATE INDEX generations_ended_at_endpoint ON public.generations (endpoint_id, finished_at DESC)
WHERE finished_at IS NOT NULL;

-- Whose jobs each endpoint has, and the hundred that ended there last.
CREATE FUNCTION public.endpoint_visits(p_endpoint_ids text[])
RETURNS TABLE (endpoint_id text, user_id text, generation_id uuid, sent_at timestamptz)
LANGUAGE sql STABLE SET search_path = '' AS $$
    SELECT e.endpoint_id, visit.user_id, visit.id, coalesce(visit.submitted_at, visit.transitioned_at)
    FROM unnest(p_endpoint_ids) AS e (endpoint_id)
    CROSS JOIN LATERAL (
        SELECT g.user_id, g.id, g.submitted_at, g.transitioned_at FROM public.generations AS g
        WHERE g.endpoint_id = e.endpoint_id AND g.state = 'submitting'
        UNION ALL
        SELECT g.user_id, g.id, g.submitted_at, g.transitioned_at FROM public.generations AS g
        WHERE g.endpoint_id = e.endpoint_id AND g.state IN ('submitted', 'running')
        UNION ALL
        SELECT g.user_id, g.id, g.submitted_at, g.transitioned_at FROM public.generations AS g
        WHERE g.endpoint_id = e.endpoint_id AND g.state = 'finishing'
        UNION ALL
        (
            SELECT g.user_id, g.id, g.submitted_at, g.transitioned_at FROM public.generations AS g
            WHERE g.endpoint_id = e.endpoint_id AND g.finished_at IS NOT NULL
            ORDER BY g.finished_at DESC
            LIMIT 100
        )
    ) AS visit
$$;

SELECT public.access_to_functions();
