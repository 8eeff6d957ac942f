"""gradcheck: is the gradient of a function right? Its vjp against finite differences, in float64.

It points at any function of tensors, and through `from_vjp` at any pair of plain functions, forward and
vjp, which need not know minivae. What it finds it names: see `Finding`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from minivae import backend
from minivae.tensor import Tensor, no_grad, op

NOTES = ("kink", "constant")  # what is no fault of the gradient


@dataclass(frozen=True)
class Finding:
    """One thing that gradcheck found, with the sentence that says it.

    kind: "wrong" (the gradient differs from the finite difference), "shape", "dtype", "missing" (None where one
    is due), "nondeterministic", "mutated" (an input changed in place), "nonlinear" (in the cotangent), "aliased"
    (the gradient shares memory with an input or another gradient), "nonfinite", "unresolved" (the finite
    difference itself is too uncertain to tell). Notes, which are no faults: "kink" (the one-sided derivatives
    disagree and the gradient lies between them), "constant" (the output does not depend on the input).
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

    entries: how many derivatives were compared. worst: the largest error among them, relative to the larger of
    the derivative and the typical derivative of its input.
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
    with the output; "full" compares the whole Jacobian and names the output's entry too.
    wrt: the inputs to check, by index; by default those of a float dtype.
    The gradient a and the finite difference n agree if |a - n| <= atol + rtol max(|a|, |n|) + the uncertainty
    of n. Raises GradientError, unless raise_exception is False; raises TypeError or ValueError where fn or an
    input cannot be checked at all.
    """
    name = name or str(getattr(fn, "__name__", fn))
    arrays = [_float64(x) for x in inputs]
    floats = [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]
    for i in wrt or ():
        if i not in floats:
            raise TypeError(f"gradcheck of {name}: input {i} is {arrays[i].dtype}: only floats have a gradient.")
    for i in floats:
        if not np.isfinite(arrays[i]).all():
            raise ValueError(f"gradcheck of {name}: input {i} holds NaN or infinity: choose a finite point.")
    report = Report(name)
    checked = floats if wrt is None else list(wrt)
    probe = _Probe(fn, arrays, checked, report)
    try:
        probe.check_form(np.random.default_rng(seed))
        if not report.faults and probe.value.size:
            _compare(probe, mode, rtol, atol, np.random.default_rng(seed + 1))
    except _Fault as fault:
        report.findings.append(fault.finding)
    if raise_exception and not report:
        raise GradientError(report)
    return report


class _Fault(Exception):
    """Carries a finding that ends the check."""

    def __init__(self, kind: str, message: str, **where: Any):
        super().__init__(message)
        self.finding = Finding(kind, message, **where)


class _Probe:
    """A function at a point: its value, and its vjp at any cotangent, each from a fresh forward pass."""

    def __init__(self, fn: Callable[..., Tensor], arrays: list[Any], checked: list[int], report: Report):
        self.fn, self.arrays, self.checked, self.report = fn, arrays, checked, report
        with np.errstate(all="ignore"):
            self.value = self.call(arrays)

    def call(self, arrays: list[Any]) -> Any:
        """The function's value, on the host, without a graph."""
        with no_grad():
            output = self.fn(*(Tensor(_device(x)) for x in arrays))
        if not isinstance(output, Tensor):
            raise TypeError(f"gradcheck of {self.report.name}: it returned {type(output).__name__}, not a Tensor.")
        return output.numpy().copy()

    def vjp(self, cotangent: Any) -> list[Any]:
        """The gradients of the checked inputs, None where there is none."""
        leaves = [Tensor(_device(x), requires_grad=i in self.checked) for i, x in enumerate(self.arrays)]
        with np.errstate(all="ignore"):
            output = self.fn(*leaves)
            self._unchanged(leaves, "forward")
            seed = _device(cotangent)
            if output.requires_grad:
                output.backward(seed)
        if output.requires_grad:
            self._unchanged(leaves, "backward")
            if not np.array_equal(backend.to_numpy(seed), cotangent, equal_nan=True):
                raise _Fault("mutated", "the cotangent was changed in place by backward")
        grads = [leaves[i].grad for i in self.checked]
        self._not_shared(leaves, grads)
        return [None if g is None else backend.to_numpy(g).copy() for g in grads]

    def _unchanged(self, leaves: list[Tensor], when: str) -> None:
        for i, (leaf, x) in enumerate(zip(leaves, self.arrays, strict=True)):
            if not np.array_equal(leaf.numpy(), x, equal_nan=x.dtype.kind == "f"):
                raise _Fault("mutated", f"input {i} was changed in place by {when}", input=i)

    def _not_shared(self, leaves: list[Tensor], grads: list[Any]) -> None:
        if leaves and backend.of(leaves[0].data).name != "numpy":
            return
        others = [(f"input {j}", leaf.data) for j, leaf in enumerate(leaves)]
        for i, g in zip(self.checked, grads, strict=True):
            if g is None:
                continue
            for what, other in others:
                if np.shares_memory(g, other):
                    raise _Fault("aliased", f"the gradient of input {i} shares memory with {what}", input=i)
            others.append((f"the gradient of input {i}", g))

    def check_form(self, rng: np.random.Generator) -> None:
        """Everything about the vjp but its values: finite, repeatable, linear, and there."""
        if self.value.dtype != np.float64:
            raise _Fault("dtype", f"the output is {self.value.dtype} for float64 inputs: something inside casts")
        if not np.isfinite(self.value).all():
            raise _Fault("nonfinite", "the output holds NaN or infinity at this point")
        u, v = (rng.standard_normal(self.value.shape) for _ in range(2))
        of_u, again, of_v, of_sum = (self.vjp(c) for c in (u, u, v, u + v))
        of_zero = self.vjp(np.zeros_like(u))
        if not np.array_equal(self.value, self.call(self.arrays)):
            raise _Fault("nondeterministic", "two forward passes at one point differ: fix the random numbers inside")
        for i, a, b, c, s, z in zip(self.checked, of_u, again, of_v, of_sum, of_zero, strict=True):
            if a is None or c is None:
                continue  # what is due is known when the finite difference is
            if not np.isfinite(a).all():
                raise _Fault("nonfinite", f"the gradient of input {i} holds NaN or infinity", input=i)
            if not np.array_equal(a, b):
                raise _Fault("nondeterministic", f"two backward passes give input {i} different gradients", input=i)
            scale = np.abs(a).max(initial=0) + np.abs(c).max(initial=0)
            if z is not None and z.any():
                raise _Fault("nonlinear", f"a zero cotangent gives input {i} a gradient that is not zero", input=i)
            if np.abs(a + c - s).max(initial=0) > 1e-9 * scale:
                raise _Fault("nonlinear", f"vjp(u) + vjp(v) is not vjp(u + v) for input {i}", input=i)


