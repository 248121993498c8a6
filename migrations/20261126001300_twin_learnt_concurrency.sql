-- How much an endpoint runs at once, learnt from what it says of itself: what is sent there waits where our line's fairness
-- does not reach, so a crowd sends no more than that and a little.
ALTER TABLE public.endpoint_states
    -- when a worker asked GET /health last, answered or not: it may be asked early, but no two workers ask right after
    -- each other
    ADD COLUMN health_asked_at timestamptz,
    -- how many jobs should be there at once, by its last answer (worker/capacity.py); null: that did not tell
    ADD COLUMN learnt_limit integer,
    -- how many jobs were there, by the same answer
    ADD COLUMN learnt_seen integer,
    -- when it was asked for that answer. Not sampled_at: a worker from before this writes that, and nothing of these
    ADD COLUMN learnt_at timestamptz,
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT endpoint_states_learnt_limit CHECK (learnt_limit > 0),
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT endpoint_states_learnt_seen CHECK (learnt_seen >= 0),
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT endpoint_states_learnt_together CHECK (num_nulls(learnt_limit, learnt_seen, learnt_at) IN (0, 3));
