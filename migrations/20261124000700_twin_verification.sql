-- What was found each time the ledger was derived again from its entries (shared/verify.py), kept for whoever asks.

CREATE TABLE public.ledger_verifications (
    run_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    -- since: the accounts that have an entry since then, each from its beginning
    scope text NOT NULL CHECK (scope IN ('all', 'since', 'account')),
    user_id text,
    since timestamptz,
    -- by the worker's clock, not by somebody
    scheduled boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- whoever runs it moves this ahead; in the past, nobody does any more
    lease_until timestamptz NOT NULL,
    finished_at timestamptz,
    accounts bigint NOT NULL DEFAULT 0 CHECK (accounts >= 0),
    entries bigint NOT NULL DEFAULT 0 CHECK (entries >= 0),
    findings bigint NOT NULL DEFAULT 0 CHECK (findings >= 0),
    first_findings jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(first_findings) = 'array'),
    -- why it did not get to its end
    error text,
    CHECK ((scope = 'account') = (user_id IS NOT NULL)),
    CHECK ((scope = 'since') = (since IS NOT NULL)),
    CHECK (error IS NULL OR finished_at IS NOT NULL)
);

-- One scheduled run at a time, however many workers there are.
CREATE UNIQUE INDEX ledger_verifications_one_at_a_time ON public.ledger_verifications (scheduled)
    WHERE scheduled AND finished_at IS NULL;
CREATE INDEX ledger_verifications_latest ON public.ledger_verifications (started_at DESC);

ALTER TABLE public.ledger_verifications ENABLE ROW LEVEL SECURITY;
