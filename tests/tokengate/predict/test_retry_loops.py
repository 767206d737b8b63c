"""Retry loops: calls that fail again and again with one error, and actors that are restarted for one."""

from __future__ import annotations

from tokengate.predict._retry_loops import RetryLoops


def loops(*failures: str, key: str = "a") -> bool:
    """Tell whether a call is in a loop after failures with some errors, of which an empty one is a success."""
    watch = RetryLoops()
    for error in failures:
        if error:
            watch.failed("pay", key, error)
        else:
            watch.succeeded("pay", key)
    assert not watch.holds("pay", "other", "")
    return watch.holds("pay", key, "")


def test_three_failures_with_one_error_are_a_loop() -> None:
    """Case 27."""
    assert not loops("E", "E")
    assert loops("E", "E", "E")
    assert loops("E", "E", "E", "E")


def test_a_success_between_ends_it() -> None:
    """Also afterwards."""
    assert not loops("E", "E", "", "E")
    assert not loops("E", "E", "E", "")


def test_another_error_between_is_none() -> None:
    """They must be three in a row."""
    assert not loops("E", "E", "F", "E")
    assert loops("F", "E", "E", "E")


def test_calls_with_two_keys_are_two() -> None:
    """And those of two operations."""
    watch = RetryLoops()
    for key in ("a", "b", "a", "b"):
        watch.failed("pay", key, "E")
        watch.failed("refund", key, "E")

    assert not watch.holds("pay", "a", "")
    watch.failed("pay", "a", "E")
    assert watch.holds("pay", "a", "")
    assert not watch.holds("pay", "b", "")
    assert not watch.holds("refund", "a", "")


def test_calls_without_a_key_are_never_the_same() -> None:
    """Their arguments are not known."""
    assert not loops("E", "E", "E", key="")


def test_three_restarts_of_an_actor_for_one_error_are_a_loop() -> None:
    """For all calls to that actor."""
    watch = RetryLoops()
    for error in ("E", "F", "E", "E", "E"):
        assert not watch.holds("run", "k", "shop/worker")
        watch.restarted("shop/worker", error)

    assert watch.holds("run", "k", "shop/worker")
    assert not watch.holds("run", "k", "shop/other")


def test_whether_to_ask_is_known_without_a_key() -> None:
    """To find the key of a call may need its arguments."""
    watch = RetryLoops()
    watch.restarted("shop/worker", "E")
    for _ in range(3):
        assert not watch.any("pay", "shop/worker")
        watch.failed("pay", "a", "E")

    assert watch.any("pay", "")
    assert not watch.any("refund", "")
    for _ in range(2):
        watch.restarted("shop/worker", "E")
    assert watch.any("refund", "shop/worker")


def test_a_million_keys_take_no_more_memory_than_ten_thousand() -> None:
    """Those go that failed longest ago."""
    watch = RetryLoops()
    for number in range(30_000):
        watch.failed("pay", str(number), "E")
        watch.restarted(str(number), "E")

    assert len(watch._calls) == len(watch._actors) == 10_000
