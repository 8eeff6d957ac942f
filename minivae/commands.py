"""What the subcommands do. Each takes the parsed arguments; what it needs it imports itself, to start quickly."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

from minivae import backend, blas
from minivae.errors import InputError


def _load(args: argparse.Namespace) -> tuple[Any, dict[str, Any], Path]:
    """The model of a run, its header, and the run's folder."""
    from minivae import checkpoint, codecs

    path = codecs.path(args.run)
    model, header = checkpoint.load_model(path)
    checkpoint.check_header(path, header, data=str, options=dict)
    return model, header, path.parent


def _data(args: argparse.Namespace, header: dict[str, Any]) -> Any:
    """The data set to look at, with images of the model's shape."""
    from minivae import data

    dataset = data.load(args.data or header["data"])
    shape = tuple(header["arguments"]["shape"])
    if dataset.shape != shape:
        raise InputError(
            f"the images of '{args.data or header['data']}' have shape {dataset.shape}, but the model in '{args.run}' "
            f"was trained on {shape}: choose data of that shape with --data."
        )
    return dataset


def writable(path: Path, *endings: str, read: tuple[Path, ...] = ()) -> Path:
    """The path. Raises InputError where no file can be written there, or its name has none of these endings.

    read: what the command reads, which is not to be written over.
    """
    if endings and path.suffix not in endings:
        raise InputError(f"'{path}' is no {' or '.join(endings)}: name a file with such an ending, with --out.")
    if path.is_dir():
        raise InputError(f"'{path}' is a folder: name a file, with --out.")
    if path.exists() and not path.is_file():
        raise InputError(f"'{path}' is no file but a pipe or a device: name a file, with --out.")
    if not os.access(Path(os.path.realpath(path)).parent, os.W_OK):
        raise InputError(f"'{path}' cannot be written: name a file in a folder that exists and can be, with --out.")
    for source in read:
        if path.exists() and source.exists() and path.samefile(source):
            raise InputError(f"'{path}' is what is read here and would be lost: name another file, with --out.")
    return path


def evaluate(args: argparse.Namespace) -> None:
    from minivae.train import elbo, evaluate

    model, header, _ = _load(args)
    dataset = _data(args, header)
    if hasattr(model, "examples"):
        dataset = model.examples(dataset)
    bounded = hasattr(model, "nll_bound")
    if args.samples and not bounded:
        raise InputError(f"--samples {args.samples} are of a bound, which no {type(model).__name__} has: leave it out.")
    samples = (args.samples or 50) if bounded else 0
    binarize = header["options"].get("binarize") is True
    means = evaluate(model, dataset.test, binarize=binarize, samples=samples, seed=args.seed)
    loss, bound = means.pop("loss"), means.pop("nll", None)
    if bound is None:
        print(f"{header['model']} on {dataset.name}, {len(dataset.test):,} test images")
        print(f"  loss                     {loss:10.4f}")
    else:
        unit = "nats per image" + ("" if model.likelihood.whole else ", but for a constant")
        print(f"{header['model']} on {dataset.name}, {len(dataset.test):,} test images, {unit}")
        print(f"  ELBO                     {elbo(means):10.2f}")
    for name, value in means.items():
        print(f"    {name:22} {value:10.{2 if abs(value) >= 10 else 4}f}")
    if bound is not None:
        given = {"cvae": "log p(x | class)", "completion": "log p(hidden | seen)"}.get(header["model"], "log p(x)")
        print(f"  {given + ' at least':24} {-bound:10.2f}   (importance-weighted, K = {samples})")


def sample(args: argparse.Namespace) -> None:
    from minivae import report

    model, header, folder = _load(args)
    path = writable(args.out or folder / "samples.png", ".png")
    _check_images(str(args.run), tuple(header["arguments"]["shape"]))
    report.samples(model, args.count, path, args.seed, args.label)
    print(path)


def reconstruct(args: argparse.Namespace) -> None:
    from minivae import report

    _figure(args, partial(report.reconstructions, seed=args.seed), "reconstructions")


def traverse(args: argparse.Namespace) -> None:
    from minivae import report

    _figure(args, report.traversals, "traversals")


