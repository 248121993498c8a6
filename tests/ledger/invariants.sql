-- The invariants of ledger.md that a commit can be asked for, as deferred triggers: whatever commits in a test's database, a
-- test or the product, is refused when it leaves an account, a hold or a generation wrong. Only what was touched is looked
-- at, and of the entries only the new ones: each follows from the one before it, so the last one tells their sum.
-- The product has none of this; tests/local/databases.py puts it into the template of the tests' databases.

CREATE SCHEMA invariants;

CREATE FUNCTION invariants.refuse(p_what text, p_key text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE assert_failure USING MESSAGE = format('%s: %s', p_what, p_key);
END
$$;

-- I1, I3: an entry has the next number, and the balances that its amount makes of those before it.
CREATE FUNCTION invariants.check_entry() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    b public.credit_entries;
BEGIN
    SELECT * INTO b FROM public.credit_entries WHERE user_id = NEW.user_id AND seq = NEW.seq - 1;
    IF NOT FOUND AND NEW.seq > 1 THEN
        PERFORM invariants.refuse('I3: an entry follows none', NEW.user_id || '/' || NEW.seq);
    ELSIF NEW.posted_after - coalesce(b.posted_after, 0) <> NEW.amount
            * ((NEW.to_leg IN ('available', 'held'))::int - (NEW.from_leg IN ('available', 'held'))::int)
        OR NEW.held_after - coalesce(b.held_after, 0) <> NEW.amount
            * ((NEW.to_leg = 'held')::int - (NEW.from_leg = 'held')::int)
        OR NEW.overdraft_used_after - coalesce(b.overdraft_used_after, 0) <> NEW.amount
            * ((NEW.from_leg IN ('overdraft', 'overdraft_held'))::int
                - (NEW.to_leg IN ('overdraft', 'overdraft_held'))::int)
        OR NEW.overdraft_held_after - coalesce(b.overdraft_held_after, 0) <> NEW.amount
            * ((NEW.to_leg = 'overdraft_held')::int - (NEW.from_leg = 'overdraft_held')::int)
    THEN
        PERFORM invariants.refuse('I1: the balances of an entry are not what it moved', NEW.user_id || '/' || NEW.seq);
    END IF;
    RETURN NULL;
END
$$;

-- I2, I3: an account has the number and the balances of its last entry, the credits of its live buckets, and in hold what
-- its open holds were promised. One look in a transaction, when row after row is about the same person.
CREATE FUNCTION invariants.check_account() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_wrong text;
BEGIN
    IF current_setting('invariants.checked', true) = NEW.user_id THEN
        RETURN NULL;
    END IF;
    SELECT CASE
        WHEN a.seq <> coalesce(e.seq, 0) OR a.head_hash <> e.hash
            THEN 'I3: the account does not end with its last entry'
        WHEN a.posted <> coalesce(e.posted_after, 0) OR a.held <> coalesce(e.held_after, 0)
            OR a.overdraft_used <> coalesce(e.overdraft_used_after, 0)
            OR a.overdraft_held <> coalesce(e.overdraft_held_after, 0)
            THEN 'I2: the balances are not those of the entries'
        WHEN a.posted <> b.remaining + b.held OR a.held <> b.held
            THEN 'I2: the balances are not those of the buckets'
        WHEN a.held + a.overdraft_held <> h.promised
            THEN 'I2: what is held is not what the open holds were promised'
    END INTO v_wrong
    FROM public.user_billing a
    LEFT JOIN LATERAL (
        SELECT * FROM public.credit_entries l WHERE l.user_id = a.user_id ORDER BY l.seq DESC LIMIT 1
    ) e ON true
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(k.remaining), 0) AS remaining, coalesce(sum(k.held), 0) AS held
        FROM public.credit_buckets k WHERE k.user_id = a.user_id AND k.live
    ) b
    CROSS JOIN LATERAL (
        -- no open hold ends before holds_due_at: those that ended earlier are not looked at, however many they are
        SELECT coalesce(sum(o.quoted), 0) AS promised
        FROM public.credit_holds o WHERE o.user_id = a.user_id AND o.expires_at >= a.holds_due_at AND o.state = 'open'
    ) h
    WHERE a.user_id = NEW.user_id;
    IF NOT FOUND THEN
        v_wrong := 'I2: there is no account';
    END IF;
    IF v_wrong IS NOT NULL THEN
        PERFORM invariants.refuse(v_wrong, NEW.user_id);
    END IF;
    PERFORM set_config('invariants.checked', NEW.user_id, true);
    RETURN NULL;
END
$$;

-- I5: a hold that is final stays what it is.
CREATE FUNCTION invariants.check_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM invariants.refuse('I5: a hold that was final has been changed', OLD.hold_id::text);
    RETURN NULL;
END
$$;

-- I11: a generation is over exactly when its hold is, and costs what was charged for it.
CREATE FUNCTION invariants.check_generation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM public.generations g INNER JOIN public.credit_holds h ON h.hold_id = g.hold_id
        WHERE g.hold_id = NEW.hold_id AND (h.final <> public.generation_is_terminal(g.state)
            OR (h.final AND g.charged IS DISTINCT FROM h.captured + h.late_captured))
    ) THEN
        PERFORM invariants.refuse('I11: the generation is over and its hold is not, or costs another amount',
            NEW.hold_id::text);
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER invariant_entry AFTER INSERT ON public.credit_entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invariants.check_entry();

CREATE CONSTRAINT TRIGGER invariant_sums AFTER INSERT ON public.credit_entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invariants.check_account();
CREATE CONSTRAINT TRIGGER invariant_sums AFTER INSERT OR UPDATE ON public.user_billing
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invariants.check_account();
CREATE CONSTRAINT TRIGGER invariant_sums AFTER INSERT OR UPDATE ON public.credit_buckets
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invariants.check_account();
CREATE CONSTRAINT TRIGGER invariant_sums AFTER INSERT OR UPDATE ON public.credit_holds
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invariants.check_account();

CREATE CONSTRAINT TRIGGER invariant_final AFTER UPDATE ON public.credit_holds
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.final AND (OLD.state, OLD.quoted, OLD.captured, OLD.released, OLD.late_captured, OLD.final)
        IS DISTINCT FROM (NEW.state, NEW.quoted, NEW.captured, NEW.released, NEW.late_captured, NEW.final))
    EXECUTE FUNCTION invariants.check_final();

CREATE CONSTRAINT TRIGGER invariant_generation AFTER UPDATE ON public.credit_holds
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invariants.check_generation();
CREATE CONSTRAINT TRIGGER invariant_generation AFTER INSERT OR UPDATE OF state, hold_id, charged ON public.generations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invariants.check_generation();
