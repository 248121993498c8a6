"""Mutants of the life of a generation: which state follows which, and under which hold it may begin again."""

_MOVES = {
    "reserved": "{submitting,submitted,failed,cancelled}",
    "submitting": "{reserved,submitted,failed,cancelled}",
    "submitted": "{reserved,running,finishing,failed,cancelled}",
    "running": "{submitted,finishing,failed,cancelled}",
    "finishing": "{submitted,completed,failed,cancelled}",
    "failed": "{reserved}",
    "cancelled": "{reserved}",
}
_ANYWHERE = "{reserved,submitting,submitted,running,finishing,completed,failed,cancelled}"

EDITS: dict[str, list[tuple[str, str, str]]] = {
    "generation_may_move": [
        *(
            (f"from {state} anywhere", f"'{state}' THEN '{moves}'", f"'{state}' THEN '{_ANYWHERE}'")
            for state, moves in _MOVES.items()
        ),
        ("from completed anywhere", "ELSE '{}'", f"ELSE '{_ANYWHERE}'"),
    ],
    "generation_is_terminal": [
        (f"what is {state} goes on", text, "")
        for state, text in {"completed": "'completed', ", "failed": "'failed', ", "cancelled": ", 'cancelled'"}.items()
    ],
    "generations_guard_transition": [
        ("from anywhere to anywhere", "NOT public.generation_may_move(OLD.state, NEW.state)", "false"),
        ("never another attempt in a state", "NEW.state <> OLD.state AND ", ""),
        ("begin again in any way", "public.generation_is_terminal(OLD.state) AND (", "false AND ("),
        ("begin again under the old hold", "NEW.hold_id = OLD.hold_id OR ", ""),
        ("begin again and again", "NEW.retries <> OLD.retries + 1", "false"),
        ("begin again after a charge", " OR OLD.charged > 0", ""),
        ("a move has no number", "NEW.version := OLD.version + 1;", ""),
    ],
    "generations_record_transition": [
        ("from nowhere", "CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END", "NULL"),
        ("by whoever it was before", "NEW.transition_actor", "coalesce(OLD.transition_actor, NEW.transition_actor)"),
        ("for the reason before", "NEW.transition_reason", "coalesce(OLD.transition_reason, NEW.transition_reason)"),
        ("without detail", "NEW.transition_detail", "'{}'"),
    ],
}
