-- Indexes for two ways of looking back. The table was made by the migration before this one: nothing is in it yet that
-- would be blocked.

-- how long generations of a type took lately, for the estimate in every reply: the newest completed ones by type
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX generations_recent ON generations (type, finished_at DESC) WHERE state = 'completed';
-- a person's generations of some types, newest first
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX generations_history_by_type ON generations (user_id, type, created_at DESC, id DESC);
