-- Text as it is made: a stream for each attempt that is drained, and the chunks that came of it. RunPod gives every chunk
-- once, so a stream has a lease of its own, which no webhook and no cancel takes away: whoever has read may still write.

CREATE TABLE public.generation_streams (
    generation_id uuid NOT NULL REFERENCES public.generations (id) ON DELETE CASCADE,
    attempt integer NOT NULL CHECK (attempt > 0),
    -- when it is to be drained next; a claim pushes it ahead by one lease. Null when it has ended
    due_at timestamptz,
    lease_token uuid,
    characters integer NOT NULL DEFAULT 0 CHECK (characters BETWEEN 0 AND 200000),
    chunks integer NOT NULL DEFAULT 0 CHECK (chunks BETWEEN 0 AND 10000),
    -- why its chunks may not be the whole text: a drain may have been lost · the model said an error · RunPod has dropped
    -- the job · it is more than we keep · another attempt was pursued · it was not drained when the result was due
    trouble text CHECK (trouble IN ('interrupted', 'error', 'gone', 'oversized', 'superseded', 'undrained')),
    ended_at timestamptz,
    PRIMARY KEY (generation_id, attempt),
    CONSTRAINT generation_streams_open_is_due CHECK ((ended_at IS NULL) = (due_at IS NOT NULL)),
    CONSTRAINT generation_streams_leased_is_open CHECK (lease_token IS NULL OR ended_at IS NULL)
);
CREATE INDEX generation_streams_due ON public.generation_streams (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX generation_streams_age ON public.generation_streams (ended_at) WHERE ended_at IS NOT NULL;

-- (version, seq) is the one order of transitions and chunks: a chunk is written while the generation's row is locked, at
-- the version that it has then, and seq counts through all of a generation's chunks.
CREATE TABLE public.generation_chunks (
    generation_id uuid NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    seq integer NOT NULL CHECK (seq > 0),
    attempt integer NOT NULL,
    user_id text NOT NULL,
    text text NOT NULL CHECK (char_length(text) BETWEEN 1 AND 200000),
    -- this text takes the place of all that came before
    replaces boolean NOT NULL DEFAULT false,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation_id, version, seq),
    FOREIGN KEY (generation_id, attempt) REFERENCES public.generation_streams (generation_id, attempt) ON DELETE CASCADE
);

SELECT
    public.access_to_table('public.generation_streams', 'server only', 'How we read from RunPod.'),
    public.access_to_table('public.generation_chunks', 'own rows', 'A text while it is made.');
