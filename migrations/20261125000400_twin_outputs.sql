-- Deleting a generation. Its person deletes it and may think again until purge_due_at; then the worker erases it in two
-- steps, of which the first is written down before anything is gone:
--
--     deleted_at   hidden: no reply, list or signed address shows it any more; it can be restored
--     purging_at   its media are being deleted from storage; there is no way back
--     purged_at    its words, parameters, outputs and raw results are gone from here, too
--
-- What the ledger stands on stays: whose it was, what it was, what was quoted and charged, when, and its hold.
-- Who may read the row is as it was: until it is purged, it is still the person's own.

-- The columns are new: no row has any of them yet, and the checks that change allow more than before.
-- squawk-ignore-file constraint-missing-not-valid, require-concurrent-index-creation, ban-drop-constraint

ALTER TABLE public.generations
    ADD COLUMN deleted_at timestamptz,
    -- When the worker next wants it: the end of the time to think again, then the end of a purge's lease.
    ADD COLUMN purge_due_at timestamptz,
    ADD COLUMN purging_at timestamptz,
    ADD COLUMN purged_at timestamptz,
    ADD CONSTRAINT generations_deleted_is_over CHECK (deleted_at IS NULL OR public.generation_is_terminal(state)),
    ADD CONSTRAINT generations_purge_is_due CHECK (
        (deleted_at IS NOT NULL AND purged_at IS NULL) = (purge_due_at IS NOT NULL)
    ),
    ADD CONSTRAINT generations_purging_is_deleted CHECK (purging_at IS NULL OR deleted_at IS NOT NULL),
    ADD CONSTRAINT generations_purged_was_purging CHECK (purged_at IS NULL OR purging_at IS NOT NULL),
    ADD CONSTRAINT generations_purged_is_empty CHECK (
        purged_at IS NULL OR (prompt = '' AND parameters = '{}' AND outputs = '[]' AND progress IS NULL)
    ),
    DROP CONSTRAINT generations_prompt_check,
    ADD CONSTRAINT generations_prompt_check CHECK (
        char_length(prompt) <= 20000 AND (char_length(prompt) > 0 OR purged_at IS NOT NULL)
    ),
    DROP CONSTRAINT generations_completed_delivers,
    ADD CONSTRAINT generations_completed_delivers CHECK (
        state <> 'completed' OR jsonb_array_length(outputs) > 0 OR purged_at IS NOT NULL
    );

CREATE INDEX generations_purge_due ON public.generations (purge_due_at) WHERE purge_due_at IS NOT NULL;
CREATE INDEX generations_purging ON public.generations (purging_at) WHERE purging_at IS NOT NULL AND purged_at IS NULL;
-- What open generations start from: it is not purged under them.
CREATE INDEX generations_open_sources ON public.generations ((source ->> 'generation_id'))
WHERE source IS NOT NULL AND due_at IS NOT NULL;
