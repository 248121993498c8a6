-- Generations: the state machine. A state can only change along a legal edge, by one statement, and every change
-- writes its own row in generation_transitions, whoever makes it: the triggers below see to that.
-- The table "Life of a generation" in shared/generations.py says who moves each state on.

CREATE TYPE generation_type AS ENUM ('text', 'image', 'modify', 'video');
CREATE TYPE generation_state AS ENUM (
    'reserved', 'submitting', 'submitted', 'running', 'finishing', 'completed', 'failed', 'cancelled'
);

CREATE FUNCTION generation_is_terminal(state generation_state) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT state IN ('completed', 'failed', 'cancelled') $$;

CREATE TABLE generations (
    id uuid PRIMARY KEY,
    user_id text NOT NULL REFERENCES user_billing (user_id),
    type generation_type NOT NULL,
    prompt text NOT NULL CHECK (char_length(prompt) BETWEEN 1 AND 20000),
    batch_size integer NOT NULL CHECK (batch_size BETWEEN 1 AND 64),
    parameters jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(parameters) = 'object'),
    -- for modify: {"generation_id": …, "index": …} of one of the person's own outputs
    source jsonb CHECK (jsonb_typeof(source) = 'object'),
    client_reference text CHECK (char_length(client_reference) BETWEEN 1 AND 255),
    request_id text,

    state generation_state NOT NULL DEFAULT 'reserved',
    version integer NOT NULL DEFAULT 1 CHECK (version > 0),
    -- when the row next wants its owner: not before (reserved), lease or grace over (submitting), next poll
    -- (submitted, running), next try (finishing). A claim pushes it ahead by one lease: a dead owner's row comes due.
    due_at timestamptz,
    -- the state's own deadline; what happens then is in the life table
    deadline_at timestamptz,
    -- fences a paused process: whoever claims writes its token here, and every later write compares it
    lease_token uuid,
    cancel_requested_at timestamptz,

    hold_id uuid NOT NULL UNIQUE REFERENCES credit_holds (hold_id),
    price_version bigint NOT NULL REFERENCES price_versions (version),
    quoted bigint NOT NULL CHECK (quoted >= 0),
    charged bigint CHECK (charged >= 0),

    -- the attempt that is being pursued (generation_attempts has them all), and the one that was heard of: its webhook
    -- came, or its submit was answered after its lease was over
    attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    heard_attempt integer CHECK (heard_attempt > 0),
    endpoint text,
    endpoint_id text,
    remote_id text CHECK (remote_id ~ '^[A-Za-z0-9_-]{1,200}$'),
    progress text,
    outputs jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(outputs) = 'array'),
    error_code text,
    error_detail text,
    -- milliseconds as RunPod reports them for the last attempt
    delay_ms bigint CHECK (delay_ms >= 0),
    execution_ms bigint CHECK (execution_ms >= 0),

    created_at timestamptz NOT NULL DEFAULT now(),
    submitted_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,

    -- why the current state was entered; copied to generation_transitions by the trigger
    transitioned_at timestamptz NOT NULL DEFAULT now(),
    transition_actor text NOT NULL,
    transition_reason text NOT NULL,
    transition_detail jsonb NOT NULL DEFAULT '{}',

    CONSTRAINT generations_modify_has_source CHECK ((type = 'modify') = (source IS NOT NULL)),
    CONSTRAINT generations_terminal_is_settled CHECK (generation_is_terminal(state) = (charged IS NOT NULL)),
    CONSTRAINT generations_terminal_is_dated CHECK (generation_is_terminal(state) = (finished_at IS NOT NULL)),
    CONSTRAINT generations_open_is_due CHECK (generation_is_terminal(state) = (due_at IS NULL)),
    CONSTRAINT generations_open_has_deadline CHECK (generation_is_terminal(state) = (deadline_at IS NULL)),
    CONSTRAINT generations_remote_is_known CHECK (
        state NOT IN ('submitted', 'running') OR (remote_id IS NOT NULL AND submitted_at IS NOT NULL)
    ),
    CONSTRAINT generations_called_has_attempt CHECK (
        state IN ('reserved', 'failed', 'cancelled') OR attempt > 0
    ),
    CONSTRAINT generations_charge_within_quote CHECK (charged <= quoted),
    CONSTRAINT generations_failed_says_why CHECK ((state = 'failed') = (error_code IS NOT NULL)),
    CONSTRAINT generations_failed_is_free CHECK (state <> 'failed' OR charged = 0),
    CONSTRAINT generations_completed_delivers CHECK (state <> 'completed' OR jsonb_array_length(outputs) > 0)
);

CREATE INDEX generations_history ON generations (user_id, created_at DESC, id DESC);
-- one for each owner, so that a claim reads what is due and nothing else
CREATE INDEX generations_due_submit ON generations (due_at) WHERE state = 'reserved';
CREATE INDEX generations_due_poll ON generations (due_at) WHERE state IN ('submitted', 'running');
CREATE INDEX generations_due_finish ON generations (due_at) WHERE state = 'finishing';
CREATE INDEX generations_due_sweep ON generations (due_at) WHERE state = 'submitting';
CREATE INDEX generations_due_mend ON generations (due_at)
WHERE state = 'reserved' AND (cancel_requested_at IS NOT NULL OR heard_attempt IS NOT NULL);
CREATE INDEX generations_deadline ON generations (deadline_at) WHERE deadline_at IS NOT NULL;
CREATE INDEX generations_finished ON generations (finished_at) WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX generations_client_reference ON generations (user_id, client_reference)
WHERE client_reference IS NOT NULL;

