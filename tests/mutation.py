"""Planted errors: every line of gradient code is damaged in turn, one change each, and the suite must notice.

    python tests/mutation.py [--op NAME] [--jobs N] [--sample N --seed S]

The changes are made in the syntax tree of the vjps in minivae/ops, of the helpers that they call, and of the engine
(minivae/graph.py). Each mutant runs in a process of its own, whose import of that one file yields the damaged source:
first the gradient checks of the op (minivae/cases), then, if they pass, its tests. A mutant that nothing notices
must stand in EQUIVALENT with the reason why no test could; else the exit status is 1.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.machinery
import importlib.util
import io
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: the processes share the cores

ROOT = Path(__file__).resolve().parent.parent
FILES = [*sorted(p for p in (ROOT / "minivae/ops").glob("*.py") if p.name != "__init__.py"), ROOT / "minivae/graph.py"]
# forward code whose results the vjps share
SHARED = {
    "_shifted", "_softplus", "_leaky_relu", "_elu", "_gelu", "_silu", "_bernoulli", "_gaussian", "_squares", "_kl_unit",
    "_kl", "_normal",
}  # fmt: skip
# a quadrature, whose limits need only be wide enough; test_distributions.py holds its accuracy against differences
EXEMPT = {"_shape_slope"}
ENGINE_CASES = ["add", "mul", "concatenate", "split", "linear", "kl_normal.broadcast", "nn.LayerNorm", "einsum"]
OWN = {"graph": "tests/test_optim.py"}  # where a file's tests are, if not under its name: gradients in their places
TIMEOUT = 150.0  # seconds for one mutant: a loop without end is noticed

EQUIVALENT: dict[str, list[str]] = {  # reason -> mutants, as Mutant.key names them
    "What was kept for the other vjps is computed again: backward() brings them one cotangent.": [
        "affine.once | off by one | if not known or known[1] is not g:",
        "affine.once | mask inverted | if not known or known[0] is g:",
    ],
    "Where all axes are reduced, a 0-d array broadcasts as well as one with those axes back.": [
        "reduction._restore | operand wrong | if keepdims or reduced.ndim == 0:",
        "reduction._restore | operand wrong | "
        "return xp.expand_dims(reduced, tuple((i % a.ndim for i in _all(reduced, axis))))",
    ],
    "The branch for a Python number saves time: the general formula gives the same.": [
        "arithmetic.pow | operand wrong | if isinstance(a, int | float):",
        "arithmetic.pow | input for output | if isinstance(y, int | float):",
    ],
    "Where b is 0 the power is multiplied by b: any finite exponent will do.": [
        "arithmetic.pow | off by one | return g * b * a ** xp.where(b == 0, 2, b - 1)",
    ],
    "The gradient of b takes b's dtype in the end: a logarithm in that dtype differs by rounding alone.": [
        "arithmetic.pow | input for output | base = xp.asarray(a, dtype=b.dtype)",
    ],
    "The larger of a and b exceeds one of them exactly where the other does; likewise the smaller.": [
        "arithmetic.maximum | input for output | lambda g: _share(xp, g, a, b, y > b)",
        "arithmetic.maximum | input for output | lambda g: _share(xp, g, a, b, a < y)",
        "arithmetic.minimum | input for output | lambda g: _share(xp, g, a, b, y < b)",
        "arithmetic.minimum | input for output | lambda g: _share(xp, g, a, b, a > y)",
    ],
    "A contiguous copy makes the product faster and changes no value.": [
        "matmul.matmul | mask inverted | return g if 0 in g.strides else xp.ascontiguousarray(g)",
        "matmul.matmul | mask inverted | return xp.ascontiguousarray(g) if 0 not in g.strides else g",
        "matmul.matmul | reshape dropped | return g if 0 in g.strides else g",
        "matmul.linear | reshape dropped | lambda g: da(_rows(g))",
        "conv.conv2d | reshape dropped | lambda g: da(last(g))",
        "norm.group_norm | reshape dropped | return xp.moveaxis(a, 1, -1).reshape(n, pixels // several, several * c)",
        "conv.conv_transpose2d | reshape dropped | lambda g: da(last(g))",
    ],
    "A stack of products equals the one large product of all rows, which is only faster.": [
        "matmul._product | operand wrong | if a.ndim > 2 or a.ndim == 2:",
        "matmul._product | mask inverted | if b.ndim > 2 or a.ndim != 2:",
        "matmul._product | mask inverted | if not (b.ndim > 2 or a.ndim == 2):",
        "matmul._product | operand wrong | if b.ndim > 2 or b.ndim == 2:",
        "matmul._product | reshape dropped | return xp.matmul(a, b).reshape(*a.shape[:-1], b.shape[-1])",
    ],
    "How many rows are kept, and how much scratch there is, changes the time and the memory alone.": [
        *(
            f"conv._gathered | {kind} | step, keep = (of.xp.fitting(n, nbytes), 0 < {size} <= KEPT)"
            for kind, size in (
                ("inverse", "n * of.groups / nbytes"),
                ("factor dropped", "n * of.groups"),
                ("inverse", "n / of.groups * nbytes"),
                ("factor dropped", "n * nbytes"),
            )
        ),
        "conv._gathered | off by one | "
        "columns = of.xp.empty((of.groups, n, *shape) if keep else (2, step, *shape), dtype=of.x.dtype)",
    ],
    "Any divisor of the number of pixels will do; large ones are faster.": [
        "norm.group_norm | off by one | several = math.gcd(pixels, 65)",
    ],
    "Of weights in another dtype than the images only the dtype of sums changes, which gradients do not keep.": [
        f"norm.group_norm | operand wrong | return xp.matmul(xp.ones((1, pixels), dtype={name}.dtype), "
        "a.reshape(n, pixels, c)).reshape(n, c)"
        for name in ("weight", "bias")
    ],
    "The cotangent and the result have the dtype of a.": [
        "reduction._share | operand wrong | count = xp.sum(attains, axis=axis, keepdims=True).astype(g.dtype)",
        "reduction._share | operand wrong | count = xp.sum(attains, axis=axis, keepdims=True).astype(y.dtype)",
    ],
    "An array of no entries stands for the pieces: of it only the dtype is read.": [
        "shape._piece | sign | return -xp.empty(0, g.dtype)",
        "shape._piece | factor | return 2 * xp.empty(0, g.dtype)",
    ],
    "What backward() does not know to own it copies, or adds up in a fresh array: slower, and the same.": [
        "graph.backward | step dropped | without owned.add(parent)",  # of both kinds
    ],
    "A vjp's result that is no array is a NumPy scalar, which has a shape as well; the last line makes it one.": [
        "graph._fit | step dropped | without gradient = xp.asarray(gradient)",
    ],
    "Of the result only the size is read.": [
        "reduction.mean | changed in place | y.fill(0.5); "
        "return (y, (lambda g: spread(xp, g / _count(a, y), a, axis, keepdims),))",
        "reduction.var | changed in place | y.fill(0.5); return (y, (da,))",
    ],
    "-inf is the result in every case, whatever finite number is taken from it or stands for the sum.": [
        "reduction._shifted | off by one | shifted = a - xp.where(empty, 1, m)",
        "reduction._shifted | off by one | return (m, shifted, "
        "xp.where(empty, 2, xp.sum(xp.exp(shifted), axis=axis, keepdims=True)))",
    ],
    "Where a is empty the count is 0 in either case, and where only y were empty there is none.": [
        "reduction._count | operand wrong | return float(a.size / y.size) if a.size else 0.0",
    ],
}


class Mutant(NamedTuple):
    """One change. op: "file.function"; before, after: the statement or lambda around it; source: the whole file."""

    op: str
    kind: str
    line: int
    before: str
    after: str
    path: Path
    source: str
    cases: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.op} | {self.kind} | {self.after}"


# ---- which code is gradient code ----


def names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def is_op(function: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "op" for d in function.decorator_list)


def gradient_code(function: ast.FunctionDef) -> list[ast.AST]:
    """The vjps of an op, and the statements before them whose results only they use."""
    roots: list[ast.AST] = [n for n in function.body if isinstance(n, ast.FunctionDef)]
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and node in function.body:
            roots.append(node.value.elts[1])
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Call) and node in function.body:
            roots += node.value.args[3:]  # of _summed
    inside = {id(n) for root in roots for n in ast.walk(root)}
    for statement in reversed(function.body):
        if isinstance(statement, ast.Assign):
            made = {n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            used = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id in made and id(n) not in inside]
            if all(isinstance(n.ctx, ast.Store) for n in used):
                roots.append(statement)
                inside |= {id(n) for n in ast.walk(statement)}
    return roots


def call_graph() -> dict[str, set[str]]:
    """For every function of minivae.ops, the others that it names, directly or not. Names are "file.function"."""
    trees = {p.stem: ast.parse(p.read_text()) for p in FILES}
    functions = {(m, f.name): f for m, t in trees.items() for f in t.body if isinstance(f, ast.FunctionDef)}
    imported = {
        (m, alias.name): node.module.split(".")[-1]
        for m, tree in trees.items()
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    graph = {
        f"{m}.{name}": {
            f"{home}.{used}" for used in names(f) if (home := imported.get((m, used), m), used) in functions
        }
        for (m, name), f in functions.items()
    }
    for middle in graph:  # Warshall's transitive closure
        for reached in graph.values():
            if middle in reached:
                reached |= graph[middle]
    return graph


# ---- the changes ----

SWAPPED: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
DROPPED = {  # calls that are left out, their first array in their place
    "swapaxes": "transposition dropped", "transpose": "transposition dropped", "flip": "transposition dropped",
    "argsort": "transposition dropped", "reshape": "reshape dropped", "expand_dims": "reshape dropped",
    "ascontiguousarray": "reshape dropped", "_restore": "broadcast dropped", "broadcast_to": "broadcast dropped",
    "spread": "broadcast dropped", "sum": "sum dropped", "mean": "sum dropped", "_rows": "reshape dropped",
    "flat": "reshape dropped", "matrix": "reshape dropped",
    **dict.fromkeys(("exp", "log", "cos", "sin", "sign", "abs", "log1p", "expm1"), "function dropped"),
}  # fmt: skip
MANNERS = ("strict", "optimize")  # keywords that change no value
OTHER = {"equal": ("not_equal", "mask inverted"), "mean": ("sum", "factor"), "cos": ("sin", "function dropped"),
         "sin": ("cos", "function dropped")}  # fmt: skip


def expression(text: str, **parts: ast.AST) -> Any:
    """The tree of a text in which the names of parts stand for them."""

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return copy.deepcopy(parts[node.id]) if node.id in parts else node

    statement = Fill().visit(ast.parse(text).body[0])
    return statement.value if isinstance(statement, ast.Expr) else statement


def changes(node: Any, parent: Any, field: str, scope: Scope) -> Iterator[tuple[str, ast.AST]]:
    """The (kind, replacement) pairs of a node that stands in a field of its parent."""
    x: Any = node
    if field in ("body", "value") and scope.is_result(x, parent):
        yield "sign", expression("-X", X=x)
        yield "factor", expression("2 * X", X=x)
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in SWAPPED:
                kind = {ast.Mult: "inverse", ast.Div: "inverse", ast.BitAnd: "mask inverted"}.get(type(op), "sign")
                yield kind, ast.BinOp(left, SWAPPED[type(op)](), right)
            if isinstance(op, ast.Add | ast.Sub | ast.BitAnd):
                yield "term dropped", left
                yield "term dropped", expression("-X", X=right) if isinstance(op, ast.Sub) else right
            elif isinstance(op, ast.Mult | ast.Div | ast.Pow):
                yield "factor dropped", left
                if isinstance(op, ast.Mult):
                    yield "factor dropped", right
            elif isinstance(op, ast.MatMult):
                yield "operand wrong", ast.BinOp(right, op, left)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant()) if not isinstance(parent, ast.BinOp):
            yield "axis wrong", expression("0")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield "sign", operand
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "mask inverted", operand
        case ast.Constant(value=bool(value)):
            yield "axis wrong" if field == "value" else "mask inverted", ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            if isinstance(parent, ast.BinOp):
                yield "factor", ast.Constant(value * 2 if value else 1)
            elif isinstance(parent, ast.Call | ast.Tuple | ast.keyword | ast.Subscript):
                axis = isinstance(parent, ast.keyword) or scope.called(parent) in ("expand_dims", "swapaxes")
                yield "axis wrong" if axis else "off by one", ast.Constant(value + 1)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in SWAPPED:
            yield "mask inverted", ast.Compare(left, [SWAPPED[type(op)]()], [right])
        case ast.BoolOp(op=op, values=values):
            yield "mask inverted", ast.BoolOp(SWAPPED[type(op)](), values)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield "mask inverted", ast.IfExp(test, orelse, body)
        case ast.If(test=test, body=body, orelse=orelse):
            yield "mask inverted", ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Attribute(value=value, attr="T"):
            yield "transposition dropped", value
        case ast.Call(func=func, args=args, keywords=keywords):
            name = scope.called(x)
            if name in DROPPED:
                arrays = [a for a in args if not (isinstance(a, ast.Name) and a.id == "xp")]
                method = isinstance(func, ast.Attribute) and not names(func) & {"xp", "np"}
                yield DROPPED[name], func.value if method else arrays[0]
            if name in OTHER and isinstance(func, ast.Attribute):
                yield OTHER[name][1], ast.Call(ast.Attribute(func.value, OTHER[name][0], func.ctx), args, keywords)
            if name == "where":
                yield "mask inverted", ast.Call(func, [args[0], args[2], args[1]], keywords)
                yield "mask dropped", args[1]
                yield "mask dropped", args[2]
            if name in ("slice", "vjp", "range"):
                for i, arg in enumerate(args):
                    shifted = expression("X + 1" if name == "slice" else "X - 1", X=arg)
                    yield "off by one", ast.Call(func, [*args[:i], shifted, *args[i + 1 :]], keywords)
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="scatter_add"), args=[total, index, g])):
            yield "accumulation lost", expression("T[I] = G", T=total, I=index, G=g)
        case ast.Expr(value=ast.Call()):
            yield "step dropped", ast.Pass()
        case ast.Assign(targets=[target], value=value) if isinstance(target, ast.Subscript) or names(value) & {
            getattr(target, "id", None)
        }:
            yield "step dropped", ast.Pass()
        case ast.AugAssign(target=target, op=op, value=value):
            yield "accumulation lost", ast.Assign([target], value, lineno=x.lineno)
            yield "step dropped", ast.Pass()
            yield "sign", ast.AugAssign(target, SWAPPED[type(op)](), value)
        case ast.Name(id=name, ctx=ast.Load()) if not (isinstance(parent, ast.Call) and parent.func is x):
            if name.startswith("axis"):
                yield "axis wrong", ast.Constant(None)
                yield "axis wrong", ast.Constant(0)
            elif name == "keepdims":
                yield "axis wrong", expression("not keepdims")
            elif name in scope.arrays:
                for other in scope.arrays - {name}:
                    kind = "input for output" if scope.output in (name, other) else "operand wrong"
                    yield kind, ast.Name(other, ast.Load())
        case ast.Tuple(elts=elts) if x is scope.vjps and len(elts) > 1:
            for i in range(len(elts) - 1):
                yield "gradients swapped", ast.Tuple([*elts[:i], elts[i + 1], elts[i], *elts[i + 2 :]], x.ctx)
        case ast.Lambda() if isinstance(parent, ast.Tuple) and parent is scope.vjps:
            yield "gradient missing", ast.Constant(None)


class Scope:
    """What the changes need to know of the function around them."""

    def __init__(self, function: ast.FunctionDef):
        last = function.body[-1]
        value = last.value if isinstance(last, ast.Return) else None
        self.vjps: Any = None
        self.output: str | None = None
        arguments = [*function.args.args, *([function.args.vararg] if function.args.vararg else [])]
        self.arrays = {a.arg for a in arguments if isinstance(a.annotation, ast.Name) and a.annotation.id == "Array"}
        if function.args.vararg:
            self.arrays -= {function.args.vararg.arg}
        if is_op(function) and isinstance(value, ast.Tuple):
            self.vjps = value.elts[1]
            if isinstance(value.elts[0], ast.Name):
                self.output = value.elts[0].id
                self.arrays |= {self.output}
        elif is_op(function) and isinstance(value, ast.Call):
            self.vjps = value.args[3]
        self.results: set[int] = set()  # values that a vjp, or a helper that makes arrays, returns
        for n in ast.walk(function):
            if isinstance(n, ast.Lambda) and [a.arg for a in n.args.args] in (["g"], ["g", "out"]):
                self.results.add(id(n.body))
            elif isinstance(n, ast.FunctionDef) and getattr(n.returns, "id", "") in ("Array", "float"):
                self.results |= {id(r.value) for r in ast.walk(n) if isinstance(r, ast.Return)}

    def is_result(self, node: ast.AST, parent: ast.AST) -> bool:
        return id(node) in self.results and isinstance(parent, ast.Lambda | ast.Return)

    def called(self, node: ast.AST) -> str | None:
        """The last name of a called function."""
        if not isinstance(node, ast.Call):
            return None
        return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", None)


Place = tuple[Any, str, int | None, Any, Any]  # parent, field, index in a list, node, the statement or lambda around it


def places(root: Any, around: Any) -> Iterator[Place]:
    """Every node below root that may be changed."""
    for field, value in ast.iter_fields(root):
        if field in ("annotation", "returns", "decorator_list", "args") and not isinstance(root, ast.Call):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.Raise) or not isinstance(child, ast.AST) or getattr(child, "arg", "") in MANNERS:
                continue
            yield root, field, i, child, child if isinstance(child, ast.stmt) else around
            yield from places(child, child if isinstance(child, ast.stmt | ast.Lambda) else around)


def headline(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0]


def mutants_of(path: Path, source: str, graph: dict[str, set[str]]) -> Iterator[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    tree = ast.parse(source)
    functions = [f for f in tree.body if isinstance(f, ast.FunctionDef)]
    engine = path.stem == "graph"
    regions: dict[str, list[ast.AST]] = {f.name: gradient_code(f) for f in functions if is_op(f)}
    called = {n for roots in regions.values() for root in roots for n in names(root)} | SHARED
    called |= {"spread"}  # by losses, in another file
    while True:  # helpers whole, where gradient code calls them; else only the functions nested in them
        new = {f.name for f in functions if not is_op(f) and (f.name in called or engine)} - regions.keys() - EXEMPT
        if not new:
            break
        for f in functions:
            if f.name in new:
                regions[f.name] = list(f.body)
                called |= names(f)
    for f in functions:
        nested = [n for n in f.body if isinstance(n, ast.FunctionDef)] if "vjp" in ast.dump(f) else []
        regions.setdefault(f.name, list(nested))
    seen = {ast.unparse(tree)}
    for f in functions:
        scope, label = Scope(f), f"{path.stem}.{f.name}"
        cases = ENGINE_CASES if engine else _cases(label, graph)
        holder = ast.Module(regions[f.name], [])
        for parent, field, i, node, around in places(holder, f.body[-1]):
            for kind, new_node in list(changes(node, parent, field, scope)):
                before = headline(around)
                target = _holder_of(tree, node) if parent is holder else (parent, field, i)
                _put(*target, new_node)
                source_now = ast.unparse(ast.fix_missing_locations(tree))
                dropped = isinstance(new_node, ast.Pass)
                after = f"without {before}" if dropped else headline(new_node if around is node else around)
                _put(*target, node)
                if source_now not in seen:
                    seen.add(source_now)
                    yield Mutant(label, kind, node.lineno, before, after, path, source_now, tuple(cases))
        for name in _saved(f, regions[f.name]) if is_op(f) else []:
            before = headline(f.body[-1])
            returned: Any = f.body[-1]
            value = returned.value.elts[0] if isinstance(returned.value, ast.Tuple) else None
            if value is None:
                continue
            index = f.body.index(returned)
            f.body.insert(index, ast.parse(f"{name}.fill(0.5)").body[0])
            f.body.insert(index, expression("_kept = xp.asarray(V).copy()", V=value))
            returned.value.elts[0] = ast.Name("_kept", ast.Load())
            source_now = ast.unparse(ast.fix_missing_locations(tree))
            del f.body[index : index + 2]
            returned.value.elts[0] = value
            yield Mutant(
                label, "changed in place", returned.lineno, before, f"{name}.fill(0.5); {before}", path, source_now,
                tuple(cases),
            )  # fmt: skip


def _holder_of(tree: ast.AST, node: ast.AST) -> tuple[Any, str, int | None]:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is node:
                return parent, field, None
            if isinstance(value, list) and any(v is node for v in value):
                return parent, field, next(i for i, v in enumerate(value) if v is node)
    raise LookupError(ast.unparse(node))


def _put(parent: Any, field: str, i: int | None, node: ast.AST) -> None:
    if i is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[i] = node


def _saved(function: ast.FunctionDef, gradient: Sequence[ast.AST]) -> list[str]:
    """The arrays of the forward pass that its vjps read."""
    scope = Scope(function)
    made = {
        n.id
        for s in function.body
        if isinstance(s, ast.Assign) and (isinstance(s.value, ast.BinOp | ast.Compare) or is_array_call(s.value))
        for t in s.targets
        for n in ast.walk(t)
        if isinstance(n, ast.Name)
    }
    forms = {id(n.value) for root in gradient for n in ast.walk(root) if isinstance(n, ast.Attribute)}  # as in a.shape
    read = {n.id for root in gradient for n in ast.walk(root) if isinstance(n, ast.Name) and id(n) not in forms}
    return sorted(read & (made | scope.arrays))


def is_array_call(node: ast.AST) -> bool:
    """Whether it calls a function of the backend, or one that is given the backend."""
    return isinstance(node, ast.Call) and "xp" in names(node.func) | {getattr(a, "id", "") for a in node.args}


def _cases(label: str, graph: dict[str, set[str]]) -> list[str]:
    """The names of the ops that a function has a part in, its own first."""
    own = label.split(".")[1].lstrip("_")
    callers = [name.split(".")[1].lstrip("_") for name, reached in graph.items() if label in reached]
    return list(dict.fromkeys([own, *callers]))


# ---- running them ----


class Damaged(importlib.machinery.SourceFileLoader):
    """Imports one file from another text."""

    text = ""

    def get_code(self, fullname: str) -> Any:
        return compile(self.text, self.path, "exec")


class Finder:
    """Answers for one module, with its damaged source."""

    def __init__(self, mutant: Mutant):
        self.module = ".".join(mutant.path.relative_to(ROOT).with_suffix("").parts)
        self.loader = Damaged(self.module, str(mutant.path))
        self.loader.text = mutant.source

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(name, self.loader) if name == self.module else None


def judge(mutant: Mutant, examples: int, tests: bool, connection: Connection) -> None:
    """In a process of its own: send what notices the mutant, or ""."""
    for name in [n for n in sys.modules if n.split(".")[0] == "minivae"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder(mutant))
    sys.path.insert(0, str(ROOT))
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
        try:
            connection.send(_checks(mutant, examples) or (_tests(mutant) if tests else ""))
        except BaseException as error:
            connection.send(RuntimeError(f"{error!r}\n{said.getvalue()[-3000:]}"))


def _checks(mutant: Mutant, examples: int) -> str:
    """What the gradient checks say."""
    from hypothesis import Phase, settings

    try:
        from minivae import testing
        from minivae.cases import CASES

        testing.settings = lambda **options: settings(**{**options, "phases": [Phase.generate]})  # no need to shrink
        for wanted in mutant.cases:
            for name, case in CASES.items():
                if name == wanted or name.startswith(wanted + "."):
                    testing.check_op(case.fn, *case.arguments, examples=examples)
    except Exception as error:
        cause = error.__cause__ or error
        return "gradcheck" if isinstance(cause, AssertionError) else type(cause).__name__
    return ""


def _tests(mutant: Mutant) -> str:
    """Whether the op's tests fail."""
    import pytest
    from hypothesis.configuration import set_hypothesis_home_dir

    os.environ.pop("PYTEST_ADDOPTS", None)  # workers of xdist would import the sound source
    set_hypothesis_home_dir(tempfile.mkdtemp())  # what fails here is no example to keep
    general = ["tests/test_ops_gradients.py", "tests/oracle/test_ops_torch.py", "-k", " or ".join(mutant.cases[:3])]
    own = OWN.get(mutant.path.stem, f"tests/test_{mutant.path.stem}.py")
    values = ["tests/test_tensor.py", "tests/test_ops_values.py", *([own] if (ROOT / own).exists() else [])]
    for chosen in (values, general):
        status = pytest.main(
            ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--rootdir", str(ROOT)]
            + [str(ROOT / c) if c.startswith("tests/") else c for c in chosen]
            + ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-W", "ignore::hypothesis.errors.HypothesisWarning"]
        )  # for hypothesis is imported already
        if status == pytest.ExitCode.TESTS_FAILED:
            return "tests"
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise RuntimeError(f"pytest ends with {status!r}")
    return ""


