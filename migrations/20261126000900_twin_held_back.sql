-- What a person has held back is let in by its age: where it would have stood in the lines of different types says nothing
-- about which came first. All of it waits for as long, so whose time is over first came first.
-- squawk-ignore-file require-concurrent-index-creation

CREATE INDEX generations_held_back ON public.generations (user_id, deadline_at, id) WHERE held_back;
