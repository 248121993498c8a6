-- How much an endpoint runs at once, learnt from what it says of itself: what is sent there waits where our line's fairness
-- does not reach, so a crowd sends no more than that and a little.
ALTER TABLE public.endpoint_states
    -- when a worker asked GET /health last, answered or not: it may be asked early, but no two workers ask right after
    -- each other
    ADD COLUMN health_asked_at timestamptz,
    -- how many jobs it should have of us at once, by the answer of sampled_at (worker/capacity.py); null: that did not tell
    ADD COLUMN learnt_limit integer,
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT endpoint_states_learnt_limit CHECK (learnt_limit > 0);
