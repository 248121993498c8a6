-- How long generations of a type took lately, for the estimate in every reply: the newest completed ones by type.
-- The table was made by the migration before this one: nothing is in it yet that would be blocked.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX generations_recent ON generations (type, finished_at DESC) WHERE state = 'completed';
