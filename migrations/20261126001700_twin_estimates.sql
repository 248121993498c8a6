-- What the time that is told to whoever waits is made of, and how it turned out.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion

-- What half of such generations take at most, as its person was told when this round was accepted; null: nobody knew.
ALTER TABLE public.generations
    ADD COLUMN estimated_seconds integer,
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT generations_estimated_seconds CHECK (estimated_seconds > 0);

-- How many jobs it may have of us at once, where an operator said so; null: what was learnt counts.
ALTER TABLE public.endpoint_states
    ADD COLUMN said_limit integer,
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT endpoint_states_said_limit CHECK (said_limit > 0);

-- How long generations took lately, at each endpoint by itself: one that is seldom sent any has its own history, too,
-- however many others have finished since.
CREATE INDEX generations_recent_there ON public.generations (type, endpoint, finished_at DESC) WHERE state = 'completed';
DROP INDEX public.generations_recent;

-- Since when it has said that none of its machines works or starts; null: they do, or there are none, or it does not tell.
ALTER TABLE public.endpoint_states ADD COLUMN out_since timestamptz;