def run(mutants: Sequence[Mutant], examples: int, jobs: int, tests: bool = True) -> Iterator[tuple[Mutant, str]]:
    """(mutant, what noticed it) for each, as they come; "" if nothing did."""
    sys.path.insert(0, str(ROOT))
    importlib.import_module("minivae.cases")  # what it needs of NumPy, SciPy and hypothesis: once, not in every child

    context = multiprocessing.get_context("fork")
    waiting = list(reversed(mutants))
    running: dict[Any, tuple[Mutant, Any, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=judge, args=(mutant, examples, tests, theirs), daemon=True)
            process.start()
            theirs.close()
            running[ours] = mutant, process, time.monotonic()
        ready = set(wait(list(running), timeout=0.5))
        for ours, (mutant, process, began) in list(running.items()):
            late = time.monotonic() - began > TIMEOUT
            if ours in ready or late:
                try:
                    verdict = ours.recv() if ours in ready else "no end"
                except EOFError:
                    verdict = "crash"
                if isinstance(verdict, BaseException):
                    raise RuntimeError(f"the run of {mutant.key} failed") from verdict
                process.kill()
                process.join()
                del running[ours]
                yield mutant, verdict


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Plant errors in the gradients, and count how many are noticed.")
    parser.add_argument("--op", help="only this op or helper: exp, _share, matmul._rows, graph")
    parser.add_argument("--examples", type=int, default=15, help="of each gradient check (default 15)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once (default: the cores)")
    parser.add_argument("--sample", type=int, help="only so many, of all kinds, none of EQUIVALENT")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--list", action="store_true", help="print the mutants and run none")
    args = parser.parse_args(argv)
    began = time.monotonic()
    graph = call_graph()
    mutants = [m for path in FILES for m in mutants_of(path, path.read_text(), graph)]
    reasons = {key: reason for reason, keys in EQUIVALENT.items() for key in keys}
    stale = reasons.keys() - {m.key for m in mutants}
    for key in sorted(stale):
        print(f"EQUIVALENT names no mutant: {key}")
    if args.op:
        mutants = [m for m in mutants if args.op in (m.op, *m.op.split("."), m.op.split(".")[1].lstrip("_"))]
    if args.sample:
        mutants = sample([m for m in mutants if m.key not in reasons], args.sample, args.seed)
    if args.list:
        for m in mutants:
            print(f"{m.op:30} {m.kind:22} {m.line:4} {m.before}   ->   {m.after}")
        return 0
    rows: dict[str, Counter[str]] = {}
    how: Counter[str] = Counter()
    by_tests: set[str] = set()  # ops of which the tests noticed a mutant
    noticed: set[str] = set()  # of EQUIVALENT
    unnoticed: set[str] = set()
    for mutant, verdict in run(mutants, args.examples, args.jobs):
        outcome = "caught" if verdict else "equivalent" if mutant.key in reasons else "survived"
        how[verdict] += bool(verdict)
        by_tests |= {mutant.op} if verdict == "tests" else set()
        for group in (mutant.kind, mutant.op, "all"):
            rows.setdefault(group, Counter())[outcome] += 1
        if outcome == "survived":
            print(f"SURVIVED {mutant.key}\n   line {mutant.line}: {mutant.before}", flush=True)
        if mutant.key in reasons:
            (noticed if verdict else unnoticed).add(mutant.key)
    for key in sorted(noticed - unnoticed):  # of those of one key, some may be
        print(f"EQUIVALENT names a mutant that is noticed: {key}", flush=True)
    stale |= noticed - unnoticed
    print_table(rows, {m.kind for m in mutants})
    print("noticed by: " + ", ".join(f"{name} {n}" for name, n in how.most_common() if n))
    unharmed = {m.op: m._replace(source=m.path.read_text()) for m in mutants}.values()
    for m, verdict in [
        *run([m for m in unharmed if m.op not in by_tests], args.examples, args.jobs, tests=False),
        *run([m for m in unharmed if m.op in by_tests], args.examples, args.jobs),
    ]:
        if verdict:
            print(f"no verdict: the undamaged {m.op} fails, too ({verdict})")
            stale.add(m.key)
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if stale or rows.get("all", Counter())["survived"] else 0


def sample(mutants: Sequence[Mutant], n: int, seed: int) -> list[Mutant]:
    """n mutants, the kinds in turn."""
    rng = random.Random(seed)
    by_kind: dict[str, list[Mutant]] = {}
    for mutant in rng.sample(list(mutants), len(mutants)):
        by_kind.setdefault(mutant.kind, []).append(mutant)
    chosen: list[Mutant] = []
    while len(chosen) < min(n, len(mutants)):
        chosen += [group.pop() for group in by_kind.values() if group]
    return chosen[:n]


def print_table(rows: dict[str, Counter[str]], kinds: set[str]) -> None:
    columns = ("caught", "equivalent", "survived")
    print(f"\n{'':36}{'mutants':>9}" + "".join(f"{c:>12}" for c in columns))
    for name in sorted(rows, key=lambda r: (r == "all", r not in kinds, r)):
        print(f"{name:36}{rows[name].total():9}" + "".join(f"{rows[name][c]:12}" for c in columns))


if __name__ == "__main__":
    sys.exit(main())
