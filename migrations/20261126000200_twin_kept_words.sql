-- What is shown and kept of words: replies for repeats, and texts while they are made.

-- A kept reply without what its person or a model said; ids, status and amounts stay.
CREATE FUNCTION public.generation_reply_without_words(body text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = ''
AS $$
    SELECT (body::jsonb || '{"prompt": "", "parameters": {}, "progress": null, "outputs": []}')::text
$$;
SELECT public.access_to_functions();

-- What a look at /stream brought, as it came: a list of what the worker yielded. What one look shows is a guess, since only
-- all of a text tells whether a line in it is an event of a stream or speaks of one: the settled text is read from these.
CREATE TABLE public.generation_drains (
    generation_id uuid NOT NULL,
    attempt integer NOT NULL,
    number integer NOT NULL CHECK (number > 0),
    body bytea NOT NULL,
    PRIMARY KEY (generation_id, attempt, number),
    FOREIGN KEY (generation_id, attempt) REFERENCES public.generation_streams (generation_id, attempt) ON DELETE CASCADE
);
SELECT public.access_to_table('public.generation_drains', 'server only', 'What RunPod said, unchecked.');

-- Streams are few and live for a day; the column is new.
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE public.generation_streams
    ADD COLUMN bytes integer NOT NULL DEFAULT 0 CHECK (bytes BETWEEN 0 AND 16777216);
COMMENT ON COLUMN public.generation_streams.chunks IS 'Looks that brought something: as many drains, and at most as many chunks.';

-- What was read before this was not kept as it came.
UPDATE public.generation_streams SET trouble = coalesce(trouble, 'interrupted') WHERE chunks > 0;

-- Whose stream it is and its place in the line of all that want to be drained; since when its job has ended and its last
-- chunks are waited for, and when somebody first looked for these.
ALTER TABLE public.generation_streams
    ADD COLUMN user_id text,
    ADD COLUMN turn bigint NOT NULL DEFAULT 0,
    ADD COLUMN awaited_at timestamptz,
    ADD COLUMN looked_at timestamptz,
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT generation_streams_looked_for CHECK (looked_at IS NULL OR awaited_at IS NOT NULL);
UPDATE public.generation_streams AS s SET user_id = g.user_id FROM public.generations AS g WHERE g.id = s.generation_id;
-- squawk-ignore adding-not-nullable-field
ALTER TABLE public.generation_streams ALTER COLUMN user_id SET NOT NULL;

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX generation_streams_line ON public.generation_streams (awaited_at, turn, due_at) WHERE due_at IS NOT NULL;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX generation_streams_own ON public.generation_streams (user_id, turn) WHERE due_at IS NOT NULL;

-- The next turn of a person's stream: now, or after the last of their others. So each person has one in every round of the
-- line, however many texts they have. Of two that ask at once both may get the same one: it is taken in order of time.
CREATE FUNCTION public.generation_stream_turn(p_user_id text, p_generation_id uuid) RETURNS bigint
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT greatest(
        coalesce(
            (
                SELECT min(s.turn) FROM public.generation_streams AS s
                WHERE s.due_at <= now() AND s.awaited_at IS NULL AND s.lease_token IS NULL
                AND s.generation_id <> p_generation_id
            ),
            -- nobody waits for a slot
            (SELECT max(s.turn) FROM public.generation_streams AS s WHERE s.due_at IS NOT NULL AND s.awaited_at IS NULL),
            0
        ),
        (
            SELECT 1 + max(s.turn) FROM public.generation_streams AS s
            WHERE s.user_id = p_user_id AND s.due_at IS NOT NULL AND s.generation_id <> p_generation_id
        )
    )
$$;
SELECT public.access_to_functions();

-- dropped: it ended without a charge, and what came of it was thrown away
ALTER TABLE public.generation_streams
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT generation_streams_trouble_check,
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT generation_streams_trouble_check CHECK (
        trouble IN ('interrupted', 'error', 'gone', 'oversized', 'superseded', 'undrained', 'dropped')
    );
