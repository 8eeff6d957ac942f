"""Conditional VAEs: given a constant condition the VAE; labels that arrive; completion against its parts."""

import numpy
import pytest
from anywhere import np

from minivae import InputError, Tensor, checkpoint, cli, manual_seed, models
from minivae.data import Batches, Dataset, Labelled, Split
from minivae.models.cvae import quadrants_mask
from minivae.train import Options, Trainer, evaluate

SHAPE = (1, 4, 4)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).random((n, *SHAPE), dtype=np.float32)


def small(**arguments) -> models.CVAE:
    manual_seed(0)
    return models.cvae(SHAPE, hidden=(6,), latent=3, **{"classes": 3} | arguments)


def labelled_data(n: int = 60) -> Dataset:
    """Images that are bright where their class says, and noise."""
    rng = numpy.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    pictures = rng.integers(0, 60, (n, *SHAPE))
    pictures[numpy.arange(n), 0, labels] += 190
    split = Split(pictures.astype(numpy.uint8), labels)
    return Dataset("bars", split, split[:20], ("a", "b", "c"))


@pytest.mark.parametrize("arch", ["dense", "conv"])
def test_with_a_constant_condition_it_is_the_vae(arch):
    """The one class that all are of adds a constant to the first layer of each network: a bias."""
    channels = {"channels": (2,)} if arch == "conv" else {}
    x = images(5)
    conditional = small(classes=1, arch=arch, **channels)
    plain = models.vae(SHAPE, hidden=(6,), latent=3, arch=arch, **channels)
    state = conditional.state_dict()
    if arch == "dense":  # the last column is that of the class
        state["encoder.1.bias"] += state["encoder.1.weight"][:, -1]
        state["encoder.1.weight"] = state["encoder.1.weight"][:, :-1]
    else:  # a plane of ones, beside whose border are zeros: taken out instead
        conditional.encoder[0].weight.data[:, 1:] = 0
        state["encoder.0.weight"] = state["encoder.0.weight"][:, :1]
    state["decoder.0.bias"] += state["decoder.0.weight"][:, -1]
    state["decoder.0.weight"] = state["decoder.0.weight"][:, :-1]
    plain.load_state_dict(state)
    given = Labelled(x, np.zeros(5, dtype=np.int64))
    rng = [np.random.default_rng(1) for _ in range(4)]
    assert conditional.loss(given, rng[0]).total.item() == pytest.approx(plain.loss(x, rng[1]).total.item(), rel=1e-5)
    np.testing.assert_allclose(conditional.nll_bound(given, 9, rng[2]), plain.nll_bound(x, 9, rng[3]), rtol=1e-5)
    np.testing.assert_allclose(conditional.reconstruct(given), plain.reconstruct(x), rtol=1e-5)


def test_each_sample_keeps_the_label_of_its_image():
    """Of several codes for each image, every one is decoded with that image's class."""
    model, x, labels = small(), images(2), np.array([0, 2])
    z = np.random.default_rng(2).standard_normal((4, 2, 3)).astype(np.float32)
    both = model.given(labels).nll(Tensor(z), x).data
    for i in range(2):
        alone = model.given(labels[i : i + 1]).nll(Tensor(z[:, i : i + 1]), x[i : i + 1]).data
        np.testing.assert_allclose(both[:, i], alone[:, 0], rtol=1e-5)


def test_training_resuming_and_evaluation_are_told_the_labels(tmp_path):
    data = labelled_data()
    arguments = models.arguments("cvae", shape=SHAPE, classes=3, hidden=(16,), latent=2)
    manual_seed(0)
    trainer = Trainer(models.build("cvae", **arguments), data, Options(epochs=40, lr=1e-2), ("cvae", arguments))
    trainer.run(tmp_path)
    right = evaluate(trainer.model, data.test, samples=5)
    wrong = Split(data.test.images, (data.test.labels + 1) % 3)
    assert evaluate(trainer.model, wrong, samples=5)["loss"] > right["loss"] + 1
    assert right["nll"] < right["loss"]
    drawn = trainer.model.sample(30, np.random.default_rng(0))[:, 0].mean(axis=-1)  # the brightness of each row
    assert (drawn.argmax(axis=1) == np.arange(30) % 3).mean() > 0.9
    model, _ = checkpoint.load_model(tmp_path / "model.npz")
    x = Labelled(np.asarray(data.test.images / 255, dtype=np.float32), np.asarray(data.test.labels))
    np.testing.assert_allclose(model.encode(x), trainer.model.encode(x))


def test_labels_go_with_their_images():
    data = labelled_data().train
    seen = {}
    for batch in Batches(data, 7, seed=3, labels=True).epoch(2):
        seen |= {image.tobytes(): label for image, label in zip(batch.images, batch.labels, strict=True)}
    floats = (data.images / numpy.float32(255)).astype(numpy.float32)
    assert len(seen) == 60
    assert all(seen[image.tobytes()] == label for image, label in zip(floats, data.labels, strict=True))
    with pytest.raises(InputError, match="no labels"):
        Batches(Split(data.images), 7, labels=True)


