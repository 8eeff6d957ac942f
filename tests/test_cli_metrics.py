"""`minivae metrics`: its table, and its sentences for what cannot be measured."""

import numpy as np
import pytest

from minivae import backend, checkpoint, data, manual_seed, models
from minivae.cli import main
from minivae.data.sprites import sprites


def save(folder, name, source, side=64, **arguments):
    """A run whose model has seen nothing: its first weights."""
    given = models.arguments(name, shape=(1, side, side), **arguments)
    weights = {
        f"model.{key}": backend.to_numpy(value) for key, value in models.build(name, **given).state_dict().items()
    }
    folder.mkdir()
    header = {"model": name, "arguments": given, "data": source, "options": {"binarize": False}}
    checkpoint.save(folder / "model.npz", header, weights)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Runs on a few sprites and on images of the same shape of which nothing is known."""
    folder = tmp_path_factory.mktemp("metrics")
    np.savez(folder / "noise.npz", images=np.random.default_rng(0).integers(0, 256, (60, 64, 64), np.uint8))
    manual_seed(0)
    save(folder / "vae", "vae", "sprites", hidden=(8,), latent=3)
    save(folder / "one", "vae", "sprites", hidden=(8,), latent=1)
    save(folder / "ae", "ae", "sprites", hidden=(8,), latent=2)
    save(folder / "noise", "vae", str(folder / "noise.npz"), hidden=(8,), latent=2)
    save(folder / "small", "vae", str(folder / "noise.npz"), side=16, hidden=(8,), latent=2)
    save(folder / "vqvae", "vqvae", "sprites", codes=4, dim=2, channels=(2, 2, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data._NAMED, "sprites", lambda: sprites(train=10, test=400))
        yield folder


@pytest.mark.parametrize(("run", "more"), [("vae", []), ("ae", []), ("noise", ["--data", "sprites"])])
def test_the_table(places, run, more, capsys):
    assert main(["metrics", str(places / run), "--samples", "300", *more]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert "on sprites: 300 test images" in head
    values = {row[2:26].strip(): float(row[26:].split()[0]) for row in rows}
    assert list(values) == [
        "BetaVAE", "FactorVAE", "MIG", "DCI disentanglement", "DCI completeness", "DCI informativeness", "Modularity",
        "SAP", "active units", "linear probe of labels",
    ]  # fmt: skip
    active = values.pop("active units")
    assert 0 <= active <= 3 and active == int(active)
    assert all(0 <= value <= 1 for value in values.values())


def test_the_seed_draws_the_images(places, capsys):
    said = []
    for seed in ("0", "0", "1"):
        assert main(["metrics", str(places / "vae"), "--samples", "200", "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["noise"], "the factors of 'noise' are not known"),
        (["vae", "--data", "NOISE"], "the factors of 'noise' are not known"),
        (["small", "--data", "sprites"], "the images of 'sprites' have shape (1, 64, 64)"),
        (["vqvae"], "a VQVAE has codes that are whole numbers or maps"),
        (["one"], "dci was given codes (400, 1)"),
        (["nowhere"], ""),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(places, arguments, sentence, capsys):
    run, *rest = (str(places / "noise.npz") if a == "NOISE" else a for a in arguments)
    assert main(["metrics", str(places / run), *rest]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"minivae: {sentence}") and printed.err.count("\n") == 1 and not printed.out


def test_too_few_images_are_refused(places, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["metrics", str(places / "vae"), "--samples", "9"])
    assert stopped.value.code == 2
    assert "--samples: 9 is too small: give a whole number of at least 100" in capsys.readouterr().err