def _compare(probe: _Probe, mode: str, rtol: float, atol: float, rng: np.random.Generator) -> None:
    """Every derivative of the projected (fast) or whole (full) output against its finite difference."""
    n = probe.value.size
    if mode == "full":
        directions = np.eye(n)
    else:
        directions = rng.choice([-1.0, 1.0], (2, n)) * rng.uniform(0.5, 1.5, (2, n))
    vjps = [probe.vjp(d.reshape(probe.value.shape)) for d in directions]

    def project(arrays: list[Any]) -> Any:
        y = probe.call(arrays).reshape(-1)
        return y if mode == "full" else directions @ y

    center = project(probe.arrays)
    for position, i in enumerate(probe.checked):
        x = probe.arrays[i]
        grads = [v[position] for v in vjps]
        typical = np.sqrt(np.mean([np.zeros(x.shape) if g is None else g**2 for g in grads])) if x.size else 0.0
        moved = False
        for entry in np.ndindex(x.shape):

            def line(t: float, i: int = i, entry: tuple[int, ...] = entry, x: Any = x) -> Any:
                shifted = x.copy()
                shifted[entry] = t
                return project([*probe.arrays[:i], shifted, *probe.arrays[i + 1 :]])

            numeric, uncertainty, left, right, kink = _derivative(line, float(x[entry]), center)
            moved |= bool(np.any(np.abs(numeric) > 1e-9 * (1 + np.abs(center))))
            for row, (value, error) in enumerate(zip(numeric, uncertainty, strict=True)):
                grad = grads[row]
                output = tuple(map(int, np.unravel_index(row, probe.value.shape))) if mode == "full" else None
                where = {"input": i, "entry": entry, "output": output, "numeric": float(value)}
                if grad is None:
                    if abs(value) > atol + error:
                        raise _Fault(
                            "missing",
                            f"input {i} got no gradient, but by finite differences it has {value:.8g} at {entry}",
                            **where,
                        )
                    continue
                _judge(
                    probe.report, float(grad[entry]), float(error), (float(left[row]), float(right[row])),
                    bool(kink[row]), rtol, atol, typical, where,
                )  # fmt: skip
        if x.size and not moved and not any(g is not None and g.any() for g in grads):
            probe.report.findings.append(
                Finding("constant", f"the output does not depend on input {i} here: nothing was proven", input=i)
            )


