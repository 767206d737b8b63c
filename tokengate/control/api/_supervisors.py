"""The verbs for the supervision tree and the children of supervisors."""

from __future__ import annotations

from tokengate.control import messages as m
from tokengate.control.api._question import Asker, Question, verb
from tokengate.control.messages import ActorOutcome, ChildCountsRow, ChildRow, TreeRow


class SupervisorVerbs(Asker):
    """The verbs for the supervision tree and the children of supervisors."""

    @verb
    def tree(self, root: str = "/", *, system: bool = False) -> Question[tuple[TreeRow, ...]]:
        """Return the supervision tree, each node after its supervisor.

        Args:
            root: the path of the topmost node.
            system: whether to add the runtime's own part.

        Raises:
            UnknownActor: nothing has this path.
        """
        return Question(m.Tree(root, system=system))

    @verb
    def which_children(self, name: str) -> Question[tuple[ChildRow, ...]]:
        """List the children of a supervisor, newest first.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is not a supervisor.
        """
        return Question(m.WhichChildren(name))

    @verb
    def count_children(self, name: str) -> Question[ChildCountsRow]:
        """Count the children of a supervisor; the errors are those of `which_children`."""
        return Question(m.CountChildren(name))

    @verb
    def terminate_child(self, name: str, id: str) -> Question[ActorOutcome]:
        """Stop a child of a supervisor; it stays stopped, and its spec stays.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is not a supervisor, or belongs to the runtime.
            NoSuchChild: it has no child with this id.
        """
        return Question(m.TerminateChild(name, id))

    @verb
    def restart_child(self, name: str, id: str) -> Question[ActorOutcome]:
        """Start a child of a supervisor that has no instance; other errors are those of `terminate_child`.

        Raises:
            ChildIsRunning: it has an instance.
        """
        return Question(m.RestartChild(name, id))

    @verb
    def delete_child(self, name: str, id: str) -> Question[ActorOutcome]:
        """Remove the spec of a child that has no instance; the errors are those of `restart_child`."""
        return Question(m.DeleteChild(name, id))
