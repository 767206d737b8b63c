"""What a name on a proxy is: a call, a value, or a proxy of its own; and what it is not."""

from __future__ import annotations

import logging
from typing import Any
from unittest import mock

import pykka
import pytest

from actors import ActorDead, ActorProxy, ActorSystem, BaseActor

LIMIT = 30.0


def make(base: type[BaseActor]) -> Any:
    class Inner:
        __slots__ = ("depth", "pykka_traversable")

        def __init__(self) -> None:
            self.pykka_traversable = True
            self.depth = 2

        def shout(self, word: str) -> str:
            return word.upper()

    class Player(base):  # type: ignore[misc, valid-type]
        volume = 5

        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()
            self.tracks = ["a"]
            self.on_change = lambda value: ("changed", value)

        @property
        def loud(self) -> bool:
            return bool(self.volume > 5)

        def add(self, name: str) -> None:
            setattr(self, name, lambda: name)

    return Player


# Of an instance in a process nobody here knows what it has got: these are about instances that can be looked at. Below,
# and in test_process_actor, is what holds for those, too.


def test_what_the_instance_has_got_is_found(local_base: Any, start: Any) -> None:
    """Attributes, functions and traversable objects that `__init__` or a method made are as good as the class's."""
    proxy = start(make(local_base)).proxy()
    assert proxy.tracks.get(timeout=LIMIT) == ["a"]
    assert proxy.on_change(1).get(timeout=LIMIT) == ("changed", 1)
    assert proxy.inner.depth.get(timeout=LIMIT) == 2
    assert proxy.inner.shout("x").get(timeout=LIMIT) == "X"
    proxy.inner.depth = 3
    assert proxy.inner.depth.get(timeout=LIMIT) == 3
    proxy.add("foo").get(timeout=LIMIT)

    assert proxy.foo().get(timeout=LIMIT) == "foo"
    assert {"tracks", "inner", "foo", "add", "loud", "volume", "stop", "actor_ref"} <= set(dir(proxy))
    assert {"depth", "shout"} <= set(dir(proxy.inner))
    assert "_place" not in dir(proxy)


def test_an_unknown_name_is_an_attribute_error_at_once(local_base: Any, start: Any) -> None:
    """It names the actor and the attribute; private names are unknown, and say why."""
    proxy = start(make(local_base)).proxy()
    with pytest.raises(
        AttributeError, match=r"^<ActorProxy for Player \(.*\), attr_path=\(\)> has no attribute 'hop'$"
    ):
        proxy.hop()
    with pytest.raises(AttributeError, match=r"attr_path=\('inner',\)> has no attribute 'hop'"):
        _ = proxy.inner.hop
    with pytest.raises(AttributeError, match="has no attribute '_x': names with a leading underscore are private"):
        _ = proxy._x
    with pytest.raises(AttributeError, match="register"):  # the metaclass's, which is no attribute of the actor
        _ = proxy.register


def test_no_property_runs_before_its_token_does(local_base: Any, start: Any) -> None:
    """To look a name up evaluates nothing, and no mark is seen where every attribute is there."""
    fake = mock.NonCallableMock()
    fake.__get__ = mock.Mock(return_value="mocked")
    cls = make(local_base)
    cls.loud = fake
    proxy = start(cls).proxy()
    dir(proxy)
    assert not fake.__get__.called

    assert proxy.loud.get(timeout=LIMIT) == "mocked"


def test_a_proxy_of_itself_is_not_shown(local_base: Any, start: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A public attribute that holds one is warned of, as in pykka; a private one is the way."""

    class Selfish(make(local_base)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.me = self.actor_ref.proxy()
            self._me = self.me

        def ask_myself(self) -> Any:
            return self._me.tracks

    with caplog.at_level(logging.WARNING):
        proxy = start(Selfish).proxy()
        with pytest.raises(AttributeError, match="has no attribute 'me'"):
            _ = proxy.me

    assert proxy.ask_myself().get(timeout=LIMIT).get(timeout=LIMIT) == ["a"]
    assert [record.getMessage().partition("attribute ")[2] for record in caplog.records] == [
        "'me' is a proxy to itself. Consider making it private by renaming it to '_me'."
    ] * 2


def test_pykkas_own_proxy_works_on_our_refs(local_base: Any, start: Any) -> None:
    """It asks the ref for the instance; both kinds of proxy of one actor are equal."""
    ref = start(make(local_base))
    foreign = pykka.ActorProxy(actor_ref=ref)
    assert foreign.tracks.get(timeout=LIMIT) == ["a"]
    assert foreign.on_change(1).get(timeout=LIMIT) == ("changed", 1)
    assert foreign == ref.proxy()
    ref.stop(timeout=LIMIT)
    with pytest.raises(pykka.ActorDeadError, match="not found"):
        pykka.ActorProxy(actor_ref=ref)


def test_a_proxy_of_a_dead_actor_is_refused(base: Any, start: Any) -> None:
    """The error names the ref."""
    ref = start(make(base))
    ref.stop(timeout=LIMIT)
    with pytest.raises(ActorDead) as caught:
        ref.proxy()

    assert str(caught.value) == f"{ref} not found"


def test_names_with_an_underscore_are_the_proxys_own(base: Any, start: Any) -> None:
    """Setting one sends nothing, as in pykka."""
    proxy = start(make(base)).proxy()
    proxy._note = "mine"

    assert proxy._note == "mine"
    with pytest.raises(AttributeError):
        _ = proxy.actor_ref.proxy()._note


def test_a_proxy_without_an_instance_lets_the_token_tell(base: Any, system: ActorSystem) -> None:
    """Between two instances a name that the class has not got is read by the next instance."""
    place = system.place("player", make(base), owner=lambda *_: None)
    proxy: Any = ActorProxy(actor_ref=place.ref)
    token = proxy.tracks
    place.start().result(LIMIT)

    assert token.get(timeout=LIMIT) == ["a"]
