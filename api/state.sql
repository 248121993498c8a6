-- name: become
-- As Supabase's own doors do it. auth.jwt() looks at request.jwt.claim first, so nothing may be left in that.
SELECT
    set_config('role', 'authenticated', true),
    set_config('request.jwt.claims', $1, true),
    set_config('request.jwt.claim', '', true);
