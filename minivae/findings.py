"""What a gradient check found: each fault with its kind, its place, and the sentence that says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minivae.differences import Derivative

NOTES = ("kink", "constant")  # what is no fault of the gradient


@dataclass(frozen=True)
class Finding:
    """One thing that gradcheck found, with the sentence that says it.

    kind: "wrong" (the gradient differs from the finite difference), "shape", "dtype", "missing" (None where one
    is due), "nondeterministic", "mutated" (an input changed in place), "nonlinear" (in the cotangent), "aliased"
    (the gradient shares memory with an input or another gradient, or is handed out in the same array at each call),
    "nonfinite", "unresolved" (the finite difference itself is too uncertain to tell). Notes, which are no faults:
    "kink" (the one-sided derivatives disagree and the gradient lies between them), "constant" (the output does not
    depend on the input).
    """

    kind: str
    message: str
    input: int | None = None
    entry: tuple[int, ...] = ()
    output: tuple[int, ...] | None = None
    analytic: float = float("nan")
    numeric: float = float("nan")
    uncertainty: float = float("nan")

    @property
    def absolute_error(self) -> float:
        """|analytic - numeric|."""
        return abs(self.analytic - self.numeric)

    @property
    def relative_error(self) -> float:
        """|analytic - numeric| over the larger of the two."""
        return self.absolute_error / max(abs(self.analytic), abs(self.numeric), 1e-300)


@dataclass
class Report:
    """What gradcheck found. True, as a condition, if there is no fault.

    entries: how many derivatives were compared. worst: the largest error among them, relative to the largest of
    the derivative, the typical derivative of its input, a thousandth of the function's value, and atol.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    entries: int = 0
    worst: float = 0.0

    @property
    def verdict(self) -> str:
        """The kind of the first fault, else of the first note, else "ok"."""
        return next((f.kind for f in [*self.faults, *self.findings]), "ok")

    @property
    def faults(self) -> list[Finding]:
        """The findings that are not mere notes."""
        return [f for f in self.findings if f.kind not in NOTES]

    def __bool__(self) -> bool:
        return not self.faults

    def __str__(self) -> str:
        head = f"{self.name}: {self.verdict} ({self.entries} derivatives, worst relative error {self.worst:.1e})"
        shown = [f"  {f.kind}: {f.message}" for f in self.findings[:5]]
        more = [f"  and {len(self.findings) - 5} more"] if len(self.findings) > 5 else []
        return "\n".join([head, *shown, *more])


class GradientError(AssertionError):
    """A gradient is at fault. report: everything that was found."""

    def __init__(self, report: Report):
        super().__init__(str(report))
        self.report = report


class Fault(Exception):
    """Carries a finding that ends the check."""

    def __init__(self, kind: str, message: str, **where: Any):
        super().__init__(message)
        self.finding = Finding(kind, message, **where)


def missing(numeric: Derivative, where: dict[str, Any]) -> Finding:
    """No gradient where the finite difference is not zero."""
    message = f"input {where['input']} got no gradient, but the finite difference at {where['entry']} is "
    return Finding("missing", message + f"{numeric.value:.8g}", numeric=numeric.value, **where)


def judge(
    analytic: float, numeric: Derivative, tolerance: float, trusted: float, where: dict[str, Any]
) -> Finding | None:
    """What there is to say of one derivative. trusted: the uncertainty up to which the finite difference can tell."""
    place = f"the gradient of input {where['input']} at {where['entry']}"
    if "output" in where:
        place += f" of the output at {where['output']}"
    details = {"analytic": analytic, "numeric": numeric.value, "uncertainty": numeric.uncertainty, **where}
    if numeric.kink:
        low, high = sorted((numeric.left, numeric.right))
        slack = 1e-3 * (abs(low) + abs(high))
        inside = low - slack <= analytic <= high + slack
        verdict = "between" if inside else "not between"
        message = f"{place} is {analytic:.6g}, {verdict} the one-sided derivatives {low:.6g} and {high:.6g}"
        return Finding("kink" if inside else "wrong", message, **details)
    difference = abs(analytic - numeric.value)
    if difference <= tolerance:
        return None
    if numeric.uncertainty > trusted:
        message = f"{place} is {analytic:.6g}, by finite differences {numeric.value:.6g} give or take "
        return Finding("unresolved", message + f"{numeric.uncertainty:.1g}: too uncertain to tell", **details)
    if difference > tolerance + 10 * numeric.uncertainty:
        message = f"{place} is {analytic:.10g}, by finite differences {numeric.value:.10g}"
        return Finding("wrong", message + _hint(analytic, numeric.value), **details)
    return None


def _hint(analytic: float, numeric: float) -> str:
    """What the ratio of the two suggests."""
    if not analytic or not numeric:
        return " (it is zero)" if not analytic else ""
    ratio = analytic / numeric
    for value, hint in ((-1, "the sign is flipped"), (2, "twice too large"), (0.5, "half of it")):
        if abs(ratio / value - 1) < 1e-5:
            return f" ({hint})"
    return f" (ratio {ratio:.4g})"