CREATE TABLE generation_transitions (
    generation_id uuid NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    version integer NOT NULL,
    user_id text NOT NULL,
    from_state generation_state,
    to_state generation_state NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (generation_id, version),
    CONSTRAINT generation_transitions_first CHECK ((version = 1) = (from_state IS NULL))
);

CREATE FUNCTION generation_may_move(from_state generation_state, to_state generation_state) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT to_state = ANY (CASE from_state
        WHEN 'reserved' THEN '{submitting,submitted,failed,cancelled}'::public.generation_state[]
        WHEN 'submitting' THEN '{reserved,submitted,failed,cancelled}'::public.generation_state[]
        WHEN 'submitted' THEN '{running,finishing,failed,cancelled}'::public.generation_state[]
        WHEN 'running' THEN '{finishing,failed,cancelled}'::public.generation_state[]
        WHEN 'finishing' THEN '{completed,failed,cancelled}'::public.generation_state[]
        ELSE '{}'::public.generation_state[]
    END)
$$;

CREATE FUNCTION generations_guard_transition() RETURNS trigger
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    IF NOT public.generation_may_move(OLD.state, NEW.state) THEN
        RAISE EXCEPTION 'a generation does not move from % to %', OLD.state, NEW.state
            USING ERRCODE = 'TWS01';
    END IF;
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;

CREATE FUNCTION generations_record_transition() RETURNS trigger
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    INSERT INTO public.generation_transitions
        (generation_id, version, user_id, from_state, to_state, at, actor, reason, detail)
    VALUES (
        NEW.id, NEW.version, NEW.user_id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state,
        NEW.transitioned_at, NEW.transition_actor, NEW.transition_reason, NEW.transition_detail
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER generations_guard BEFORE UPDATE OF state ON generations
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION generations_guard_transition();
CREATE TRIGGER generations_record_first AFTER INSERT ON generations
FOR EACH ROW EXECUTE FUNCTION generations_record_transition();
CREATE TRIGGER generations_record AFTER UPDATE OF state ON generations
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION generations_record_transition();

-- One row for every time that we called, or were about to call, RunPod's /run: committed before the call.
CREATE TABLE generation_attempts (
    generation_id uuid NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    attempt integer NOT NULL CHECK (attempt > 0),
    endpoint text NOT NULL,
    endpoint_id text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    -- calling: may be in flight · accepted: RunPod's id is known · not_sent: nothing happened there
    -- · refused: RunPod said no for good · unknown: it may or may not run there
    outcome text NOT NULL DEFAULT 'calling'
        CHECK (outcome IN ('calling', 'accepted', 'not_sent', 'refused', 'unknown')),
    remote_id text CHECK (remote_id ~ '^[A-Za-z0-9_-]{1,200}$'),
    -- RunPod's last word on this attempt
    remote_status text,
    -- set when this attempt lost to another one: cancel it there; its cost is ours
    orphaned_at timestamptz,
    orphan_due_at timestamptz,
    orphan_cancelled_at timestamptz,
    detail text,
    PRIMARY KEY (generation_id, attempt),
    CONSTRAINT generation_attempts_accepted_has_id CHECK (outcome <> 'accepted' OR remote_id IS NOT NULL)
);

CREATE INDEX generation_attempts_orphans ON generation_attempts (coalesce(orphan_due_at, orphaned_at))
WHERE orphaned_at IS NOT NULL AND orphan_cancelled_at IS NULL;

-- RunPod's terminal answer as it came, until its outputs are copied; kept for ops when the generation failed.
CREATE TABLE generation_results (
    generation_id uuid PRIMARY KEY REFERENCES generations (id) ON DELETE CASCADE,
    attempt integer NOT NULL,
    remote_status text NOT NULL,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX generation_results_age ON generation_results (received_at);
-- mostly base64 of compressed media: compressing it again only burns the processor
ALTER TABLE generation_results ALTER COLUMN body SET STORAGE EXTERNAL;

-- What RunPod's webhook said, once per distinct body. A hint: /status is read again before anything is settled.
CREATE TABLE webhook_receipts (
    receipt_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    generation_id uuid NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    attempt integer NOT NULL,
    body_sha256 bytea NOT NULL,
    remote_id text NOT NULL CHECK (remote_id ~ '^[A-Za-z0-9_-]{1,200}$'),
    remote_status text,
    deliveries integer NOT NULL DEFAULT 1 CHECK (deliveries > 0),
    received_at timestamptz NOT NULL DEFAULT now(),
    last_received_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (generation_id, attempt, body_sha256)
);
CREATE INDEX webhook_receipts_age ON webhook_receipts (received_at);

-- Idempotency-Key of a request: claimed in the transaction that does the work, with the reply that was given.
CREATE TABLE idempotency_keys (
    user_id text NOT NULL REFERENCES user_billing (user_id),
    operation text NOT NULL,
    key text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL,
    generation_id uuid REFERENCES generations (id) ON DELETE CASCADE,
    status integer NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, operation, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

ALTER TABLE generations ENABLE ROW LEVEL SECURITY;
ALTER TABLE generation_transitions ENABLE ROW LEVEL SECURITY;
ALTER TABLE generation_attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE generation_results ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_receipts ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
