-- An attempt whose result we cannot have: RunPod has dropped it, or it is more than we take. No word of it counts after that,
-- and another attempt is pursued in its place,
-- if one may have a result.

ALTER TABLE public.generation_attempts ADD COLUMN lost_at timestamptz;
