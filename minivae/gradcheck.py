"""gradcheck: is the gradient of a function right? Its vjp against finite differences, in float64.

It points at any function of tensors, and through `from_vjp` at any pair of plain functions, forward and
vjp, which need not know minivae. What it finds it names: see findings.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from minivae import backend
from minivae.differences import Derivative, derivative
from minivae.findings import Fault, Finding, GradientError, Report, judge, missing
from minivae.probe import Probe, recording
from minivae.tensor import Tensor

SECOND_START = 0.7346 / 128  # the first step in another series, no power of 2: functions may be periodic in those
ROUNDING = 1e-12  # of a finite difference, where numbers of the size of 1 cancel inside of the function


@recording()
def gradcheck(
    fn: Callable[..., Tensor],
    inputs: Sequence[Any],
    *,
    mode: Literal["fast", "full"] = "fast",
    rtol: float = 1e-6,
    atol: float = 1e-8,
    wrt: Sequence[int] | None = None,
    seed: int = 0,
    name: str | None = None,
    raise_exception: bool = True,
) -> Report:
    """Check the gradient of fn at a point.

    fn: a function of len(inputs) tensors that returns a tensor of any shape. Random numbers in it must be
    the same at each call. inputs: arrays, tensors or numbers; they are copied, floats as float64.
    mode: "fast" projects the output on two random directions, drawn from seed, so that the cost does not grow
    with the output; "full" compares the whole Jacobian and names the output's entry too. In both the time grows with
    the square of the input's size: fn is called for each entry. wrt: the inputs to check, by index; by default those
    of a float dtype.
    The gradient a and the finite difference n, of uncertainty u, agree if |a - n| <= rtol max(|a|, |n|)
    + atol min(1, max(|a|, |n|, t)) + 1e-12 |y| + 10 u, with t the input's typical gradient and y the output's largest
    value ("full": its value at that entry). What differs must differ from two first steps of the finite difference.
    Raises GradientError, unless raise_exception is False; raises TypeError or ValueError where fn or an input cannot
    be checked at all.
    """
    name = name or str(getattr(fn, "__name__", fn))
    if mode not in ("fast", "full"):
        raise ValueError(f"gradcheck of {name}: unknown mode '{mode}': choose 'fast' or 'full'.")
    if not isinstance(inputs, list | tuple):
        raise TypeError(
            f"gradcheck of {name}: inputs is a {type(inputs).__name__}: give a list with one entry an input."
        )
    for option, value in (("rtol", rtol), ("atol", atol)):
        if not 0 <= value < np.inf:
            raise ValueError(f"gradcheck of {name}: {option} is {value}: give a finite number that is not negative.")
    arrays = [_float64(x) for x in inputs]
    floats = [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]
    checked = floats if wrt is None else _indices(wrt, name)
    for i in checked:
        if not 0 <= i < len(arrays):
            raise ValueError(f"gradcheck of {name}: there is no input {i} to check: it has {len(arrays)} inputs.")
        if i not in floats:
            raise TypeError(f"gradcheck of {name}: input {i} is {arrays[i].dtype}: only floats have a gradient.")
    if not floats:
        raise TypeError(f"gradcheck of {name}: none of its inputs is of a float dtype: there is no gradient to check.")
    for i in floats:
        if not np.isfinite(arrays[i]).all():
            raise ValueError(f"gradcheck of {name}: input {i} holds NaN or infinity: choose a finite point.")
    report = Report(name)
    probe = Probe(fn, arrays, checked, report)
    try:
        probe.check_form(np.random.default_rng(seed))
        if not report.faults and probe.value.size:
            _Comparison(probe, mode == "full", rtol, atol, np.random.default_rng(seed + 1)).run()
    except Fault as fault:
        report.findings.append(fault.finding)
    if raise_exception and not report:
        raise GradientError(report)
    return report


class _Comparison:
    """The gradients of a probe against finite differences of its projected (fast) or whole (full) output."""

    def __init__(self, probe: Probe, full: bool, rtol: float, atol: float, rng: np.random.Generator):
        n = probe.value.size
        self.probe, self.full, self.rtol, self.atol = probe, full, rtol, atol
        self.directions = np.eye(n) if full else rng.choice([-1.0, 1.0], (2, n)) * rng.uniform(0.5, 1.5, (2, n))
        self.center = self.project(probe.arrays)
        size = np.abs(probe.value).reshape(-1)
        self.noise = 1e-12 * (size if full else np.full(2, size.max()))  # what rounding may do to each difference
        self.typical = 0.0

    def run(self) -> None:
        """Every derivative by every checked input."""
        vjps = [self.probe.vjp(d.reshape(self.probe.value.shape)) for d in self.directions]
        for position, i in enumerate(self.probe.checked):
            x = self.probe.arrays[i]
            grads = [v[position] for v in vjps]
            self.typical = float(np.mean([0.0 if g is None else np.abs(g).mean() for g in grads])) if x.size else 0.0
            moved = [self.compare(i, entry, grads) for entry in np.ndindex(x.shape)]
            if x.size and not any(moved) and not any(g is not None and g.any() for g in grads):
                message = f"the output does not depend on input {i} here: nothing was proven"
                self.probe.report.findings.append(Finding("constant", message, input=i))

    def project(self, arrays: list[Any]) -> Any:
        y = self.probe.call(arrays).reshape(-1)
        return y if self.full else self.directions @ y

    def numeric(self, i: int, entry: tuple[int, ...], **options: Any) -> Derivative:
        """The finite differences of the output by an entry of input i."""

        def line(t: float) -> Any:
            arrays = list(self.probe.arrays)
            arrays[i] = arrays[i].copy()
            arrays[i][entry] = t
            try:
                return self.project(arrays)
            except (ValueError, ArithmeticError):  # NumPy says NaN outside of a domain, others raise, as math.sqrt does
                return np.full_like(self.center, np.nan)

        return derivative(line, float(self.probe.arrays[i][entry]), self.center, **options)

    def compare(self, i: int, entry: tuple[int, ...], grads: list[Any]) -> bool:
        """One entry of an input; whether the output moves with it."""
        first, second = self.numeric(i, entry), None
        for row, grad in enumerate(grads):
            where: dict[str, Any] = {"input": i, "entry": entry}
            if self.full:
                where["output"] = tuple(map(int, np.unravel_index(row, self.probe.value.shape)))
            analytic = None if grad is None else float(grad[entry])
            finding, error = self.judge(analytic, first.of_output(row), row, where)
            if finding and finding.kind in ("wrong", "missing"):
                # two first steps must say so: the estimates from one of them may agree with each other by chance
                second = second or self.numeric(i, entry, start=SECOND_START)
                finding, error = self.judge(analytic, second.of_output(row), row, where)
            if finding and finding.kind == "missing":
                raise Fault(finding.kind, finding.message, numeric=finding.numeric, **where)
            if error is not None:
                self.probe.report.entries += 1
                self.probe.report.worst = max(self.probe.report.worst, error)
            if finding:
                self.probe.report.findings.append(finding)
                if not self.full:
                    break  # the second projection would only say it again
        return bool(np.any(np.abs(first.value) > 1e-9 * (1 + np.abs(self.center))))

    def judge(
        self, analytic: float | None, one: Derivative, row: int, where: dict[str, Any]
    ) -> tuple[Finding | None, float | None]:
        """What there is to say of one derivative, and its error; no error where the two are not compared."""
        noise = self.noise[row]
        if analytic is None:
            due = abs(one.value) > noise + 10 * one.uncertainty
            return (missing(one, where) if due else None), None
        scale = max(abs(analytic), abs(one.value))
        tolerance = self.rtol * scale + self.atol * min(1.0, max(self.typical, scale)) + noise
        trusted = max(1e-3 * max(scale, self.typical) + noise, ROUNDING)
        error = abs(analytic - one.value) / max(scale, self.typical, 1e-3 * abs(self.center[row]), self.atol)
        return judge(analytic, one, tolerance, trusted, where), None if one.kink else error


def _indices(wrt: Any, name: str) -> list[int]:
    """The inputs that wrt names."""
    if not isinstance(wrt, list | tuple | range) or not all(isinstance(i, int | np.integer) for i in wrt):
        raise TypeError(f"gradcheck of {name}: wrt is {wrt!r}: give a list of the indices of inputs, such as [0].")
    if not wrt or len(set(wrt)) < len(wrt):
        raise ValueError(f"gradcheck of {name}: wrt is {wrt!r}: name at least one input, and each once.")
    return list(wrt)


def _float64(x: Any) -> Any:
    """A copy on the host, floats as float64."""
    x = np.array(x.numpy() if isinstance(x, Tensor) else backend.to_numpy(x) if backend.is_array(x) else x)
    return x.astype(np.float64) if x.dtype.kind == "f" else x
