"""Writes into `semantics.md` what is generated from the code: the life cycle of a token.

Run it as `python docs/generate.py`.
"""

from __future__ import annotations

from pathlib import Path

from actors import TERMINAL, TRANSITIONS, TokenState

PAGE = Path(__file__).parent / "semantics.md"
BEGIN, END = "<!-- begin: docs/generate.py -->", "<!-- end -->"


def life_cycle() -> str:
    """Return the diagram (Mermaid) and the table of the states that may follow each one."""
    arrows = [f"    {state} --> {next}" for state, following in TRANSITIONS.items() for next in following]
    ends = [f"    {state} --> [*]" for state in TokenState if state in TERMINAL]
    rows = [f"| {state} | {', '.join(following)} |" for state, following in TRANSITIONS.items() if following]
    terminal = ", ".join(state for state in TokenState if state in TERMINAL)
    return "\n".join(
        [
            "```mermaid",
            "stateDiagram-v2",
            f"    [*] --> {TokenState.CREATED}",
            *arrows,
            *ends,
            "```",
            "",
            "| from | to |",
            "|---|---|",
            *rows,
            f"| {terminal} | nothing: they are terminal |",
        ]
    )


def with_generated(page: str) -> str:
    """Return the text of the page, with what stands between the marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{life_cycle()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_generated(PAGE.read_text()))
