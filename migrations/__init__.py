"""The schema as plain forward-only SQL; `python -m migrations` applies it, `supabase db push` may as well."""
