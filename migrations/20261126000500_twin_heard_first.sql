-- Jobs that were heard of, by RunPod's webhook or by their person's cancel, are asked about before those that are merely
-- due: with ten thousand in flight these are a line of a minute. Only what was heard of is in this index, so that other
-- polls write nothing to it.
-- squawk-ignore-file require-concurrent-index-creation

CREATE INDEX generations_heard_poll_at ON public.generations (endpoint_id, due_at)
WHERE state IN ('submitted', 'running') AND (heard_attempt IS NOT NULL OR cancel_requested_at IS NOT NULL);