def _judge(
    report: Report,
    analytic: float,
    error: float,
    sides: tuple[float, float],
    kink: bool,
    rtol: float,
    atol: float,
    typical: float,
    where: dict[str, Any],
) -> None:
    """Compare one derivative, and note what there is to note."""
    numeric = where["numeric"]
    difference = abs(analytic - numeric)
    tolerance = atol + rtol * max(abs(analytic), abs(numeric))
    place = f"input {where['input']} at {where['entry']}"
    if where["output"] is not None:
        place += f", of the output at {where['output']},"
    details = {"analytic": analytic, "uncertainty": error, **where}
    if kink:
        low, high = min(sides), max(sides)
        slack = 1e-3 * (abs(low) + abs(high))
        inside = low - slack <= analytic <= high + slack
        said = f"{place}: the one-sided derivatives are {sides[0]:.6g} and {sides[1]:.6g}, the gradient {analytic:.6g}"
        verdict = "lies between: not differentiable here" if inside else "does not lie between"
        report.findings.append(Finding("kink" if inside else "wrong", f"{said} {verdict}", **details))
        return
    report.entries += 1
    report.worst = max(report.worst, difference / max(abs(numeric), abs(analytic), typical, atol))
    if difference <= tolerance:
        return
    if error > 1e-3 * max(abs(numeric), typical, atol):
        message = f"{place}: the finite difference is {numeric:.6g} give or take {error:.1g}: too uncertain to tell"
        report.findings.append(Finding("unresolved", message, **details))
    elif difference > tolerance + 10 * error:
        message = f"the gradient of {place} is {analytic:.10g}, by finite differences {numeric:.10g}"
        hint = _hint(analytic, numeric)
        report.findings.append(Finding("wrong", message + hint, **details))


def _hint(analytic: float, numeric: float) -> str:
    """What the ratio of the two suggests."""
    if not analytic or not numeric:
        return " (it is zero)" if not analytic else ""
    ratio = analytic / numeric
    for value, hint in ((-1, "the sign is flipped"), (2, "twice too large"), (0.5, "half of it")):
        if abs(ratio / value - 1) < 1e-5:
            return f" ({hint})"
    return f" (ratio {ratio:.4g})"


