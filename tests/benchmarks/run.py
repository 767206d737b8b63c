"""The actors floor and supervision against their peers: pykka, ThreadPoolExecutor, bare queues, bare trio.

Prints one JSON line for each workload: the ratio of ours to the peer's over interleaved pairs, the target, whether
the median meets it, and the absolute figures of both. W1 to W8 are selected by the beginning of their names.

    python tests/benchmarks/run.py [--quick] [--pairs N] [W1 W3 ...]
"""

from __future__ import annotations

import _messages
import _populations
import _supervision
from _harness import main

if __name__ == "__main__":
    main([*_messages.WORKLOADS, *_populations.WORKLOADS, *_supervision.WORKLOADS], __doc__ or "")
