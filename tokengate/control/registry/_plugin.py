"""Plugins: the optional parts of a gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from actors import Observer
from supervisors import ChildSpec
from tokengate.control.messages import HealthPart


class Plugin:
    """Base of the optional parts of a gate: `Gate("shop", plugins=[Notes()])`. Each method is optional.

    The object is the Python interface of the part, and `gate.plugin(Notes)` finds it. It serves one gate. Each method
    below gets that gate, a `tokengate.Gate`. An error of one of them, and a child that does not start, make opening
    fail, and close all that was started.

    Attributes:
        needs: classes of other plugins; the gate adds those that are missing, and starts them before this one.
        recorded: whether a gate with it has an audit log, best effort if its file does not ask for one.
    """

    needs: ClassVar[tuple[type[Plugin], ...]] = ()
    recorded: ClassVar[bool] = False
    _gate: Any = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not isinstance(cls.needs, tuple) or not all(
            isinstance(one, type) and issubclass(one, Plugin) for one in cls.needs
        ):
            raise TypeError(f"needs of {cls.__name__} is {cls.needs!r}; it must be a tuple of plugin classes")

    @property
    def gate(self) -> Any:
        """The `Gate` that it was given to.

        Raises:
            RuntimeError: it was given to none.
        """
        if self._gate is None:
            raise RuntimeError(f"plugin {type(self).__name__} has no gate; give it to one: Gate(plugins=[...])")
        return self._gate

    def prepare(self, config: Any, /) -> Callable[[], Iterable[str]] | None:  # noqa: ARG002
        """Return a function that has the gate's file decide about this, and returns a line for each thing changed.

        Called when a gate with a file opens, before anything else, and when that is read again; not on a loop. The
        function then is called on the system loop, so it must not block.

        Args:
            config: what the file says, a `tokengate.config._file.Config`.

        Raises:
            BadConfig: it cannot be used; nothing changes.
        """
        return None

    def child(self, gate: Any, /) -> ChildSpec | None:  # noqa: ARG002
        """Return the spec of its actor, which runs below `$system/plugins`; called once, when the gate opens.

        The actor starts before the control socket listens and before the children of the gate, and stops after them.
        """
        return None

    def answers(self, gate: Any, /) -> object:  # noqa: ARG002
        """Return an object with an async method of each verb's name, which takes the message and returns the answer.

        The methods run on the system loop, so they must not block. Called once, when the control actor first starts; by
        then the actor of `child` runs.
        """
        return None

    def observer(self, gate: Any, /) -> Observer | None:  # noqa: ARG002
        """Return what observes tokens and actors from the beginning; called once, when the gate opens."""
        return None

    def journal(self, gate: Any, /) -> Any:  # noqa: ARG002
        """Return what keeps durable tokens, or None; one plugin of a gate may. Called once, when the gate opens."""
        return None

    def opened(self, gate: Any, /) -> None:
        """Note that all actors of the gate have started, just before others may use it; not on a loop."""

    def closing(self, gate: Any, /) -> None:
        """Note that the gate begins to close, before it drains, while control still answers; not on a loop.

        It should take a second at most.
        """

    def health(self, gate: Any, /) -> Iterable[HealthPart]:  # noqa: ARG002
        """Return its parts of the gate's health; called on the system loop at each question, so it must not block.

        If it raises, the plugin counts as a part that has failed.
        """
        return ()
