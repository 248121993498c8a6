-- Where the lines of several types meet, at an endpoint that they share, they are one line. How far each has come there is
-- not its clock, which what other endpoints serve moves as well: so the clock says who comes new, and this who is next
-- (worker/line_time.sql).
CREATE TABLE public.queue_meetings (
    endpoint_id text NOT NULL,
    type public.generation_type NOT NULL,
    -- Where the last one of the type stood that was served there.
    vstart bigint NOT NULL,
    -- How much others were served there since.
    others bigint NOT NULL CHECK (others >= 0),
    PRIMARY KEY (endpoint_id, type)
) WITH (fillfactor = 10);

SELECT public.access_to_table('public.queue_meetings', 'server only', 'It tells how busy everybody is.');
