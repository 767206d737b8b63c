"""What a rollback undoes, and in which order, against a model that looks at each pair of members."""

from __future__ import annotations

import random

from tokengate.policy._attempt import End
from tokengate.policy._undo import Effect, Ended, effect_of, is_undone, steps_of


def test_code_that_never_ran_has_no_effect() -> None:
    """Case 47. No attempt: nothing to undo, whatever the compensation is for."""
    assert effect_of([]) is Effect.NONE
    assert not is_undone(Effect.NONE, on_any=True)


def test_the_effect_is_that_of_all_attempts_together() -> None:
    """Case 47. A completed last attempt counts; a lost or ended one before an error leaves the effect unknown."""
    assert effect_of([End.FAILED, End.COMPLETED]) is Effect.COMPLETED
    assert effect_of([End.LOST, End.COMPLETED]) is Effect.COMPLETED
    assert effect_of([End.FAILED, End.FAILED]) is Effect.FAILED
    assert effect_of([End.FAILED, End.LOST]) is Effect.UNKNOWN
    assert effect_of([End.TIMED_OUT, End.FAILED]) is Effect.UNKNOWN
    assert effect_of([End.STOPPED]) is Effect.UNKNOWN
    assert effect_of([End.FAILED, End.LEFT_BEHIND]) is Effect.RUNS


def test_each_member_with_an_effect_is_undone_once_and_after_those_that_began_later(seed: int) -> None:
    """Case 47. Failed ones only if that was asked for; those that run on are named apart."""
    rng = random.Random(seed)
    for _ in range(300):
        members = [
            Ended(id, order, rng.choice(list(Effect)), rng.random() < 0.5)
            for id, order in enumerate(rng.sample(range(1, 100), rng.randint(0, 12)))
        ]
        now, later = steps_of(members)

        by_id = {one.id: one for one in members}
        assert len(now) == len(set(now))
        for id, one in by_id.items():
            wanted = one.effect in (Effect.COMPLETED, Effect.UNKNOWN) or (one.effect is Effect.FAILED and one.on_any)
            assert (id in now) == wanted
            assert (id in later) == (one.effect is Effect.RUNS)
        for place, id in enumerate(now):
            assert all(by_id[id].order > by_id[after].order for after in now[place + 1 :])