def test_the_command_line_samples_a_class(tmp_path, capsys):
    run = tmp_path / "run"
    data = tmp_path / "data.npz"
    split = labelled_data().train
    numpy.savez(data, images=split.images[:, 0], labels=split.labels)
    assert cli.main(["train", "cvae", "--data", str(data), "--out", str(run), "--epochs", "1", "--latent", "2"]) == 0
    for command in (["sample", "--label", "1"], ["reconstruct"], ["evaluate", "--samples", "2"], ["encode"]):
        assert cli.main([command[0], str(run), *command[1:]]) == 0, command
    assert cli.main(["sample", str(run), "--label", "7"]) == 2
    assert "no class 7" in capsys.readouterr().err
    assert cli.main(["traverse", str(run)]) == 2
    assert cli.main(["train", "--resume", str(run), "--epochs", "2"]) == 0


# completion


def completion(seen: int = 1) -> models.Completion:
    manual_seed(0)
    return models.completion(SHAPE, seen, hidden=(8,), latent=2)


def test_the_quadrants_are_those_of_the_paper():
    parts = {"upper left": (0, 0), "upper right": (0, 3), "lower left": (3, 0), "lower right": (3, 3)}
    seen = {n: {name for name, at in parts.items() if quadrants_mask(SHAPE, n)[at]} for n in (1, 2, 3)}
    assert seen == {
        1: {"lower left"},
        2: {"lower left", "upper left"},
        3: {"lower left", "upper left", "upper right"},
    }
    assert [float(quadrants_mask(SHAPE, n).mean()) for n in (1, 2, 3)] == [0.25, 0.5, 0.75]


def test_what_is_hidden_changes_neither_the_guess_nor_the_prior_and_what_is_seen_is_not_scored():
    model, x = completion(2), images(3)
    other = np.where(model.seen > 0, x, 1 - x)
    np.testing.assert_allclose(model.guess(x).data, model.guess(other).data)
    priors = [model.conditional_prior(image, model.guess(image)) for image in (x, other)]
    for a, b in zip(*priors, strict=True):
        np.testing.assert_allclose(a.data, b.data)
    z = Tensor(np.zeros((3, 2), dtype=np.float32))
    changed = np.where(model.seen > 0, 1 - x, x)
    np.testing.assert_allclose(model.nll(z, x).data, model.nll(z, changed).data)
    assert (np.abs(model.nll(z, x).data - model.nll(z, other).data) > 1e-3).all()


def test_the_baseline_learns_from_its_own_term_alone():
    model, x = completion(), images(3)
    model.loss(x, np.random.default_rng(0)).total.backward()
    found = [p.grad.copy() for p in model.baseline.parameters()]
    for p in model.parameters():
        p.grad = None
    model.loss(x, np.random.default_rng(0)).terms["baseline"].backward()
    for g, p in zip(found, model.baseline.parameters(), strict=True):
        np.testing.assert_allclose(g, p.grad, rtol=1e-6)
    assert all(p.grad is None for p in model.encoder.parameters())


def test_the_loss_of_a_completion_is_its_bound_of_one_sample_in_the_mean():
    model, x = completion(), images(3)
    losses = [model.loss(x, np.random.default_rng(i)).terms for i in range(300)]
    elbo = sum((t["reconstruction"] + t["kl"]).item() for t in losses) / 300
    bounds = np.stack([model.nll_bound(x, 1, np.random.default_rng(1000 + i)) for i in range(300)]).mean(axis=1)
    assert elbo == pytest.approx(float(bounds.mean()), abs=5 * float(bounds.std()) / 300**0.5 + 1e-3)
    tight = model.nll_bound(x, 500, np.random.default_rng(0)).mean()
    assert tight < elbo


def test_a_completion_keeps_what_is_seen():
    model, x = completion(3), images(3)
    for filled in (model.complete(x, np.random.default_rng(0)), model.reconstruct(x)):
        np.testing.assert_allclose(filled * model.seen, x * model.seen)
        assert filled.shape == x.shape


@pytest.mark.parametrize("seen", [0, 4])
def test_wrong_quadrants_are_one_sentence(seen):
    with pytest.raises(InputError, match="quadrants"):
        models.completion(SHAPE, seen)


def test_a_completion_is_trained_from_the_command_line(tmp_path, capsys):
    data = tmp_path / "data.npy"
    numpy.save(data, labelled_data().train.images[:, 0])
    run = str(tmp_path / "run")
    options = ["--quadrants", "2", "--epochs", "1", "--hidden", "8", "--latent", "2"]
    assert cli.main(["train", "completion", "--data", str(data), "--out", run, *options]) == 0
    assert cli.main(["reconstruct", run]) == 0
    assert cli.main(["evaluate", run, "--samples", "2"]) == 0
    assert cli.main(["sample", run]) == 2
    assert "completion" in capsys.readouterr().err
