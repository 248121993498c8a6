-- Where the lines of several types meet, at an endpoint that they share, they are one line. How far each has come there is
-- not its clock, which what other endpoints serve moves as well: so the clock says who comes new, and this who is next.

-- What was last served where the line meets others, and what that cost; null: nothing yet.
-- How much others were served there since.
ALTER TABLE public.queue_clock
    ADD COLUMN met_vstart bigint,
    ADD COLUMN met_vcost bigint,
    ADD COLUMN met_others bigint NOT NULL DEFAULT 0;

-- How far it is behind its clock there: by what was served of it elsewhere since, no more than the last one there cost,
-- less what others were served. In a statement of its own: it is made of the others.
-- The table has a row for each type: to write it anew takes no time.
ALTER TABLE public.queue_clock
    -- squawk-ignore adding-field-with-default
    ADD COLUMN lag bigint NOT NULL GENERATED ALWAYS AS (
        greatest(0, coalesce(least(vtime, met_vstart + met_vcost) - met_vstart, 0) - met_others)
    ) STORED;
