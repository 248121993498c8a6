-- name: is_shown
-- What its person deleted is shown to nobody, whatever addresses were handed out; but a model that is modifying it may
-- still fetch it.
SELECT EXISTS (
    SELECT FROM generations AS g
    WHERE
        g.id = $1
        AND (
            g.deleted_at IS NULL
            OR EXISTS (
                SELECT FROM generations AS open
                WHERE open.source ->> 'generation_id' = g.id::text AND open.source IS NOT NULL AND open.due_at IS NOT NULL
            )
        )
);
