-- What is shown and kept of words: replies for repeats, and texts while they are made.

-- A kept reply without what its person or a model said; ids, status and amounts stay.
CREATE FUNCTION public.generation_reply_without_words(body text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = ''
AS $$
    SELECT (body::jsonb || '{"prompt": "", "parameters": {}, "progress": null, "outputs": []}')::text
$$;
SELECT public.access_to_functions();
