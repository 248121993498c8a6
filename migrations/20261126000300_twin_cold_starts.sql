-- When an endpoint said last that all its machines are only starting: until they run, RunPod may answer 404 about a job
-- that waits for them (worker/health.py).
ALTER TABLE public.endpoint_states ADD COLUMN starting_at timestamptz;
