"""The result of a check."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen
class Result:
    """The result of a check.

    Attributes:
        name: of the check.
        status: `ok`; `warning`, when TokenGate works with a restriction; `failed`, when a part of it does not work.
        text: what was found.
        remedy: what to do; empty when there is nothing to do.
    """

    name: str
    status: Literal["ok", "warning", "failed"]
    text: str
    remedy: str = ""
