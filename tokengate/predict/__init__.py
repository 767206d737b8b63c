# Prediction: what tokens will need, how right that was, and rules that act by it.
#   _plugin.py        the optional part of a gate, which is the Python interface
#   _kinds.py         rules, interventions and calibration, as control has them; with _verbs.py (the answers)
#   _features.py      numbers of the arguments of a call
#   _forecast.py      what is known and expected of each token
#   _learner.py       the sink of the stream that learns
#   _models.py        all that was learned
#   _target.py        the model of one operation, for its run or its memory
#   _cells.py         an estimator: how values were spread in cells of operation, tags and features
#   _line.py          an estimator: a line through the logarithms of the features
#   _residuals.py     bounds, coverage and drift, from how wrong predictions were
#   _failures.py      how often calls fail
#   _outcomes.py      the latest predictions beside what became of them, and whether rules may act by them
#   _outlook.py       what is known of one call before it runs; with _factors.py (what makes it longer than others)
#   _point.py         samples as estimators take them
#   _own.py           estimators of the program, which may fail
#   _table.py         a table of bounded size
#   _retry_loops.py   calls that fail again and again
#   _leaks.py         processes whose memory grows
#   _model_files.py   what was learned, as JSON; with _model_directory.py (where it is kept)
#   _sample.py        what models learn from; estimators of one's own
#   _rule.py          a rule; with _rules_file.py (the section of the file)
#   _action.py        the verb of a rule with its arguments; with _arguments.py (how these are read)
#   _rule_verbs.py    the verbs: what does each, what undoes it, and the values that it changes
#   _decision.py      what a rule does about a token
#   _intervention.py  what rules did, and why
#   _active.py        the interventions in force, counted
#   _ledger.py        the rules in force, what they did, and what became of that
#   _engine.py        looks at tokens for rules, and acts; with _undo.py (undoes that)
#   _submit.py        the rules that are asked when a token is submitted; with _steered.py (what they changed)
#   _host.py          what rules need of their gate; with _gate_host.py (what gives it)
#   _actor.py         the part of the runtime's tree that has the engine look
#   _replay.py        predictions on history, and what they are made from, for others
#   _backtest.py      rules on history
#   _past.py          what stands in for tokens and their gate there
#   _metrics.py       what Prometheus has of predictions and rules
#   _kept.py          the file of what must be known of rules after a restart
"""Predictions of what tokens need, and rules that act by them: `Gate("shop", plugins=[Predict()])`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from actors import Prediction, Quantiles

if TYPE_CHECKING:
    from tokengate.predict._features import Feature
    from tokengate.predict._plugin import Predict
    from tokengate.predict._rule import Rule
    from tokengate.predict._sample import Estimator, Sample

__all__ = ["Estimator", "Feature", "Predict", "Prediction", "Quantiles", "Rule", "Sample"]

_HOMES: Final = {
    "Estimator": "_sample",
    "Feature": "_features",
    "Predict": "_plugin",
    "Rule": "_rule",
    "Sample": "_sample",
}
"""{public name: the file that it is loaded from when it is asked for}."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
