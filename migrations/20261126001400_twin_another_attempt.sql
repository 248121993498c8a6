-- When the attempt that is pursued gives us nothing, another one of the same generation may have a result: then that is
-- pursued, and the generation is submitted again, as the other attempt is.

CREATE OR REPLACE FUNCTION public.generation_may_move(
    from_state public.generation_state, to_state public.generation_state
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT to_state = ANY (CASE from_state
        WHEN 'reserved' THEN '{submitting,submitted,failed,cancelled}'::public.generation_state[]
        WHEN 'submitting' THEN '{reserved,submitted,failed,cancelled}'::public.generation_state[]
        WHEN 'submitted' THEN '{running,finishing,failed,cancelled}'::public.generation_state[]
        -- back to submitted: another attempt
        WHEN 'running' THEN '{submitted,finishing,failed,cancelled}'::public.generation_state[]
        WHEN 'finishing' THEN '{submitted,completed,failed,cancelled}'::public.generation_state[]
        -- tried again
        WHEN 'failed' THEN '{reserved}'::public.generation_state[]
        WHEN 'cancelled' THEN '{reserved}'::public.generation_state[]
        ELSE '{}'::public.generation_state[]
    END)
$$;
