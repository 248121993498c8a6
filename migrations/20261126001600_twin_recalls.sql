-- What was sent ahead of its turn, and waits at RunPod, is recalled when somebody comes who stands before it in our line:
-- RunPod takes what waits there first come, first served, and a crowd would be before them.
-- squawk-ignore-file ban-drop-constraint

ALTER TABLE public.generations
    -- when it was asked back; it comes back soon, or stays
    ADD COLUMN recall_asked_at timestamptz,
    -- which attempt was cancelled at RunPod because of that, or is about to be; not that of a round before, nor another
    ADD COLUMN recalled_attempt integer;

-- Whether a worker understands that a job which it finds cancelled was recalled. One of an earlier version calls it the
-- end, so nothing is recalled while such a one lives.
ALTER TABLE public.workers ADD COLUMN recalls boolean NOT NULL DEFAULT false;

-- recalled: it waited there, and was cancelled before it began
ALTER TABLE public.generation_attempts DROP CONSTRAINT generation_attempts_outcome_check;
ALTER TABLE public.generation_attempts ADD CONSTRAINT generation_attempts_outcome_check CHECK (
    outcome IN ('calling', 'accepted', 'not_sent', 'refused', 'unknown', 'recalled')
) NOT VALID;

CREATE OR REPLACE FUNCTION public.generation_may_move(
    from_state public.generation_state, to_state public.generation_state
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT to_state = ANY (CASE from_state
        WHEN 'reserved' THEN '{submitting,submitted,failed,cancelled}'::public.generation_state[]
        WHEN 'submitting' THEN '{reserved,submitted,failed,cancelled}'::public.generation_state[]
        -- back to reserved: recalled
        WHEN 'submitted' THEN '{reserved,running,finishing,failed,cancelled}'::public.generation_state[]
        -- back to submitted: another attempt
        WHEN 'running' THEN '{submitted,finishing,failed,cancelled}'::public.generation_state[]
        WHEN 'finishing' THEN '{submitted,completed,failed,cancelled}'::public.generation_state[]
        -- tried again
        WHEN 'failed' THEN '{reserved}'::public.generation_state[]
        WHEN 'cancelled' THEN '{reserved}'::public.generation_state[]
        ELSE '{}'::public.generation_state[]
    END)
$$;
