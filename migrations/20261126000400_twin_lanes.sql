-- Those that want an endpoint by name wait in a lane of their type's line. A lane may fall behind the line's clock, when
-- its endpoint is closed or slow; who comes new to it joins it where it is then, and not behind all that waits there.
--
-- What is held back takes no room in the line before it joins it: it gets its place then, as anybody does at insert.
--
-- queue_clock.moved_at is not used any more; it stays for the version before this one while that is replaced.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion

-- The lanes by name; few name an endpoint, so few rows are written to it.
CREATE INDEX generations_lanes ON public.generations (type, wanted_endpoint, vstart, id)
WHERE state = 'reserved' AND NOT held_back AND wanted_endpoint IS NOT NULL;

-- Where who comes new starts: the line's clock, or the head of the lane when that is behind it.
CREATE FUNCTION public.generation_line_start(p_type public.generation_type, p_wanted text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = '' AS $$
    SELECT least(clock.vtime, (
        SELECT min(g.vstart) FROM public.generations AS g
        WHERE g.state = 'reserved' AND NOT g.held_back AND g.type = p_type AND g.wanted_endpoint = p_wanted
    ))
    FROM public.queue_clock AS clock WHERE clock.type = p_type
$$;

-- Which of the living workers this is, from 0: when RunPod takes fewer requests at once than there are workers, the first
-- ones may make one each. The version before this one has no number.
ALTER TABLE public.workers
    ADD COLUMN number integer,
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT workers_number CHECK (number >= 0);

-- When the bucket last ran over: tokens that were taken before and wait are not good any more (worker/allowances.sql).
ALTER TABLE public.endpoint_allowances ADD COLUMN overflowed_at timestamptz;

-- Attempts that may be cancelled, by when they were lost. Those whose id RunPod never told are not among them: nothing can
-- be done for them, and they only ever become more.
CREATE INDEX generation_attempts_orphaned ON public.generation_attempts (orphaned_at)
WHERE orphaned_at IS NOT NULL AND orphan_cancelled_at IS NULL AND remote_id IS NOT NULL;
DROP INDEX public.generation_attempts_orphans;

SELECT public.access_to_functions();
