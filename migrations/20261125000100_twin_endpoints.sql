-- What all workers know of each RunPod endpoint: whether it may be sent anything (its breaker), how much may still be
-- asked of it (its allowances), how it said it was (its health), and how many workers share it.

CREATE TABLE endpoint_states (
    -- RunPod's id. Profiles of one endpoint under several names share its state; the first one's name stands here.
    endpoint_id text PRIMARY KEY,
    name text NOT NULL,
    type generation_type NOT NULL,
    -- closed: it is sent work · open: it is not, until retry_at · half_open: one generation is on its way to find out
    breaker text NOT NULL DEFAULT 'closed' CHECK (breaker IN ('closed', 'open', 'half_open')),
    -- how often in a row a /run failed, and since when
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failing_since timestamptz,
    -- how often in a row the breaker opened without closing in between: each time it waits longer
    openings integer NOT NULL DEFAULT 0 CHECK (openings >= 0),
    opened_at timestamptz,
    retry_at timestamptz,
    reason text,
    -- whose probe is out: the lease token of the claim that took it; when it is over the next one may be taken
    probe_token uuid,
    probe_until timestamptz,
    -- the last answer of GET /health, and when one worker is to ask next
    health jsonb CHECK (jsonb_typeof(health) = 'object'),
    sampled_at timestamptz,
    sample_due_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT endpoint_states_open_waits CHECK (
        (breaker = 'closed') = (retry_at IS NULL) AND (breaker = 'closed') = (opened_at IS NULL)
    ),
    CONSTRAINT endpoint_states_half_open_probes CHECK (
        (breaker = 'half_open') = (probe_token IS NOT NULL) AND (breaker = 'half_open') = (probe_until IS NOT NULL)
    ),
    CONSTRAINT endpoint_states_sample_is_dated CHECK ((health IS NULL) = (sampled_at IS NULL))
) WITH (fillfactor = 50);

-- What the breakers did. Only ever added to; the oldest are forgotten after 30 days (worker/sweep.sql).
CREATE TABLE endpoint_changes (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id text NOT NULL REFERENCES endpoint_states (endpoint_id) ON DELETE CASCADE,
    from_breaker text NOT NULL,
    to_breaker text NOT NULL,
    reason text,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX endpoint_changes_of_one ON endpoint_changes (endpoint_id, at DESC);
CREATE INDEX endpoint_changes_age ON endpoint_changes (at);

-- One bucket of tokens for each operation of an endpoint: a token is a request (worker/allowances.sql fills and takes).
CREATE TABLE endpoint_allowances (
    endpoint_id text NOT NULL,
    operation text NOT NULL CHECK (operation IN ('run', 'status', 'cancel', 'stream')),
    tokens double precision NOT NULL DEFAULT 0 CHECK (tokens >= 0),
    refilled_at timestamptz NOT NULL DEFAULT now(),
    -- the share of the allowance that is used since RunPod said 429: halved by each, and slowly whole again
    pace double precision NOT NULL DEFAULT 1 CHECK (pace > 0 AND pace <= 1),
    slowed_at timestamptz,
    -- until when RunPod wants to hear nothing of this: Retry-After
    closed_until timestamptz,
    PRIMARY KEY (endpoint_id, operation)
) WITH (fillfactor = 50);

-- The worker processes that live, and which share each has of the requests that RunPod takes at once.
CREATE TABLE workers (
    worker_id uuid PRIMARY KEY,
    share double precision NOT NULL CHECK (share >= 0 AND share <= 1),
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Jobs that run already are followed at the endpoints where they are, whether or not those are configured still.
INSERT INTO endpoint_states (endpoint_id, name, type)
SELECT DISTINCT ON (g.endpoint_id) g.endpoint_id, coalesce(g.endpoint, g.type::text), g.type FROM generations AS g
WHERE g.endpoint_id IS NOT NULL AND NOT generation_is_terminal(g.state)
ORDER BY g.endpoint_id, g.created_at DESC;
INSERT INTO endpoint_allowances (endpoint_id, operation)
SELECT e.endpoint_id, o.operation FROM endpoint_states AS e
CROSS JOIN unnest('{run,status,cancel,stream}'::text[]) AS o (operation);

-- Polls are claimed endpoint by endpoint, each within its allowance.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX generations_due_poll_at ON generations (endpoint_id, due_at) WHERE state IN ('submitted', 'running');
-- Every poll writes due_at, and every index on it is written with it: what the new one serves has no second.
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX generations_due_poll;

SELECT
    public.access_to_table('public.endpoint_states', 'server only', 'How RunPod''s endpoints are.'),
    public.access_to_table('public.endpoint_changes', 'server only', 'How they came to be so.'),
    public.access_to_table('public.endpoint_allowances', 'server only', 'What we may ask of them.'),
    public.access_to_table('public.workers', 'server only', 'Which processes live.');
