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
