-- What workers learn of an endpoint and others go by.
ALTER TABLE public.endpoint_states
    -- when it said last that all its machines are only starting: until they run, RunPod may answer 404 about a job that
    -- waits for them (worker/health.py)
    ADD COLUMN starting_at timestamptz,
    -- the largest picture that it can be sent to modify; null: of any size, or none at all
    ADD COLUMN largest_source_bytes bigint;
