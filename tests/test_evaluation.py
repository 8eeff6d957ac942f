"""What looks at data does so in the evaluation mode, whatever the mode is, and leaves the mode as it was."""

import pytest
from anywhere import np

from minivae import backend, manual_seed, models, nn
from minivae.data import Split
from minivae.models.vae import VAE
from minivae.train import evaluate

SHAPE = (1, 8, 8)


def vae() -> VAE:
    """With layers whose modes differ."""
    encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm(64), nn.Linear(64, 9), nn.Dropout(0.5), nn.Linear(9, 6))
    return VAE(encoder, nn.Sequential(nn.Linear(3, 64), nn.Dropout(0.5), nn.Unflatten(SHAPE)), 3)


def autoencoder() -> models.Autoencoder:
    return models.Autoencoder(vae().encoder, nn.Sequential(nn.Linear(6, 64), nn.Dropout(0.5), nn.Unflatten(SHAPE)))


def vqvae() -> models.VQVAE:
    model = models.vqvae(SHAPE, codes=8, dim=4, channels=(4,))
    model.encoder.layers.insert(1, nn.BatchNorm(4))
    return model


def images(n: int):
    return np.random.default_rng(0).random((n, *SHAPE), dtype=np.float32)


def seeded() -> object:
    return backend.current().generator(3)


LOOKS = {
    "encode": lambda model: model.encode(images(5)),
    "decode": lambda model: model.decode(model.encode(images(5))),
    "reconstruct": lambda model: model.reconstruct(images(5)),
    "scores": lambda model: model.scores(images(5), seeded())["reconstruction"],
    "sample": lambda model: model.sample(5, seeded()),
    "nll_bound": lambda model: model.nll_bound(images(5), 4, seeded()),
    "evaluate": lambda model: np.array(evaluate(model, Split(backend.to_numpy(images(9))))["loss"]),
}


@pytest.mark.parametrize(
    ("build", "look"),
    [
        (build, look)
        for build in (vae, autoencoder, vqvae)
        for look in LOOKS
        if build is vae or look not in ("sample", "nll_bound")  # the others have none
    ],
)
def test_the_mode_of_what_looks_is_that_of_evaluation(build, look):
    manual_seed(0)
    model = build()
    model.loss(images(20))  # in training: running statistics move
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm))
    frozen.training = False  # on purpose, as in fine-tuning
    before, modes = model.state_dict(), [module.training for module in model.modules()]
    found = LOOKS[look](model)
    assert [module.training for module in model.modules()] == modes and model.training and not frozen.training
    assert all((a == model.state_dict()[name]).all() for name, a in before.items())
    model.eval()
    np.testing.assert_array_equal(found, LOOKS[look](model))


def test_an_error_leaves_the_mode_too():
    model = vae()
    with pytest.raises(ValueError, match="shape"):
        model.encode(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError):
        evaluate(model, Split(backend.to_numpy(np.ones((4, 1, 3, 3), np.float32))))
    assert all(module.training for module in model.modules())
