"""The verbs for the supervision tree and the children of supervisors."""

from __future__ import annotations

from tokengate.control import messages as m
from tokengate.control.api._question import Asker, Question, verb
from tokengate.control.messages import ActorOutcome, ChildCountsRow, ChildRow, TreeRow


class SupervisorVerbs(Asker):
    """The verbs for the supervision tree and the children of supervisors."""

    @verb
    def tree(self, root: str = "/", *, system: bool = False) -> Question[tuple[TreeRow, ...]]:
        """Show the supervision tree, each node below its supervisor.

        Args:
            root: the path to show it from.
            system: whether to show the runtime's own part, too.

        Raises:
            UnknownActor: nothing has this path.
        """
        return Question(m.Tree(root, system))

    @verb
    def which_children(self, name: str) -> Question[tuple[ChildRow, ...]]:
        """List the children of a supervisor, the newest first.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is no supervisor.
        """
        return Question(m.WhichChildren(name))

    @verb
    def count_children(self, name: str) -> Question[ChildCountsRow]:
        """Count the children of a supervisor; raises as `which_children` does."""
        return Question(m.CountChildren(name))

    @verb
    def terminate_child(self, name: str, id: str) -> Question[ActorOutcome]:
        """Stop a child of a supervisor, by its id; it stays stopped.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is no supervisor, or the runtime's own.
            NoSuchChild: it has no child with this id.
        """
        return Question(m.TerminateChild(name, id))

    @verb
    def restart_child(self, name: str, id: str) -> Question[ActorOutcome]:
        """Start a child of a supervisor that has no instance; raises as `terminate_child` does.

        Raises:
            ChildIsRunning: it has an instance.
        """
        return Question(m.RestartChild(name, id))

    @verb
    def delete_child(self, name: str, id: str) -> Question[ActorOutcome]:
        """Forget a child of a supervisor that has no instance; raises as `restart_child` does."""
        return Question(m.DeleteChild(name, id))
