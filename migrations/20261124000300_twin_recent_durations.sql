-- How long generations of a type took lately, for the estimate in every reply: the newest completed ones by type.
CREATE INDEX generations_recent ON generations (type, finished_at DESC) WHERE state = 'completed';
