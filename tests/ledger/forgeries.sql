-- Ways to tamper with somebody's ledger by hand: `$1` is the person. The first line of each says how the finding that
-- must name it is called and which table it names; the last statement returns the key of that row.

-- name: prepare
CREATE OR REPLACE FUNCTION pg_temp.rechain(p_user_id text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    e credit_entries;
    a user_billing;
BEGIN
    a.posted := 0;
    a.held := 0;
    a.head_hash := decode(repeat('00', 32), 'hex');
    FOR e IN SELECT * FROM credit_entries WHERE user_id = p_user_id ORDER BY seq LOOP
        a.posted := a.posted + e.amount
            * ((e.to_leg IN ('available', 'held'))::int - (e.from_leg IN ('available', 'held'))::int);
        a.held := a.held + e.amount * ((e.to_leg = 'held')::int - (e.from_leg = 'held')::int);
        a.head_hash := ledger_hash(a.head_hash, p_user_id, e.seq, e.txn_id,
            ROW(e.kind, e.from_leg, e.to_leg, e.amount, e.bucket_id)::ledger_movement, e.hold_id, e.actor, a.posted,
            a.held, e.overdraft_used_after, e.overdraft_held_after, e.at, e.detail);
        UPDATE credit_entries SET posted_after = a.posted, held_after = a.held, hash = a.head_hash
        WHERE user_id = p_user_id AND seq = e.seq;
    END LOOP;
    UPDATE user_billing SET posted = a.posted, held = a.held, head_hash = a.head_hash WHERE user_id = p_user_id;
END
$$;

-- name: edited_amount
-- entry-changed: credit_entries
UPDATE credit_entries SET amount = amount + 1 WHERE user_id = $1 AND seq = 3 RETURNING user_id || '/' || seq;

-- name: edited_balance
-- entry-changed: credit_entries
UPDATE credit_entries SET posted_after = posted_after + 1 WHERE user_id = $1 AND seq = 3 RETURNING user_id || '/' ||
    seq;

-- name: edited_balance_hashed_again
-- entry-unbalanced: credit_entries
UPDATE credit_entries e SET posted_after = e.posted_after + 5, hash = ledger_hash(b.hash, e.user_id, e.seq, e.txn_id,
    ROW(e.kind, e.from_leg, e.to_leg, e.amount, e.bucket_id)::ledger_movement, e.hold_id, e.actor, e.posted_after + 5,
    e.held_after, e.overdraft_used_after, e.overdraft_held_after, e.at, e.detail)
FROM credit_entries b, user_billing a
WHERE a.user_id = $1 AND e.user_id = $1 AND e.seq = a.seq AND b.user_id = $1 AND b.seq = a.seq - 1;
UPDATE user_billing a SET posted = a.posted + 5, head_hash = e.hash FROM credit_entries e
WHERE a.user_id = $1 AND e.user_id = $1 AND e.seq = a.seq RETURNING a.user_id || '/' || a.seq;

-- name: edited_actor
-- entry-changed: credit_entries
UPDATE credit_entries SET actor = 'x' WHERE user_id = $1 AND seq = 1 RETURNING user_id || '/' || seq;

-- name: edited_time
-- entry-changed: credit_entries
UPDATE credit_entries SET at = at + interval '1 us' WHERE user_id = $1 AND seq = 2 RETURNING user_id || '/' || seq;

-- name: edited_reason
-- entry-changed: credit_entries
UPDATE credit_entries SET detail = detail || '{"reason": "x"}' WHERE user_id = $1 AND kind = 'adjust'
    AND to_leg = 'reversed' RETURNING user_id || '/' || seq;

-- name: deleted_detail
-- entry-changed: credit_entries
UPDATE credit_entries SET detail = NULL WHERE user_id = $1 AND seq = 1 RETURNING user_id || '/' || seq;

-- name: edited_hash
-- entry-changed: credit_entries
UPDATE credit_entries SET hash = sha256('x') WHERE user_id = $1 AND seq = 2 RETURNING user_id || '/' || seq;

-- name: deleted_entry
-- entry-missing: credit_entries
DELETE FROM credit_entries WHERE user_id = $1 AND seq = 4 RETURNING user_id || '/' || seq;

-- name: deleted_first_entry
-- entry-missing: credit_entries
DELETE FROM credit_entries WHERE user_id = $1 AND seq = 1 RETURNING user_id || '/' || seq;

-- name: deleted_last_entry
-- entry-missing: credit_entries
DELETE FROM credit_entries WHERE user_id = $1 AND seq = (SELECT seq FROM user_billing WHERE user_id = $1) RETURNING
    user_id || '/' || seq;

-- name: swapped_rows
-- entry-changed: credit_entries
UPDATE credit_entries SET seq = seq + 100000 WHERE user_id = $1 AND seq IN (2, 3) RETURNING user_id || '/' || seq;
UPDATE credit_entries SET seq = 100005 - seq WHERE user_id = $1 AND seq > 100000 RETURNING user_id || '/' || seq;

-- name: movement_that_nobody_makes
-- entry-unlawful: credit_entries
UPDATE credit_entries SET kind = 'release' WHERE user_id = $1 AND kind = 'grant' AND bucket_id = (SELECT bucket_id
    FROM credit_buckets WHERE user_id = $1 AND kind = 'paid');
SELECT pg_temp.rechain($1);
SELECT user_id || '/' || seq FROM credit_entries WHERE user_id = $1 AND bucket_id = (SELECT bucket_id FROM
    credit_buckets WHERE user_id = $1 AND kind = 'paid') AND kind = 'release' AND from_leg = 'issued';

-- name: forged_entry_with_everything_but_an_operation
-- entry-unanswered: credit_entries
SELECT $1 || '/' || ((ledger_fill(ledger_lock($1), jsonb_populate_record(NULL::credit_buckets,
    '{"kind": "promo", "granted": 2, "source_ref": "forged", "effective_at": "2026-03-01"}'), 'grant', 'issued',
    gen_random_uuid(), NULL, 'me',
    NULL, '2026-03-01T14:00Z')).account).seq;

-- name: forged_daily_credits
-- daily-unfounded: credit_buckets
SELECT (ledger_grant_daily(ledger_lock($1), 500, gen_random_uuid(), '2026-03-02T14:00Z')).seq;
SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'daily' AND granted = 500;

-- name: forged_balance
-- account-differs: user_billing
UPDATE user_billing SET posted = posted + 5 WHERE user_id = $1 RETURNING user_id;

-- name: forged_debt
-- account-differs: user_billing
UPDATE user_billing SET overdraft_used = overdraft_used + 1 WHERE user_id = $1 RETURNING user_id;

-- name: forged_head
-- account-differs: user_billing
UPDATE user_billing SET head_hash = sha256('x') WHERE user_id = $1 RETURNING user_id;

-- name: forged_limit
-- account-terms: user_billing
UPDATE user_billing SET overdraft_limit = 1000 WHERE user_id = $1 RETURNING user_id;

-- name: forged_plan
-- account-terms: user_billing
UPDATE user_billing SET plan = 'free' WHERE user_id = $1 RETURNING user_id;

-- name: forged_day
-- account-daily: user_billing
UPDATE user_billing SET daily_granted_on = daily_granted_on - 1 WHERE user_id = $1 RETURNING user_id;

-- name: forged_time_zone
-- account-terms: user_billing
UPDATE user_billing SET time_zone = 'Asia/Tokyo' WHERE user_id = $1 RETURNING user_id;

-- name: forged_warning
-- account-warned: user_billing
UPDATE user_billing SET warned = 2 WHERE user_id = $1 RETURNING user_id;

-- name: warning_added_by_hand
-- warning-unanswered: credit_warnings
INSERT INTO credit_warnings (user_id, code, available, at) VALUES ($1, 'low-balance', 3, '2026-03-01') RETURNING
    warning_id;

-- name: warning_of_another_balance
-- warning-unanswered: credit_warnings
UPDATE credit_warnings SET available = available + 1000 WHERE user_id = $1 RETURNING warning_id;

-- name: deleted_account
-- account-missing: user_billing
DELETE FROM user_billing WHERE user_id = $1 RETURNING user_id;

-- name: forged_bucket
-- bucket-differs: credit_buckets
UPDATE credit_buckets SET granted = granted + 5, remaining = remaining + 5 WHERE user_id = $1 AND kind = 'paid'
    RETURNING bucket_id;

-- name: forged_bucket_balance_kept
-- bucket-differs: credit_buckets
UPDATE credit_buckets SET remaining = remaining - 1 WHERE user_id = $1 AND kind = 'paid';
UPDATE credit_buckets SET granted = 100, remaining = remaining + 1, live = true WHERE user_id = $1 AND kind = 'promo'
    RETURNING bucket_id;

-- name: end_moved_out
-- bucket-terms: credit_buckets
UPDATE credit_buckets SET expires_at = expires_at + interval '1 year' WHERE user_id = $1 AND kind = 'promo'
    RETURNING bucket_id;

-- name: end_taken_away
-- bucket-terms: credit_buckets
UPDATE credit_buckets SET expires_at = NULL WHERE user_id = $1 AND kind = 'promo' RETURNING bucket_id;

-- name: priority_changed
-- bucket-terms: credit_buckets
UPDATE credit_buckets SET priority = 1 WHERE user_id = $1 AND kind = 'paid' RETURNING bucket_id;

-- name: payment_changed
-- bucket-terms: credit_buckets
UPDATE credit_buckets SET paid_amount = paid_amount + 1 WHERE user_id = $1 AND kind = 'paid' RETURNING bucket_id;

-- name: bucket_hidden_from_the_sweep
-- bucket-forgotten: credit_buckets
UPDATE user_billing SET due_at = NULL WHERE user_id = $1;
SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'promo' AND remaining > 0;

-- name: replayed_grant
-- bucket-unfounded: credit_buckets
INSERT INTO credit_buckets (user_id, kind, granted, remaining, effective_at, source_ref, created_at)
    VALUES ($1, 'paid', 10, 10, now(), 'again', now()) RETURNING bucket_id;

-- name: deleted_bucket
-- bucket-missing: credit_buckets
DELETE FROM credit_buckets WHERE user_id = $1 AND kind = 'paid' RETURNING bucket_id;

-- name: orphan_hold
-- hold-unfounded: credit_holds
INSERT INTO credit_holds (hold_id, user_id, generation_id, quoted, price, created_at, expires_at, first_seq, last_seq)
    VALUES (gen_random_uuid(), $1, gen_random_uuid(), 4, '{}', now(), now(), 1, 1) RETURNING hold_id;

-- name: orphan_free_hold
-- hold-unfounded: credit_holds
INSERT INTO credit_holds (hold_id, user_id, generation_id, quoted, price, created_at, expires_at, first_seq, last_seq)
    VALUES (gen_random_uuid(), $1, gen_random_uuid(), 0, '{}', now(), now(), 1, 0) RETURNING hold_id;

-- name: deleted_hold
-- hold-missing: credit_holds
DELETE FROM credit_holds WHERE user_id = $1 AND state = 'open' RETURNING hold_id;

-- name: hold_settled_by_hand
-- hold-differs: credit_holds
UPDATE credit_holds SET state = 'released', released = quoted, final = true, settled_at = now() WHERE user_id = $1
    AND state = 'open' RETURNING hold_id;

-- name: hold_made_dearer
-- hold-differs: credit_holds
UPDATE credit_holds SET quoted = quoted + 1 WHERE user_id = $1 AND state = 'open' RETURNING hold_id;

-- name: hold_made_cheaper
-- hold-differs: credit_holds
UPDATE credit_holds SET captured = captured - 1, released = released + 1 WHERE user_id = $1 AND state = 'captured'
    AND captured > 0 RETURNING hold_id;

-- name: hold_of_another_price
-- hold-request: credit_holds
UPDATE credit_holds SET price = price || '{"unit_credits": 1}' WHERE user_id = $1 AND state = 'open' RETURNING hold_id;

-- name: hold_of_an_unreadable_price
-- hold-request: credit_holds
UPDATE credit_holds SET price = price || '{"price_version": "x"}' WHERE user_id = $1 AND state = 'open' RETURNING
    hold_id;

-- name: hold_of_another_generation
-- hold-request: credit_holds
UPDATE credit_holds SET generation_id = gen_random_uuid() WHERE user_id = $1 AND state = 'open' RETURNING hold_id;

-- name: late_capture_to_be_made_again
-- hold-differs: credit_holds
UPDATE credit_holds SET final = false, late = false, late_captured = 0 WHERE user_id = $1 AND late RETURNING hold_id;

-- name: late_capture_forestalled
-- hold-differs: credit_holds
UPDATE credit_holds SET final = true WHERE user_id = $1 AND state = 'expired' AND NOT final RETURNING hold_id;

-- name: hold_hidden_from_the_sweep
-- hold-forgotten: credit_holds
UPDATE user_billing SET holds_due_at = NULL WHERE user_id = $1;
SELECT hold_id FROM credit_holds WHERE user_id = $1 AND state = 'open';

-- name: hold_of_another_s_entries
-- hold-differs: credit_holds
UPDATE credit_holds SET first_seq = first_seq - 1 WHERE user_id = $1 AND state = 'open' RETURNING hold_id;

-- name: hold_of_fewer_entries
-- hold-differs: credit_holds
UPDATE credit_holds SET last_seq = last_seq + 1 WHERE user_id = $1 AND state = 'open' RETURNING hold_id;

-- name: charged_to_another_bucket
-- part-differs: credit_holds
UPDATE credit_entries SET bucket_id = (SELECT max(bucket_id) FROM credit_buckets WHERE user_id = $1)
    WHERE user_id = $1 AND kind = 'capture' AND from_leg = 'held';
SELECT pg_temp.rechain($1);
SELECT hold_id FROM credit_entries WHERE user_id = $1 AND kind = 'capture' AND from_leg = 'held' LIMIT 1;

-- name: given_back_while_open
-- part-differs: credit_holds
SELECT (ledger_post(ledger_lock($1), ARRAY[ROW('release', 'held', 'available', 1, e.bucket_id)::ledger_movement],
    gen_random_uuid(), h.hold_id, 'system', '2026-03-01T14:00Z')).seq
    FROM credit_holds h INNER JOIN credit_entries e ON e.user_id = h.user_id AND e.seq = h.first_seq
    WHERE h.user_id = $1 AND h.state = 'open';
SELECT hold_id FROM credit_holds WHERE user_id = $1 AND state = 'open';

-- name: account_that_may_be_closed
-- guard-missing: user_billing
DROP TRIGGER user_billing_stays ON user_billing;
CREATE TRIGGER user_billing_stays BEFORE UPDATE OF plan OR DELETE OR TRUNCATE ON user_billing
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_to_leave();
SELECT 'user_billing_stays';

-- name: holds_that_may_go
-- guard-missing: credit_holds
ALTER TABLE credit_holds DISABLE TRIGGER credit_holds_stays;
SELECT 'credit_holds_stays';

-- name: buckets_that_may_go
-- guard-missing: credit_buckets
DROP TRIGGER credit_buckets_stays ON credit_buckets;
SELECT 'credit_buckets_stays';

-- name: hold_of_no_entries
-- hold-differs: credit_holds
ALTER TABLE credit_holds DROP CONSTRAINT credit_holds_rules;
UPDATE credit_holds SET first_seq = NULL WHERE user_id = $1 AND state = 'open' RETURNING hold_id;

-- name: hold_without_its_last_entry
-- hold-differs: credit_holds
ALTER TABLE credit_holds DROP CONSTRAINT credit_holds_rules;
UPDATE credit_holds SET last_seq = NULL WHERE user_id = $1 AND state = 'open' RETURNING hold_id;

-- name: bucket_put_to_sleep
-- bucket-differs: credit_buckets
ALTER TABLE credit_buckets DROP CONSTRAINT credit_buckets_rules;
UPDATE credit_buckets SET live = false WHERE user_id = $1 AND kind = 'paid' RETURNING bucket_id;

-- name: charge_given_back_twice
-- charge-refunded-twice: credit_holds
SELECT (ledger_fill(ledger_lock($1), jsonb_populate_record(NULL::credit_buckets,
    '{"kind": "promo", "granted": 2, "source_ref": "forged", "effective_at": "2026-03-01"}'), 'reverse', 'revenue',
    gen_random_uuid(), hold_id, 'me', NULL,
    '2026-03-01T14:00Z')).bucket_id
    FROM credit_entries WHERE user_id = $1 AND from_leg = 'revenue';
SELECT hold_id FROM credit_entries WHERE user_id = $1 AND from_leg = 'revenue' LIMIT 1;

-- name: grant_taken_back_twice
-- grant-reversed-twice: credit_buckets
SELECT (ledger_post(ledger_lock($1), ARRAY[ROW('reverse', 'available', 'reversed', 1, b.bucket_id)
    ::ledger_movement, ROW('reverse', 'available', 'reversed', 1, b.bucket_id)::ledger_movement],
    gen_random_uuid(), NULL, 'me', '2026-03-01T14:00Z')).seq
    FROM credit_buckets b WHERE user_id = $1 AND kind = 'paid';
SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'paid';

-- name: forged_outcome
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = outcome || '{"amount": 1000}' WHERE scope = $1 AND kind = 'grant'
    AND outcome ->> 'bucket_id' = (SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'paid')::text
    RETURNING scope || '/' || key;

-- name: unreadable_outcome
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = outcome || '{"captured": "x", "hold_id": "x"}' WHERE scope = $1
    AND kind = 'capture' AND NOT outcome @> '{"late": true}' AND outcome ->> 'captured' <> '0' RETURNING scope ||
    '/' || key;

-- name: forged_balance_in_an_outcome
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = jsonb_set(outcome, '{balance,posted}', '1000') WHERE scope = $1
    AND kind = 'release' AND outcome ->> 'released' = '4' RETURNING scope || '/' || key;

-- name: another_operator
-- operation-differs: credit_operations
UPDATE credit_operations SET actor = 'x' WHERE scope = $1 AND kind = 'adjust' AND outcome ->> 'amount' = '7'
    RETURNING scope || '/' || key;

-- name: another_reason
-- operation-differs: credit_operations
UPDATE credit_operations SET detail = '{"reason": "x"}' WHERE scope = $1 AND kind = 'adjust'
    AND outcome ->> 'amount' = '7' RETURNING scope || '/' || key;

-- name: forged_operation
-- operation-differs: credit_operations
SELECT ledger_remember(scope, 'invented', kind, request_hash, outcome || jsonb_build_object('txn_id', gen_random_uuid()),
    created_at, actor) FROM credit_operations WHERE scope = $1 AND kind = 'grant' LIMIT 1;
SELECT $1 || '/invented';

-- name: deleted_operation
-- entry-unanswered: credit_entries
DELETE FROM credit_operations WHERE scope = $1 AND kind = 'adjust' AND outcome ->> 'amount' = '7';
SELECT user_id || '/' || seq FROM credit_entries WHERE user_id = $1 AND kind = 'adjust' AND amount = 7;

-- name: history_rewritten_from_an_entry_on
-- bucket-differs: credit_buckets
UPDATE credit_entries SET amount = amount + 90 WHERE user_id = $1 AND kind = 'grant' AND bucket_id = (SELECT
    bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'paid');
SELECT pg_temp.rechain($1);
SELECT (SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'paid');

-- name: history_and_bucket_rewritten
-- operation-differs: credit_operations
UPDATE credit_entries SET amount = amount + 90 WHERE user_id = $1 AND kind = 'grant' AND bucket_id = (SELECT
    bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'paid');
SELECT pg_temp.rechain($1);
UPDATE credit_buckets SET granted = granted + 90, remaining = remaining + 90 WHERE user_id = $1 AND kind = 'paid';
SELECT scope || '/' || key FROM credit_operations WHERE scope = $1 AND outcome ->> 'bucket_id' = (SELECT bucket_id
    FROM credit_buckets WHERE user_id = $1 AND kind = 'paid')::text AND kind = 'grant';

-- name: edited_price
-- price-changed: price_versions
UPDATE price_versions SET unit_credits = unit_credits + 1 WHERE version = 2 RETURNING version;

-- name: edited_price_that_nobody_paid
-- price-changed: price_versions
UPDATE price_versions SET note = 'x' WHERE version = 4 RETURNING version;

-- name: price_edited_and_its_chain_rewritten
-- hold-price: credit_holds
UPDATE price_versions SET unit_credits = 9 WHERE version = 2;
WITH RECURSIVE chain AS (
    SELECT p.version, price_hash(p.previous_hash, p) AS hash, p.previous_hash FROM price_versions p
    WHERE version = 1
    UNION ALL
    SELECT p.version, price_hash(c.hash, p), c.hash FROM chain c JOIN price_versions p
    ON p.version = c.version + 1)
    UPDATE price_versions p SET hash = c.hash, previous_hash = c.previous_hash FROM chain c
    WHERE c.version = p.version;
SELECT hold_id FROM credit_holds WHERE user_id = $1 AND state = 'open';

-- name: deleted_price
-- price-missing: price_versions
DELETE FROM price_versions WHERE version = 3;
SELECT 4;

-- name: deleted_last_price
-- price-missing: price_versions
DELETE FROM price_versions WHERE version = (SELECT max(version) FROM price_versions) RETURNING version;

-- name: price_added_by_hand
-- price-unanswered: price_versions
INSERT INTO price_versions (version, type, unit_credits, created_by, previous_hash, hash)
    OVERRIDING SYSTEM VALUE SELECT version + 1, 'image', 0, 'migration', hash, sha256('x')
    FROM price_versions ORDER BY version DESC LIMIT 1 RETURNING version;

-- name: price_whose_record_was_deleted
-- price-unanswered: price_versions
DELETE FROM credit_operations WHERE scope = 'prices' AND outcome ->> 'version' = '2';
SELECT 2;

-- name: plan_that_nobody_ever_changed
-- plan-differs: credit_plans
UPDATE credit_plans SET overdraft_limit = 1000 WHERE plan = 'free' RETURNING plan;

-- name: plan_made_by_hand
-- plan-differs: credit_plans
INSERT INTO credit_plans (plan, daily_credits) VALUES ('gold', 1000) RETURNING plan;

-- name: plan_changed_by_hand
-- plan-differs: credit_plans
UPDATE credit_plans SET overdraft_limit = 7 WHERE plan = (
    SELECT plan FROM user_billing WHERE user_id = $1) RETURNING plan;

-- name: guard_switched_off
-- guard-missing: credit_entries
ALTER TABLE credit_entries DISABLE TRIGGER credit_entries_append_only;
SELECT 'credit_entries_append_only';

-- name: guard_that_is_let_out_of_hand
-- guard-missing: credit_operations
CREATE OR REPLACE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $f$
BEGIN
    RETURN NULL; -- RAISE EXCEPTION USING ERRCODE = 'TW008'
END
$f$;
SELECT 'credit_operations_append_only';

-- name: guard_of_fewer_changes
-- guard-missing: credit_entries
DROP TRIGGER credit_entries_append_only ON credit_entries;
CREATE TRIGGER credit_entries_append_only BEFORE DELETE OR TRUNCATE ON credit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
SELECT 'credit_entries_append_only';

-- name: guard_with_an_exception
-- guard-missing: price_versions
DROP TRIGGER price_versions_append_only ON price_versions;
CREATE TRIGGER price_versions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON price_versions
    FOR EACH STATEMENT WHEN (current_setting('application_name') <> 'x') EXECUTE FUNCTION ledger_refuse_change();
SELECT 'price_versions_append_only';

-- name: guard_by_another_name
-- guard-missing: price_versions
CREATE FUNCTION public.refuse_nothing() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN RETURN NULL; END$f$;
DROP TRIGGER price_versions_append_only ON price_versions;
CREATE TRIGGER price_versions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON price_versions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_nothing();
SELECT 'price_versions_append_only';

-- name: guard_of_one_column
-- guard-missing: price_versions
DROP TRIGGER price_versions_append_only ON price_versions;
CREATE TRIGGER price_versions_append_only BEFORE UPDATE OF note OR DELETE OR TRUNCATE ON price_versions
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
SELECT 'price_versions_append_only';

-- name: hold_begun_at_another_time
-- hold-differs: credit_holds
UPDATE credit_holds SET created_at = created_at - interval '1 second' WHERE user_id = $1 AND state = 'open'
RETURNING hold_id;

-- name: hold_settled_at_another_time
-- hold-differs: credit_holds
UPDATE credit_holds SET settled_at = settled_at + interval '1 second' WHERE user_id = $1 AND captured > 0
RETURNING hold_id;

-- name: bucket_of_another_time
-- bucket-terms: credit_buckets
UPDATE credit_buckets SET created_at = created_at - interval '1 second' WHERE user_id = $1 AND kind = 'paid'
RETURNING bucket_id;

-- name: operation_at_another_time
-- operation-differs: credit_operations
UPDATE credit_operations SET created_at = created_at + interval '1 second' WHERE scope = $1 AND kind = 'release'
RETURNING scope || '/' || key;

-- name: operation_of_another_hold
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = outcome || jsonb_build_object('hold_id', (
    SELECT hold_id FROM credit_holds WHERE user_id = $1 AND state = 'open'))
WHERE scope = $1 AND kind = 'release' RETURNING scope || '/' || key;

-- name: operation_that_answered_for_more
-- hold-differs: credit_holds
UPDATE credit_operations SET outcome = outcome || '{"released": 0}' WHERE scope = $1 AND kind = 'capture'
    AND outcome ->> 'released' = '2' RETURNING outcome ->> 'hold_id';

-- name: entry_put_into_somebody_elses_transaction
-- operation-differs: credit_operations
WITH o AS (SELECT key, outcome FROM credit_operations WHERE scope = $1 AND kind = 'release' LIMIT 1)
SELECT (ledger_fill(ledger_lock($1), jsonb_populate_record(NULL::credit_buckets,
    '{"kind": "promo", "granted": 2, "source_ref": "forged", "effective_at": "2026-03-01"}'), 'grant', 'issued',
    (o.outcome ->> 'txn_id')::uuid, NULL, 'system', NULL, '2026-03-01T14:00Z')).bucket_id FROM o;
SELECT scope || '/' || key FROM credit_operations WHERE scope = $1 AND kind = 'release' LIMIT 1;

-- name: hold_beside_an_open_one
-- hold-beside-another: credit_holds
INSERT INTO credit_holds
    (hold_id, user_id, generation_id, round, quoted, price, created_at, expires_at, first_seq, last_seq)
SELECT gen_random_uuid(), user_id, generation_id, 2, 4, '{}', now(), now(), first_seq, last_seq FROM credit_holds
WHERE user_id = $1 AND state = 'open' RETURNING hold_id;

-- name: hold_after_a_charge
-- hold-beside-another: credit_holds
INSERT INTO credit_holds
    (hold_id, user_id, generation_id, round, quoted, price, created_at, expires_at, first_seq, last_seq)
SELECT gen_random_uuid(), user_id, generation_id, 2, 4, '{}', now(), now(), first_seq, last_seq FROM credit_holds
WHERE user_id = $1 AND captured > 0 LIMIT 1 RETURNING hold_id;

-- name: hold_after_a_late_charge
-- hold-beside-another: credit_holds
INSERT INTO credit_holds
    (hold_id, user_id, generation_id, round, quoted, price, created_at, expires_at, first_seq, last_seq)
SELECT gen_random_uuid(), user_id, generation_id, 2, 4, '{}', now(), now(), first_seq, last_seq FROM credit_holds
WHERE user_id = $1 AND late LIMIT 1 RETURNING hold_id;

-- name: hold_of_a_round_that_was_passed_over
-- hold-beside-another: credit_holds
UPDATE credit_holds SET round = 3 WHERE user_id = $1 AND state = 'open' RETURNING hold_id;

-- name: hold_before_another_deleted
-- hold-beside-another: credit_holds
DELETE FROM credit_holds b USING credit_holds h
WHERE h.user_id = $1 AND h.round = 2 AND b.generation_id = h.generation_id AND b.round = 1;
SELECT hold_id FROM credit_holds WHERE user_id = $1 AND round = 2;

-- name: operation_that_names_no_transaction
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = (outcome - 'txn_id') || '{"amount": 1000}' WHERE scope = $1 AND kind = 'grant'
    AND outcome ->> 'bucket_id' = (SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'paid')::text
    RETURNING scope || '/' || key;

-- name: transaction_taken_out_of_an_answer
-- entry-unanswered: credit_entries
UPDATE credit_operations SET outcome = outcome - 'txn_id' WHERE scope = $1 AND kind = 'grant'
    AND outcome ->> 'bucket_id' = (SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'paid')::text;
SELECT user_id || '/' || seq FROM credit_entries WHERE user_id = $1 AND kind = 'grant'
    AND bucket_id = (SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'paid');

-- name: capture_that_names_no_transaction
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = outcome - 'txn_id' WHERE scope = $1 AND kind = 'capture'
    AND outcome ->> 'captured' = '23' RETURNING scope || '/' || key;

-- name: denial_of_what_was_held
-- entry-unanswered: credit_entries
UPDATE credit_operations o SET outcome = outcome || '{"outcome": "denied", "hold_id": null}' FROM credit_holds h
    WHERE o.scope = $1 AND o.kind = 'reserve' AND h.state = 'open' AND o.outcome ->> 'hold_id' = h.hold_id::text;
SELECT user_id || '/' || first_seq FROM credit_holds WHERE user_id = $1 AND state = 'open';

-- name: grant_beside_an_operation_that_names_no_transaction
-- entry-unanswered: credit_entries
INSERT INTO credit_operations (scope, key, kind, request_hash, outcome, created_at, actor)
VALUES ($1, 'invented', 'release', sha256(''), '{"captured": 0, "released": 0}', '2026-03-01T14:00Z', 'system');
SELECT $1 || '/' || ((ledger_fill(ledger_lock($1), jsonb_populate_record(NULL::credit_buckets,
    '{"kind": "promo", "granted": 2, "source_ref": "forged", "effective_at": "2026-03-01"}'), 'grant', 'issued',
    gen_random_uuid(), NULL, 'me', NULL, '2026-03-01T14:00Z')).account).seq;

-- name: grant_answered_twice
-- operation-repeated: credit_operations
SELECT ledger_remember(scope, 'invented', kind, request_hash, outcome, created_at, actor)
    FROM credit_operations WHERE scope = $1 AND kind = 'grant' LIMIT 1;
SELECT $1 || '/invented';

-- name: capture_answered_twice
-- hold-differs: credit_holds
INSERT INTO credit_operations SELECT scope, key || '-again', kind, request_hash, outcome, created_at, actor, detail
    FROM credit_operations WHERE scope = $1 AND kind = 'capture' AND outcome ->> 'captured' = '23'
    RETURNING outcome ->> 'hold_id';

-- name: reserve_answered_twice
-- hold-differs: credit_holds
INSERT INTO credit_operations SELECT scope, key || '-again', kind, request_hash, outcome, created_at, actor, detail
    FROM credit_operations WHERE scope = $1 AND kind = 'reserve' AND outcome ->> 'hold_id' IS NOT NULL LIMIT 1
    RETURNING outcome ->> 'hold_id';

-- name: settlement_of_a_free_hold_deleted
-- hold-differs: credit_holds
WITH h AS (SELECT hold_id FROM credit_holds WHERE user_id = $1 AND quoted = 0)
DELETE FROM credit_operations o USING h WHERE o.scope = $1 AND o.kind <> 'reserve'
    AND o.outcome ->> 'hold_id' = h.hold_id::text RETURNING h.hold_id;

-- name: grant_repeated_for_more
-- operation-differs: credit_operations
SELECT ledger_remember(user_id, 'invented', 'grant', sha256(''), jsonb_build_object('bucket_id', bucket_id, 'amount',
    granted + 1), created_at, 'me') FROM credit_buckets WHERE user_id = $1 AND kind = 'paid';
SELECT $1 || '/invented';

-- name: operator_deleted
-- operation-differs: credit_operations
UPDATE credit_operations SET actor = NULL WHERE scope = $1 AND kind = 'adjust' AND outcome ->> 'amount' = '7'
    RETURNING scope || '/' || key;

-- name: reason_deleted
-- operation-differs: credit_operations
UPDATE credit_operations SET detail = NULL WHERE scope = $1 AND kind = 'adjust' AND outcome ->> 'amount' = '7'
    RETURNING scope || '/' || key;

-- name: balance_taken_out_of_an_answer
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = outcome - 'balance' WHERE scope = $1 AND kind = 'adjust'
    AND outcome ->> 'amount' = '7' RETURNING scope || '/' || key;

-- name: terms_set_by_another
-- operation-changed: credit_operations
UPDATE credit_operations SET actor = 'x' WHERE scope = $1 AND kind = 'set-terms' AND act_seq = 2
    RETURNING scope || '/' || key;

-- name: terms_set_for_another_reason
-- operation-changed: credit_operations
UPDATE credit_operations SET detail = '{"reason": "x"}' WHERE scope = $1 AND kind = 'set-terms' AND act_seq = 2
    RETURNING scope || '/' || key;

-- name: terms_that_were_otherwise_before
-- operation-changed: credit_operations
UPDATE credit_operations SET outcome = jsonb_set(outcome, '{before,overdraft_limit}', '1000') WHERE scope = $1
    AND kind = 'set-terms' AND act_seq = 2 RETURNING scope || '/' || key;

-- name: terms_set_at_another_time
-- operation-changed: credit_operations
UPDATE credit_operations SET created_at = created_at + interval '1 second' WHERE scope = $1 AND kind = 'set-terms'
    AND act_seq = 2 RETURNING scope || '/' || key;

-- name: terms_set_after_another_entry
-- operation-changed: credit_operations
UPDATE credit_operations SET after_seq = after_seq + 5 WHERE scope = $1 AND kind = 'set-terms' AND act_seq = 2
    RETURNING scope || '/' || key;

-- name: time_zone_of_another_day
-- operation-changed: credit_operations
UPDATE credit_operations SET outcome = outcome || '{"after": "Nowhere/Land"}' WHERE scope = $1
    AND kind = 'set-time-zone' RETURNING scope || '/' || key;

-- name: opening_on_other_terms
-- operation-changed: credit_operations
UPDATE credit_operations SET outcome = jsonb_set(outcome, '{after,overdraft_limit}', '7') WHERE scope = $1
    AND kind = 'open' RETURNING scope || '/' || key;

-- name: terms_whose_record_is_gone
-- operation-missing: credit_operations
DELETE FROM credit_operations WHERE scope = $1 AND act_seq = 2;
SELECT scope || '/' || key FROM credit_operations WHERE scope = $1 AND act_seq = 3;

-- name: terms_set_and_set_back_and_forgotten
-- operation-missing: credit_acts
SELECT ledger_set_terms($1, 'higher', '{"overdraft_limit": 1000}', NULL, 'x', '2026-03-01T14:00Z');
SELECT ledger_set_terms($1, 'lower', '{"overdraft_limit": 5}', NULL, 'x', '2026-03-01T14:00Z');
DELETE FROM credit_operations WHERE scope = $1 AND key IN ('higher', 'lower');
SELECT $1;

-- name: plan_set_by_another
-- operation-changed: credit_operations
UPDATE credit_operations SET actor = 'x' WHERE scope = 'plans' AND act_seq = (
    SELECT max(act_seq) FROM credit_operations WHERE scope = 'plans') RETURNING scope || '/' || key;

-- name: plan_changed_and_set_back_and_forgotten
-- operation-missing: credit_acts
SELECT ledger_set_plan(plan, 'higher', '{"overdraft_limit": 1000}', NULL, 'x') FROM user_billing WHERE user_id = $1;
SELECT ledger_set_plan(plan, 'lower', '{"overdraft_limit": 0}', NULL, 'x') FROM user_billing WHERE user_id = $1;
DELETE FROM credit_operations WHERE scope = 'plans' AND key IN ('higher', 'lower');
SELECT 'plans';

-- name: price_added_by_another
-- operation-changed: credit_operations
UPDATE credit_operations SET actor = 'x' WHERE scope = 'prices' AND outcome ->> 'version' = '2'
    RETURNING scope || '/' || key;

-- name: second_daily_credits_of_a_day
-- daily-unfounded: credit_buckets
SELECT (ledger_fill(ledger_lock($1), jsonb_populate_record(NULL::credit_buckets, '{"kind": "daily", "granted": 10,
    "source_ref": "2026-03-02", "effective_at": "2026-03-01T14:00Z", "expires_at": "2026-03-01T23:00Z"}'), 'grant',
    'issued', gen_random_uuid(), NULL, 'system', NULL, '2026-03-01T14:00Z')).bucket_id;

-- name: daily_credits_of_another_plan
-- daily-unfounded: credit_buckets
SELECT ledger_set_plan('gold', 'gold', '{"daily_credits": 500}', NULL, 'x', '2026-03-01');
SELECT (ledger_grant_daily(ledger_lock($1), 500, gen_random_uuid(), '2026-03-02T14:00Z')).seq;
SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'daily' AND granted = 500;

-- name: daily_credits_that_last
-- daily-unfounded: credit_buckets
SELECT (ledger_fill(ledger_lock($1), jsonb_populate_record(NULL::credit_buckets, '{"kind": "daily", "granted": 10,
    "source_ref": "2026-03-02", "effective_at": "2026-03-02T14:00Z", "expires_at": "2027-03-02T23:00Z"}'), 'grant',
    'issued', gen_random_uuid(), NULL, 'system', NULL, '2026-03-02T14:00Z')).bucket_id;

-- name: credits_expired_before_their_end
-- bucket-expired-early: credit_buckets
WITH b AS (SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'promo' AND remaining > 1)
SELECT (ledger_post(ledger_lock($1), ARRAY[ROW('expire', 'available', 'expired', 1, b.bucket_id)::ledger_movement],
    gen_random_uuid(), NULL, 'system', '2026-03-01T14:00Z')).seq FROM b;
SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'promo' AND remaining > 1;

-- name: credits_expired_that_never_end
-- bucket-expired-early: credit_buckets
SELECT (ledger_post(ledger_lock($1), ARRAY[ROW('expire', 'available', 'expired', 1, bucket_id)::ledger_movement],
    gen_random_uuid(), NULL, 'system', '2026-03-01T14:00Z')).seq
FROM credit_buckets WHERE user_id = $1 AND kind = 'adjust' AND remaining > 1 AND expires_at IS NULL LIMIT 1;
SELECT bucket_id FROM credit_entries WHERE user_id = $1 AND kind = 'expire' AND at = '2026-03-01T14:00Z';

-- name: end_moved_out_by_an_invented_reversal
-- bucket-terms: credit_buckets
UPDATE credit_buckets SET expires_at = '2030-01-01' WHERE user_id = $1 AND kind = 'promo' AND remaining > 0;
SELECT ledger_remember(user_id, 'reverse:' || bucket_id, 'reverse', sha256(''), jsonb_build_object('bucket_id', bucket_id,
    'amount', 0, 'spent', 0, 'txn_id', gen_random_uuid(), 'expires_at', ledger_moment(expires_at)), '2026-03-01T14:00Z', 'me')
FROM credit_buckets WHERE user_id = $1 AND kind = 'promo' AND remaining > 0;
SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'promo' AND remaining > 0;

-- name: hold_that_lasts_longer
-- hold-differs: credit_holds
UPDATE credit_holds SET expires_at = expires_at + interval '1 year' WHERE user_id = $1 AND state = 'open';
UPDATE user_billing SET holds_due_at = holds_due_at + interval '1 year' WHERE user_id = $1;
SELECT hold_id FROM credit_holds WHERE user_id = $1 AND state = 'open';

-- name: hold_that_is_said_to_end_in_words
-- hold-differs: credit_holds
UPDATE credit_operations o SET outcome = outcome || '{"expires_at": "some day"}' FROM credit_holds h
    WHERE o.scope = $1 AND h.user_id = $1 AND h.state = 'open' AND o.outcome ->> 'hold_id' = h.hold_id::text
    RETURNING h.hold_id;

-- name: hold_that_had_ended_elsewhen
-- hold-differs: credit_holds
UPDATE credit_holds SET expires_at = expires_at + interval '1 second' WHERE user_id = $1 AND captured > 0
RETURNING hold_id;

-- name: hold_that_lapsed_before_its_end
-- hold-differs: credit_holds
UPDATE credit_holds SET expires_at = settled_at + interval '1 second' WHERE user_id = $1 AND state = 'expired'
    AND NOT final;
UPDATE credit_operations o SET outcome = outcome || jsonb_build_object('expires_at', ledger_moment(h.expires_at))
FROM credit_holds h WHERE o.scope = $1 AND h.user_id = $1 AND h.state = 'expired' AND NOT h.final
    AND o.outcome ->> 'hold_id' = h.hold_id::text;
SELECT hold_id FROM credit_holds WHERE user_id = $1 AND state = 'expired' AND NOT final;

-- name: daily_credits_of_another_moment
-- daily-unfounded: credit_buckets
SELECT (ledger_fill(ledger_lock($1), jsonb_populate_record(NULL::credit_buckets, '{"kind": "daily", "granted": 10,
    "source_ref": "2026-03-02", "effective_at": "2026-03-02T13:00Z", "expires_at": "2026-03-02T23:00Z"}'), 'grant',
    'issued', gen_random_uuid(), NULL, 'system', NULL, '2026-03-02T14:00Z')).bucket_id;

-- name: denial_of_a_free_hold
-- operation-differs: credit_operations
UPDATE credit_operations o SET outcome = outcome || '{"outcome": "denied"}' FROM credit_holds h
    WHERE o.scope = $1 AND o.kind = 'reserve' AND h.user_id = $1 AND h.quoted = 0
    AND o.outcome ->> 'hold_id' = h.hold_id::text RETURNING o.scope || '/' || o.key;

-- name: reversal_that_names_no_transaction
-- operation-differs: credit_operations
SELECT ledger_remember(user_id, 'invented', 'reverse', sha256(''), jsonb_build_object('bucket_id', bucket_id, 'amount', 0),
    created_at, 'me') FROM credit_buckets WHERE user_id = $1 AND kind = 'paid';
SELECT $1 || '/invented';

-- name: free_hold_settled_by_another
-- operation-differs: credit_operations
UPDATE credit_operations o SET actor = 'x' FROM credit_holds h WHERE o.scope = $1 AND o.kind = 'capture'
    AND h.user_id = $1 AND h.quoted = 0 AND o.outcome ->> 'hold_id' = h.hold_id::text RETURNING o.scope || '/' || o.key;

-- name: end_of_a_move_before_the_last
-- bucket-terms: credit_buckets
SELECT (ledger_grant_daily(ledger_lock($1), 10, gen_random_uuid(), '2026-03-02T14:00Z')).seq;
SELECT ledger_set_time_zone($1, 'America/New_York', 'x', '2026-03-02T14:00Z');
SELECT ledger_set_time_zone($1, 'Pacific/Honolulu', 'x', '2026-03-02T14:01Z');
UPDATE credit_buckets SET expires_at = '2026-03-03T05:00Z' WHERE user_id = $1 AND source_ref = '2026-03-02';
SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND source_ref = '2026-03-02' AND expires_at = '2026-03-03T05:00Z';

-- name: terms_set_under_another_key
-- operation-changed: credit_operations
UPDATE credit_operations SET key = 'x' WHERE scope = $1 AND act_seq = 2 RETURNING scope || '/' || key;

-- name: terms_set_by_another_request
-- operation-changed: credit_operations
UPDATE credit_operations SET request_hash = sha256('x') WHERE scope = $1 AND act_seq = 2 RETURNING scope || '/' || key;

-- name: terms_set_by_another_act
-- operation-changed: credit_operations
UPDATE credit_operations SET kind = 'open' WHERE scope = $1 AND act_seq = 2 RETURNING scope || '/' || key;

-- name: act_invented_by_hand
-- operation-changed: credit_operations
UPDATE credit_buckets SET expires_at = '2030-01-01' WHERE user_id = $1 AND kind = 'promo' AND remaining > 0;
INSERT INTO credit_operations (scope, key, kind, request_hash, outcome, created_at, actor, act_seq, after_seq, act_hash)
SELECT user_id, 'invented', 'reverse', sha256(''), jsonb_build_object('bucket_id', bucket_id, 'amount', 0, 'spent', 0,
    'txn_id', gen_random_uuid(), 'expires_at', ledger_moment(expires_at)), expires_at, 'me',
    (SELECT max(act_seq) + 1 FROM credit_operations WHERE scope = $1), 1, sha256('x')
FROM credit_buckets WHERE user_id = $1 AND kind = 'promo' AND remaining > 0 RETURNING scope || '/' || key;

-- name: act_at_another_time
-- operation-changed: credit_operations
UPDATE credit_operations SET created_at = created_at + interval '1 day' WHERE scope = $1 AND kind = 'reverse'
    AND act_seq = (SELECT max(act_seq) FROM credit_operations WHERE scope = $1 AND kind = 'reverse')
    RETURNING scope || '/' || key;

-- name: last_act_deleted
-- operation-missing: credit_acts
DELETE FROM credit_operations WHERE scope = $1 AND act_seq = (SELECT max(act_seq) FROM credit_operations WHERE scope = $1)
    RETURNING scope;

-- name: acts_that_nobody_counts
-- operation-missing: credit_acts
DELETE FROM credit_acts WHERE scope = $1 RETURNING scope;

-- name: acts_that_stand_elsewhere
-- operation-missing: credit_acts
UPDATE credit_acts SET act_hash = sha256('x') WHERE scope = 'plans' RETURNING scope;

-- name: adjustment_of_no_credits_that_moved
-- operation-differs: credit_operations
SELECT ledger_remember($1, 'invented', 'adjust', sha256(''), jsonb_build_object('amount', 1000, 'txn_id', gen_random_uuid()),
    '2026-03-01T14:00Z', 'me', '{"reason": "x"}');
SELECT $1 || '/invented';

-- name: amount_taken_out_of_an_answer
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = outcome - 'amount' WHERE scope = $1 AND kind = 'reverse'
    AND outcome ->> 'bucket_id' = (SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'plan')::text
    RETURNING scope || '/' || key;

-- name: hold_taken_out_of_a_refund
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = outcome - 'hold_id' WHERE scope = $1 AND kind = 'reverse' AND outcome ? 'hold_id'
    RETURNING scope || '/' || key;

-- name: capture_that_says_nothing
-- hold-differs: credit_holds
UPDATE credit_operations SET outcome = outcome - 'captured' WHERE scope = $1 AND kind = 'capture'
    AND outcome ->> 'captured' = '23' RETURNING outcome ->> 'hold_id';

-- name: late_capture_that_says_it_was_not
-- hold-differs: credit_holds
UPDATE credit_operations SET outcome = outcome || '{"late": false}' WHERE scope = $1 AND kind = 'capture'
    AND outcome @> '{"late": true}' RETURNING outcome ->> 'hold_id';

-- name: late_hold_that_was_not
-- hold-differs: credit_holds
ALTER TABLE credit_holds DROP CONSTRAINT credit_holds_rules;
UPDATE credit_holds SET late = NOT late WHERE user_id = $1 AND late RETURNING hold_id;

-- name: release_of_no_hold
-- operation-differs: credit_operations
INSERT INTO credit_operations (scope, key, kind, request_hash, outcome, created_at, actor) VALUES ($1, 'invented', 'release',
    sha256(''), jsonb_build_object('captured', 0, 'released', 0, 'txn_id', gen_random_uuid()), '2026-03-01', 'system')
RETURNING scope || '/' || key;

-- name: reserve_that_says_nothing
-- operation-differs: credit_operations
UPDATE credit_operations o SET outcome = outcome - 'outcome' FROM credit_holds h
    WHERE o.scope = $1 AND o.kind = 'reserve' AND h.user_id = $1 AND h.state = 'open'
    AND o.outcome ->> 'hold_id' = h.hold_id::text RETURNING o.scope || '/' || o.key;

-- name: plan_that_lets_more_in
-- plan-differs: credit_plans
UPDATE credit_plans SET max_in_flight = 10000 WHERE plan = 'free' RETURNING plan;

-- name: plan_that_is_gone
-- account-terms: user_billing
DELETE FROM credit_plans p USING user_billing u WHERE u.user_id = $1 AND p.plan = u.plan;
SELECT $1;

-- name: plan_that_nobody_made
-- plan-differs: credit_plans
INSERT INTO credit_plans (plan) VALUES ('gold') RETURNING plan;

-- name: amount_beyond_all_bounds
-- unreadable: user_billing
UPDATE credit_entries SET amount = 9223372036854775807 WHERE user_id = $1 RETURNING user_id;

-- name: moment_beyond_all_bounds
-- unreadable: user_billing
UPDATE credit_operations SET outcome = jsonb_set(outcome, '{after}', '1e400') WHERE scope = $1 AND act_seq = 2
    RETURNING scope;

-- name: price_of_no_moment
-- unreadable: *
UPDATE price_versions SET effective_at = 'infinity' WHERE version = 2;
SELECT 'check_prices';

-- name: daily_credits_of_no_day
-- daily-unfounded: credit_buckets
SELECT (ledger_fill(ledger_lock($1), jsonb_populate_record(NULL::credit_buckets, '{"kind": "daily", "granted": 10,
    "source_ref": "2026-03-02", "effective_at": "2026-03-02T14:00Z", "expires_at": "2026-03-02T23:00Z"}'), 'grant',
    'issued', gen_random_uuid(), NULL, 'system', '{"source_ref": null}', '2026-03-02T14:00Z')).bucket_id;

-- name: grant_of_another_bucket
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = jsonb_set(outcome, '{bucket_id}', '1') WHERE scope = $1 AND kind = 'grant'
    AND outcome ->> 'bucket_id' = (SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'paid')::text
    RETURNING scope || '/' || key;

-- name: reversal_of_another_bucket
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = jsonb_set(outcome, '{bucket_id}', '1') WHERE scope = $1 AND kind = 'reverse'
    AND outcome ->> 'bucket_id' = (SELECT bucket_id FROM credit_buckets WHERE user_id = $1 AND kind = 'plan')::text
    RETURNING scope || '/' || key;

-- name: denial_made_a_hold
-- operation-differs: credit_operations
UPDATE credit_operations SET outcome = outcome || jsonb_build_object('outcome', 'held', 'txn_id', gen_random_uuid())
WHERE scope = $1 AND kind = 'reserve' AND outcome @> '{"outcome": "denied"}' RETURNING scope || '/' || key;

-- name: free_hold_that_names_no_transaction
-- operation-differs: credit_operations
UPDATE credit_operations o SET outcome = outcome - 'txn_id' FROM credit_holds h
    WHERE o.scope = $1 AND o.kind = 'reserve' AND h.user_id = $1 AND h.quoted = 0
    AND o.outcome ->> 'hold_id' = h.hold_id::text RETURNING o.scope || '/' || o.key;

-- name: hold_that_never_ends
-- hold-differs: credit_holds
UPDATE credit_holds SET expires_at = 'infinity' WHERE user_id = $1 AND state = 'open' RETURNING hold_id;

-- name: seal_that_seals_nothing
-- guard-missing: pg_proc
CREATE OR REPLACE FUNCTION ledger_act_hash(p_previous bytea, o credit_operations) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $f$ SELECT coalesce(o.act_hash, sha256(p_previous)) $f$;
SELECT 'ledger_act_hash';

-- name: deleted_price_that_is_paid
-- hold-price: credit_holds
DELETE FROM price_versions WHERE version = 2;
SELECT hold_id FROM credit_holds WHERE user_id = $1 AND state = 'open';
