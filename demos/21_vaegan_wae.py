"""What makes codes drawn at random decode to images? Four autoencoders, and what each asks of its codes.

    python demos/21_vaegan_wae.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    AE        nothing                                       squared error of pixels
    VAE       each code near N(0, I):  KL(q(z | x), p)      likelihood of pixels
    WAE       all codes together as N(0, I):  MMD(q(z), p)  squared error of pixels     [Tolstikhin et al. 2018]
    VAE-GAN   each code near N(0, I)                        error of a discriminator's features, which also judges
                                                            the images alone            [Larsen et al. 2016]

Each decodes the same draws from N(0, I). The MMD says how far all test codes are from that; a classifier trained on
the samples and tested on real images, how good they are. No model knows classes: one trained on images labels them.
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import backend, classifier, models
from minivae.data import Batches
from minivae.models.wae import mmd
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer

LATENT = 8


def main(dataset, epochs, path):
    shape, classes = dataset.shape, len(dataset.classes)
    x = next(Batches(dataset.test, 500, shuffle=False).epoch(0))
    judge = classifier.classifier(dataset.train, classes)
    print(f"A classifier of real images is right of {100 * classifier.accuracy(judge, dataset.test):.1f} % of others\n")
    makers = {
        "AE": (1e-3, lambda: models.wae(shape, latent=LATENT, penalty=0)),
        "VAE": (1e-3, lambda: models.vae(shape, hidden=(512, 256), latent=LATENT)),
        "WAE": (1e-3, lambda: models.wae(shape, latent=LATENT)),
        "VAE-GAN": (1e-3, lambda: models.vaegan(shape, arch="conv", hidden=(), channels=(16, 32), latent=LATENT)),
    }
    found = {}
    for name, (lr, make) in makers.items():
        print(name)
        backend.manual_seed(0)
        model = make()
        Trainer(model, dataset, Options(epochs, 64, lr=lr, lr_schedule="cosine")).run()
        model.eval()
        samples = np.clip(model.sample(2000, np.random.default_rng(1)), 0, 1)
        labels = classifier.labels_of(judge, samples)
        found[name] = {
            "samples": samples[:40],
            "reconstructions": np.clip(model.reconstruct(x[:10]), 0, 1),
            "codes": codes_of(model, x),
            "score": classifier.classification_accuracy_score(samples, labels, dataset.test, classes),
            "least": np.bincount(labels, minlength=classes).min() / len(labels),
        }
        drawn = np.random.default_rng(2).standard_normal((len(x), LATENT)).astype(np.float32)
        found[name]["mmd"] = mmd(found[name]["codes"], drawn).item()
        print(
            f"    MMD of the codes {found[name]['mmd']:.4f}, score of samples {100 * found[name]['score']:.1f} %, "
            f"rarest class {100 * found[name]['least']:.1f} %\n"
        )
    draw(found, x, path)
    print(path)


def codes_of(model, x):
    """A code for each image, (N, latent): drawn from q(z | x) where there is one, else the encoder's."""
    if not hasattr(model, "posterior"):
        return model.encode(x)
    mu, logvar = (t.data for t in model.posterior(x))
    return mu + np.exp(logvar / 2) * np.random.default_rng(3).standard_normal(mu.shape).astype(np.float32)


def draw(found, x, path):
    figure = Figure((13.5, 7.8), dpi=120, layout="constrained")
    figure.suptitle("Codes drawn from N(0, I), decoded: what four autoencoders make of them", fontsize=16)
    rows = figure.subplots(3, len(found), height_ratios=[0.66, 0.85, 1])
    for column, (name, f) in zip(rows.T, found.items(), strict=True):
        column[0].imshow(grid(f["samples"], 8), cmap="gray", vmin=0, vmax=1)
        column[0].set(title=f"{name}: samples, score {100 * f['score']:.0f} %", xticks=[], yticks=[])
        pairs = np.concatenate([x[:5], f["reconstructions"][:5], x[5:10], f["reconstructions"][5:]])
        column[1].imshow(grid(pairs, 5), cmap="gray", vmin=0, vmax=1)
        column[1].set(title="test images over reconstructions", xticks=[], yticks=[])
        z = f["codes"]
        column[2].scatter(z[:, 0], z[:, 1], s=5, color=COLOURS[0])
        for radius in (1, 2, 3):  # deviations of the prior
            angle = np.linspace(0, 2 * np.pi, 100)
            column[2].plot(radius * np.cos(angle), radius * np.sin(angle), color="0.6", lw=1)
        side = max(4, float(np.abs(z[:, :2]).max()))
        column[2].set(xlim=(-side, side), ylim=(-side, side), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
        column[2].set_title(f"codes of test images: MMD {f['mmd']:.4f}")
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=6000, epochs=10)
