"""How many polls may begin at each endpoint: every one keeps a few slots, so that those that answer go on being asked.

An endpoint that is silent holds each of its polls until they time out. It may hold its own slots and those that nobody
has, and never the last ones of another.
"""

from collections.abc import Collection, Mapping

from worker.routing import shared_out


def free_slots(
    limit: int, wanted: Mapping[str, int], *, under_way: Mapping[str, int], slots: int, endpoints: Collection[str]
) -> dict[str, int]:
    """Divide up to `limit` of the `slots` among those who want some, given what each has under way.

    Half of the slots belong to the endpoints, as many to each; the rest is for whoever comes, evenly.
    """
    known = {*endpoints, *wanted, *under_way}
    own = max(1, slots // (2 * max(1, len(known))))
    reserved = {each: max(0, own - under_way.get(each, 0)) for each in known}
    common = max(0, slots - sum(under_way.values()) - sum(reserved.values()))
    ours = {each: min(count, reserved[each]) for each, count in wanted.items()}
    more = shared_out(common, {each: count - ours[each] for each, count in wanted.items()})
    return shared_out(limit, {each: count + more.get(each, 0) for each, count in ours.items()})
