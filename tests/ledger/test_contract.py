"""The money rules, a line each, and the test that proves it. A test that is gone is missed."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

RULES = {
    "no floats, no NUMERIC, in tables and functions": (
        "ledger/test_shape:no_column_argument_or_answer_is_a_float_or_numeric"
    ),
    "nor in JSON": "ledger/test_shape:credits_are_integers_in_json_too",
    # What others got wrong
    "one conditional write under the account's lock": "ledger/test_races:credit_for_one_is_held_once",
    "lock the account row, then read in a second statement": (
        "ledger/test_races:an_uncommitted_reservation_is_waited_for"
    ),
    "one transaction: terminal state exactly when settled": "flow/test_gaps:between_the_copy_and_the_settlement",
    "holds expire by themselves": "ledger/test_time:a_hold_lapses_by_itself",
    "the same key replays its stored outcome": "ledger/test_keys:the_same_key_gets_the_same_answer",
    "denial included": "ledger/test_keys:a_denial_is_replayed_even_when_credits_have_come",
    "prices >= 0, in the database": "ledger/test_tampering:a_bad_price_is_impossible",
    "amounts > 0, in the database": "ledger/test_rules:the_row_is_impossible",
    "absurd amounts are refused": "ledger/test_operations:absurd_amounts_change_nothing",
    "expiry is enforced by the clock": "ledger/test_time:expired_credits_cannot_be_seen_or_spent_before_any_sweep",
    "the sweep only writes it down": "ledger/test_sweep:the_sweep_does_what_is_due_and_no_more",
    "admission is stored on the hold, new jobs are judged fresh": "ledger/test_decisions:admission_is_final",
    # Tables
    "debt is its own column, never a negative balance": (
        "ledger/test_decisions:the_overdraft_is_taken_last_and_given_back_first"
    ),
    "rows are updated in place": "ledger/test_statements:rows_have_room_to_be_updated_in_place",
    "a grant happens once": "ledger/test_keys:a_grant_happens_once_per_source",
    "a hold names its parts, unwound in reverse": (
        "ledger/test_operations:buckets_are_spent_in_order_and_unwound_in_reverse"
    ),
    "a hold keeps price version and arithmetic": "shared/test_costs:a_hold_keeps_all_of_it",
    "entries are append-only": "ledger/test_tampering:history_cannot_be_changed",
    "no UPDATE or DELETE is granted": "rls/test_people:nothing_is_written",
    "prices are immutable": "api/test_prices:prices_are_never_edited",
    # Behaviour
    "1 spend order": "ledger/test_operations:buckets_are_spent_in_order_and_unwound_in_reverse",
    "1 stable": "ledger/test_operations:equal_buckets_are_spent_oldest_first",
    "2 at first use": "ledger/test_daily:the_first_use_of_a_day_brings_its_credits",
    "2 at first look": "ledger/test_daily:the_first_look_of_a_day_brings_its_credits",
    "2 until the next local midnight": "ledger/test_daily:they_end_at_the_next_local_midnight",
    "2 in every zone": "ledger/test_daily:the_days_of_all_zones_end_as_the_clock_on_the_wall_says",
    "2 no cron": "ledger/test_daily:the_sweep_gives_nothing_to_who_stays_away",
    "2 no double grant, no date lost": "ledger/test_daily:a_traveller_gets_every_date_they_see_once",
    "2 no pile-up": "ledger/test_daily:unused_credits_end_with_the_day_and_do_not_pile_up",
    "2 25 parallel first uses": "ledger/test_daily:twenty_five_first_uses_at_once_are_one_grant",
    "2 amount per plan": "ledger/test_daily:the_amount_is_that_of_the_plan_on_the_day",
    "3 allow, warn, block": "ledger/test_decisions:the_verdict",
    "3 one warning for each threshold, not for each job": "ledger/test_warnings:each_threshold_is_told_once",
    "3 told again after credits came in": "ledger/test_warnings:after_credits_came_in_it_is_told_again",
    "3 what would help, in codes": "ledger/test_terms:a_quote_is_what_the_submit_gets_and_its_figures_are_exact",
    "3 what would help, in words": "api/test_credits:a_refusal_and_its_quote_say_the_same_that_would_help",
    "3 a smaller batch": "api/test_credits:the_smaller_batch_that_is_offered_goes_through",
    "3 the limit binds at admission only": (
        "ledger/test_terms:a_limit_below_the_debt_stops_what_is_new_and_nothing_else"
    ),
    "3 policy and limits per plan and per person": "ledger/test_terms:an_account_says_only_what_differs_from_its_plan",
    "4 a quote and a charge come from one function": (
        "ledger/test_terms:a_quote_is_what_the_submit_gets_and_its_figures_are_exact"
    ),
    "4 quote_id locks a price": "api/test_quotes:a_quote_locks_its_price_while_the_owner_makes_it_dearer",
    "4 rounded in one place": "shared/test_costs:it_is_the_plain_sum_rounded_up_once",
    "5 capture may be partial": "ledger/test_operations:a_part_is_captured_and_the_rest_returns",
    "5 a batch of 4 that delivered 3": "flow/test_happy:a_partial_batch_pays_for_what_came",
    "5 over-capture is rejected": "ledger/test_operations:more_than_the_quote_is_never_captured",
    "6 a held credit cannot expire": "ledger/test_time:a_held_credit_cannot_expire",
    "6 it returns and expires in one transaction": (
        "ledger/test_time:released_after_its_expiry_it_returns_and_expires_at_once"
    ),
    "6 of a reversed grant, too": (
        "ledger/test_corrections:what_running_work_gives_back_to_a_reversed_grant_expires_with_it"
    ),
    "7 late: from what is available": "ledger/test_time:a_late_result_is_charged_from_what_there_is",
    "7 late: then the overdraft": "ledger/test_time:a_late_result_goes_into_debt_beyond_the_limit",
    "7 late: flagged, never lost": "flow/test_late:a_result_after_its_hold_expired_is_charged_all_the_same_and_flagged",
    "8 a grant pays debt first": "ledger/test_decisions:a_grant_pays_the_debt_first",
    "8 daily credits do": "ledger/test_daily:a_debt_is_paid_from_them_first",
    "8 an adjustment does": "ledger/test_corrections:an_adjustment_pays_the_debt_first",
    "8 a charge given back does": "ledger/test_corrections:a_charge_is_given_back_once_and_pays_debt_first",
    "8 credits that come back do": "ledger/test_decisions:a_debt_is_paid_from_what_a_release_returns",
    "8 a reversal happens once": "ledger/test_correction_races:many_of_the_same_are_one",
    "8 and takes no more than was given": "ledger/test_corrections:never_more_than_the_grant_gave",
    "8 nor gives more than was charged": "ledger/test_corrections:never_more_than_was_charged",
    "9 same key, other body: refused": "ledger/test_keys:a_key_is_refused_for_another_request",
    "9 of corrections, too": "ledger/test_corrections:the_same_key_is_the_same_adjustment",
    "9 the attempt is part of the job's key": "flow/test_gaps:the_first_attempt_ends_after_the_second_was_sent",
    "10 verify names each row": "ledger/test_tampering:a_forgery_is_named_by_its_row",
    "10 exits non-zero": "cli/test_books:a_ledger_that_is_right_and_one_that_is_not",
    "10 runs on a schedule": "flow/test_verification:a_running_worker_verifies_by_the_clock_and_again",
    "10 by one worker at a time, what was touched each hour and all each day": (
        "ledger/test_verify:between_whole_runs_only_what_was_touched_is_verified"
    ),
    "10 the ops page shows its last result with its time": "api/test_ops:the_last_verification_of_the_ledger_is_told",
    # Invariants: every test of this folder ends with all of them; these take them apart.
    "I1 to I11 are checked": "ledger/test_tampering:a_forgery_is_named_by_its_row",
    "in tests, at every commit": "ledger/test_invariants:the_commit_is_refused",
    "I10 over everyone": "ledger/test_tampering:credits_from_nowhere_are_seen_in_the_sum",
    # How to prove it
    "the oracle, after concurrent runs": "ledger/test_races:everything_at_once",
    "a state machine with faults": "ledger/test_machine:any_life_is_as_predicted",
    "two sessions, exhaustively": "ledger/test_interleavings:in_every_order_of_their_steps",
    "one inside the other": "ledger/test_interleavings:one_inside_the_other",
    "kill the backend": "ledger/test_cancellation:a_killed_backend_leaves_nothing",
    "no hold leaks, however many are killed": "chaos/test_leaks:no_hold_leaks",
    "kill -9 the process": "chaos/test_kill:killed_again_and_again",
    "cancel at every await": "ledger/test_cancellation:cut_off_in_any_turn_all_of_it_happened_or_nothing",
    "of the API's submit": "api/test_cut_off:cut_off_in_any_turn_a_submit_is_whole",
    "of the worker's steps": "flow/test_gaps:cancelled_at_every_await",
    "deliver twice": "flow/test_happy:a_webhook_that_comes_twice_settles_once",
    # Shape for speed
    "one round trip per operation": "ledger/test_shape:every_operation_is_one_round_trip",
    "fast path when one bucket covers it and nothing is due": (
        "ledger/test_shape:when_one_bucket_covers_it_and_nothing_is_due_no_more_is_done"
    ),
    "lock_timeout is set": "ledger/test_statements:every_operation_waits_for_a_lock_only_so_long",
    "whoever waits too long changes nothing": "ledger/test_bad_days:whoever_waits_too_long_is_told_so",
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_has_its_test(rule: str) -> None:
    module, _, name = RULES[rule].partition(":")
    source = (TESTS / f"{module}.py").read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def test_{name}\(", source, re.MULTILINE), f"{rule}: {RULES[rule]} is gone"
