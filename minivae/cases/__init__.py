"""What is checked, and on which inputs: a row for every op, layer and model loss.

Each row is a function and a hypothesis strategy for each of its arguments, as `testing.check_op` takes them.
`python -m minivae gradcheck` runs them all; a test fails when an op has no row.
"""

from minivae.cases.case import Case
from minivae.cases.layers import LAYERS
from minivae.cases.ops import OPS

__all__ = ["CASES", "Case"]

CASES: dict[str, Case] = OPS | LAYERS
