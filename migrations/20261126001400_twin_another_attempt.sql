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

-- Which attempt is pursued is part of the history, also when the state stays what it is.
CREATE OR REPLACE FUNCTION public.generations_guard_transition() RETURNS trigger
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    IF NEW.state <> OLD.state AND NOT public.generation_may_move(OLD.state, NEW.state) THEN
        RAISE EXCEPTION 'a generation does not move from % to %', OLD.state, NEW.state
            USING ERRCODE = 'TWS01';
    END IF;
    IF public.generation_is_terminal(OLD.state) AND (
        NEW.hold_id = OLD.hold_id OR NEW.retries <> OLD.retries + 1 OR OLD.charged > 0
    ) THEN
        RAISE EXCEPTION 'a generation that is % begins again under a new hold only', OLD.state
            USING ERRCODE = 'TWS01';
    END IF;
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER generations_guard BEFORE UPDATE OF state, attempt ON public.generations
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.attempt IS DISTINCT FROM NEW.attempt)
EXECUTE FUNCTION public.generations_guard_transition();
CREATE OR REPLACE TRIGGER generations_record AFTER UPDATE OF state, attempt ON public.generations
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.attempt IS DISTINCT FROM NEW.attempt)
EXECUTE FUNCTION public.generations_record_transition();
