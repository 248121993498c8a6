-- The audit log can be read: newest first, all of it or what was done to one scope.
--
-- credit_operations holds the acts of people and, far more of them, what work does. The indexes leave those kinds out,
-- so that a reserve, capture or release pays nothing for them; a kind that nobody has thought of yet is in the log.
-- squawk-ignore-file require-concurrent-index-creation

CREATE INDEX credit_operations_acts ON public.credit_operations (created_at)
    WHERE kind NOT IN ('reserve', 'capture', 'release');

CREATE INDEX credit_operations_acts_of_scope ON public.credit_operations (scope, created_at)
    WHERE kind NOT IN ('reserve', 'capture', 'release');

-- The keys that operators send along with adjustments (api/admin/corrections.py): one adjusts one person, once.
CREATE UNIQUE INDEX credit_operations_key_adjusts_one ON public.credit_operations (key)
    WHERE kind = 'adjust' AND key LIKE 'adjust:%';