def interpolate(args: argparse.Namespace) -> None:
    from minivae import report

    _figure(args, report.interpolation, "interpolation")


def _figure(args: argparse.Namespace, draw: Any, name: str) -> None:
    """A figure of test images, as draw(model, split, path, count) makes it."""
    model, header, folder = _load(args)
    path = writable(args.out or folder / f"{name}.png", ".png")
    dataset = _data(args, header)
    _check_images(dataset.name, dataset.shape)
    draw(model, dataset.test, path, args.count)
    print(path)


def _check_images(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        raise InputError(f"'{name}' has no images to draw: its examples have shape {shape}.")


def encode(args: argparse.Namespace) -> None:
    """The codes of a split with its labels: arrays `codes` and `labels` of an .npz, with the names of the `classes`
    that labels count; or a .csv with a row for each.
    """
    import numpy as np

    from minivae import codecs
    from minivae.files import atomic_write

    model, header, folder = _load(args)
    read = Path(args.data or header["data"]), codecs.path(args.run)
    path = writable(args.out or folder / "codes.npz", ".npz", ".csv", read=read)
    dataset = _data(args, header)
    split = getattr(dataset, args.split)
    codes = _codes(model, split)
    labels = {} if split.labels is None else {"labels": split.labels}
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        if path.suffix == ".npz":
            members: dict[str, Any] = {"codes": codes, **labels}
            if labels and dataset.classes:
                members["classes"] = np.array(dataset.classes)
            np.savez(file, **members)
        else:
            flat = codes.reshape(len(codes), -1)
            names = ",".join([*(f"z{i + 1}" for i in range(flat.shape[1])), *labels])
            table = np.column_stack([flat, *labels.values()])
            formats = ["%d" if flat.dtype.kind in "iu" else "%.9g"] * flat.shape[1] + ["%d"] * len(labels)
            np.savetxt(file, table, formats, delimiter=",", header=names, comments="")
    print(f"{path}: codes {codes.shape} {codes.dtype}" + "".join(f", {name} {a.shape}" for name, a in labels.items()))


def export(args: argparse.Namespace) -> None:
    """The weights as .safetensors, under PyTorch's names, with what builds the model again."""
    from minivae import weights

    model, header, folder = _load(args)
    path = writable(args.out or folder / "model.safetensors", ".safetensors")
    state = model.state_dict()
    weights.save(path, state, {key: header[key] for key in weights.HEADER if key in header})
    print(f"{path}: {header['model']}, {len(state)} arrays, {sum(a.size for a in state.values()):,} numbers")


def _codes(model: Any, split: Any) -> Any:
    """The codes of a split in its order, (N, ...), on the host."""
    import numpy as np

    from minivae.evaluation import batches_for
    from minivae.report import has_encoder

    has_encoder(model)
    return np.concatenate([backend.to_numpy(model.encode(x)) for x in batches_for(model, split, 500).epoch(0)])


def metrics(args: argparse.Namespace) -> None:
    """How well the latents follow the factors, each latent one: a table. Labels that repeat a factor make it a kind."""
    import numpy as np

    from minivae import disentanglement
    from minivae.metrics import active_units, linear_probe

    model, header, _ = _load(args)
    if not hasattr(model, "encode"):
        raise InputError(f"a {type(model).__name__} has no encoder, and so no codes to measure: choose another run.")
    dataset = _data(args, header)
    if not dataset.test.factors:
        raise InputError(
            f"the factors of '{dataset.name}' are not known, which the metrics need: choose glyphs, sprites or "
            f"dsprites with --data, and a run on images of its shape; those of this one have {dataset.shape}."
        )
    rng = np.random.default_rng(args.seed)
    split = dataset.test[np.sort(rng.permutation(len(dataset.test))[: args.samples])]
    codes, labels = _codes(model, split), split.labels
    if codes.ndim != 2 or codes.dtype.kind != "f":
        raise InputError(f"a {type(model).__name__} has codes that are whole numbers or maps: choose a run of latents.")
    kinds = [name for name, values in split.factors.items() if labels is not None and np.array_equal(values, labels)]
    try:
        rows = disentanglement.scores(codes, split.factors, rng, kinds)
    except ValueError as error:
        raise InputError(str(error)) from None
    print(f"{header['model']} on {dataset.name}: {len(codes):,} test images, {codes.shape[1]} latents; 1 is best")
    for name, value in rows.items():
        print(f"  {name:24} {value:8.3f}")
    print(f"  {'active units':24} {active_units(codes):4} of {codes.shape[1]}")
    if labels is not None:
        half = len(codes) // 2
        right = linear_probe(codes[:half], labels[:half], codes[half:], labels[half:])
        print(f"  {'linear probe of labels':24} {right:8.3f}   (fitted to one half, judged by the other)")


def outliers(args: argparse.Namespace) -> None:
    from minivae import data, report

    model, header, folder = _load(args)
    path = writable(args.out or folder / "outliers.png", ".png")
    inside, outside = _data(args, header), data.load(args.against)
    if outside.shape != inside.shape:
        raise InputError(
            f"the images of '{args.against}' have shape {outside.shape}, but those of '{inside.name}' "
            f"{inside.shape}: choose data of that shape with --against."
        )
    areas = report.outliers(model, inside, outside, path, args.seed)
    print(f"{header['model']} on {inside.name}: does a score tell {outside.name}? 1 always, 0.5 never, 0 the wrong way")
    for name, area in areas.items():
        print(f"  AUROC of {name:20} {area:.4f}")
    print(path)


def info(args: argparse.Namespace) -> None:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    rows = {"minivae": version("minivae"), "Python": platform.python_version()}
    for package in ("numpy", "scipy", "matplotlib", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            rows[package] = version(package)
        except PackageNotFoundError:
            rows[package] = "not installed"
    xp = backend.current()
    rows["backend"] = f"{xp.name} ({xp.device()})"
    rows["memory"] = ", ".join(f"{n / 2**20:,.0f} MB {what}" for what, n in xp.memory()._asdict().items())
    rows["BLAS"], pool = blas.name(), blas.library()
    if pool.get("internal_api") == "openblas":
        rows["kernels"] = blas.reason(pool["architecture"], blas.flags(), os.environ)
    usable = f"this process may use {blas.cores()} of {os.cpu_count()} cores"
    rows["threads"] = f"{pool.get('num_threads', '?')}; {usable}; --threads N sets another number"
    try:
        rows["GPU"] = (xp if isinstance(xp, backend.CuPy) else backend.CuPy()).device()
    except InputError as error:
        rows["GPU"] = f"none: {error}"
    for name, value in rows.items():
        print(f"{name:14} {value}")


def gradcheck(args: argparse.Namespace) -> None:
    """A row for each op, layer and model loss: how many derivatives were compared, the worst error, the verdict."""
    try:
        from minivae.cases import CASES
        from minivae.testing import check_op
    except ModuleNotFoundError as error:
        raise InputError(f"gradcheck needs the package {error.name}: pip install 'minivae[test]'.") from None

    unknown = [name for name in args.op or () if name not in CASES]
    if unknown:
        raise InputError(f"unknown op '{unknown[0]}': choose from {', '.join(CASES)}.")
    names = args.op or list(CASES)
    failures = []
    print(f"{'op':34} {'inputs':>6} {'cases':>6} {'derivatives':>11} {'worst error':>12}  verdict")
    for name in names:
        case = CASES[name]
        row = f"{name:34} {len(case.arguments):6} {args.examples:6}"
        try:
            report = check_op(case.fn, *case.arguments, examples=args.examples, seed=args.seed)
        except AssertionError as error:
            failures.append(f"{name}: {error}")
            print(f"{row} {'':11} {'':12}  FAILED", flush=True)
        else:
            notes = ", ".join(sorted({f"{f.kind}s met" for f in report.findings if f.kind == "kink"}))
            print(f"{row} {report.entries:11} {report.worst:12.1e}  ok{f' ({notes})' if notes else ''}", flush=True)
    if failures:
        raise CheckFailed("\n\n".join(failures))
    print(f"all {len(names)} gradients agree with finite differences")


class CheckFailed(Exception):
    """A check found a fault: exit code 1."""