def _derivative(f: Callable[[float], Any], x: float, center: Any) -> tuple[Any, Any, Any, Any, Any]:
    """f'(x) of a vector-valued f: (value, uncertainty, left derivative, right derivative, whether there is a kink).

    Central differences D(h) = f'(x) + c2 h^2 + c4 h^4 + ... at h, h/4, h/16, ... are extrapolated to h = 0
    [Richardson 1911; the tableau and its error estimate: Ridders 1982]; each output keeps the entry of the
    tableau whose neighbours agree best. The step starts at max(1, |x|) / 64 and shrinks until they agree.
    """
    best = np.full(center.shape, np.nan)
    uncertainty = np.full(center.shape, np.inf)
    row: list[Any] = []
    sides: tuple[Any, Any] = (np.nan, np.nan)
    jump = last = None
    kink = np.zeros(center.shape, bool)
    h = max(1.0, abs(x)) / 64
    for level in range(12):
        with np.errstate(all="ignore"):
            up, down = f(x + h), f(x - h)
            width = (x + h) - (x - h)
            new = [(up - down) / width]
            for k, old in enumerate(row, 1):
                new.append(new[-1] + (new[-1] - old) / (16**k - 1))
                spread = np.maximum(np.abs(new[-1] - new[-2]), np.abs(new[-1] - old))
                rounding = 1e-16 * (np.abs(up) + np.abs(down)) / width
                better = ~np.isnan(spread) & (spread + rounding < uncertainty)
                best = np.where(better, new[-1], best)
                uncertainty = np.where(better, spread + rounding, uncertainty)
            left, right = (center - down) / (x - (x - h)), (up - center) / ((x + h) - x)
            last, jump = jump, np.abs(right - left)
            if last is not None:  # a smooth function's jump shrinks with h, by 4; a kink's stays
                kink = (jump > 0.3 * last) & (jump > 1e-5 * np.maximum(1, np.abs(left) + np.abs(right)))
        sides = (left, right)
        row = new
        if level >= 2 and np.all(uncertainty <= 1e-11 * np.maximum(np.abs(best), 1e-3 * (1 + np.abs(center)))):
            break
        h /= 4
    return best, uncertainty, *sides, kink


def from_vjp(forward: Callable[..., Any], vjp: Callable[..., Any], name: str | None = None) -> Callable[..., Tensor]:
    """A function of tensors from a hand-written pair of plain functions, for gradcheck.

    forward(*arrays) -> array. vjp(g, *arrays) -> the gradients of the arrays, in their order (one alone need not
    be a tuple; None where an input has none), for the gradient g of a loss with respect to the result.
    """

    def pair(xp: Any, *arrays: Any) -> Any:
        y = xp.asarray(forward(*arrays))

        def gradient(i: int) -> Callable[[Any], Any]:
            def of(g: Any) -> Any:
                grads = vjp(g, *arrays)
                grads = grads if isinstance(grads, tuple | list) else (grads,)
                if len(grads) != len(arrays):
                    raise _Fault("shape", f"vjp returned {len(grads)} gradients for {len(arrays)} inputs")
                d, x = grads[i], arrays[i]
                if d is None:
                    raise _Fault("missing", f"vjp returned None for input {i}", input=i)
                if xp.shape(d) != x.shape:
                    raise _Fault(
                        "shape", f"vjp's gradient of input {i} has shape {xp.shape(d)}, not {x.shape}", input=i
                    )
                if d.dtype != x.dtype:
                    raise _Fault("dtype", f"vjp's gradient of input {i} is {d.dtype}, not {x.dtype}", input=i)
                return d

            return of

        return y, [gradient(i) if x.dtype.kind == "f" else None for i, x in enumerate(arrays)]

    pair.__name__ = name or str(getattr(forward, "__name__", "pair"))
    return op(pair)


def _float64(x: Any) -> Any:
    """A copy on the host, floats as float64."""
    x = np.array(x.numpy() if isinstance(x, Tensor) else backend.to_numpy(x) if backend.is_array(x) else x)
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _device(x: Any) -> Any:
    """A copy on the current backend: the function may change it."""
    return backend.current().asarray(x.copy())
