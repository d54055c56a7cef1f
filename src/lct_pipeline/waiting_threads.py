"""How threads of OpenMP wait: they spin for a moment, then sleep.

A network of this size has hundreds of small loops a step, and threads wait after each. Left to
itself, GNU's OpenMP spins for milliseconds: where another process takes a core, a thread spins
while the one that it waits for stands still. To sleep at once (``OMP_WAIT_POLICY=PASSIVE``) costs
on a quiet machine. docs/troubleshooting.md has what each costs.

The libraries read the environment once, when torch loads them; later processes inherit it.
"""

from __future__ import annotations

from collections.abc import MutableMapping

# GNU's, of torch for Linux, counts rounds of its loop; LLVM's and Intel's, of torch for macOS and
# Windows, milliseconds, of which 1 is the fewest beside none
SPINNING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
BY_USER = {"OMP_WAIT_POLICY", *SPINNING}


def set_spinning(environment: MutableMapping[str, str]) -> None:
    """Say how long threads spin, unless the environment already says anything of it."""
    if not BY_USER & environment.keys():
        environment.update(SPINNING)
