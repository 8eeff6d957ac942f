"""Few labels, many images: what is learnt without labels makes those that one has go further.

    python demos/05_few_labels.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    1. pretrain, without labels   each layer is a denoising autoencoder of the codes below it   [Vincent et al. 2010]
    2. fine-tune, with few        encoder + a linear layer, by the cross-entropy -log softmax(logits)[label]

Against the same network trained from scratch, with 100 labels, over 5 seeds: other images, labels and weights each.
Then encoders stay as they are, and only a linear layer, or the nearest neighbour, learns from the labels.
"""

import contextlib
import io

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import backend, metrics, models, nn, ops, optim
from minivae.data import Batches, Dataset, Split
from minivae.models.corruption import masking
from minivae.plots import COLOURS
from minivae.train import Options, Trainer

SIZES = (10, 30, 100, 300, 1000)
SEEDS = range(5)


def fit(model, x, epochs):
    """Train on arrays, in silence."""
    with contextlib.redirect_stdout(io.StringIO()):
        Trainer(model, Dataset("", Split(x), Split(x[:100])), Options(epochs=epochs)).run()
    return model


def network(n, widths=(500, 250)):
    """The layers of an encoder of n pixels, each with the decoder that teaches it."""
    first = nn.Sequential(nn.Flatten(), nn.Linear(n, widths[0]), nn.ReLU()), nn.Linear(widths[0], n)
    second = nn.Sequential(nn.Linear(*widths), nn.ReLU()), nn.Linear(*widths[::-1])
    return [models.Autoencoder(*layer, masking(0.6)) for layer in (first, second)]


def fine_tune(encoder, x, labels, steps=100):
    """Encoder and head learn together from a few labelled images."""
    classifier = nn.Sequential(encoder, nn.Linear(250, 10))
    adam = optim.Adam(classifier.parameters(), lr=1e-3)
    for _ in range(steps):
        adam.zero_grad()
        ops.cross_entropy(classifier(x), labels).mean().backward()
        adam.step()
    return lambda test: classifier(test).data.argmax(axis=1)


def chosen(labels, n, seed):
    """The indices of n images, as many of each class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.concatenate([order[labels[order] == c][: n // 10] for c in range(10)])


def main(dataset, epochs, path):
    x, test = (next(Batches(s, len(s), shuffle=False).epoch(0)) for s in (dataset.train, dataset.test))
    y, test_y = dataset.train.labels, dataset.test.labels
    flat, flat_test = x.reshape(len(x), -1), test.reshape(len(test), -1)

    scores = {"from scratch": [], "pretrained": []}
    print("100 labels, test accuracy", *[f"{name:>14}" for name in scores])
    for seed in SEEDS:
        backend.manual_seed(seed)
        scratch = nn.Sequential(*[layer.encoder for layer in network(flat.shape[1])])
        stacked = models.stack(network(flat.shape[1]), flat, lambda layer, codes: fit(layer, codes, epochs)).encoder
        few = chosen(y, 100, seed)
        for values, encoder in zip(scores.values(), (scratch, stacked), strict=True):
            values.append(np.mean(fine_tune(encoder, flat[few], y[few])(flat_test) == test_y))
        print(f"    seed {seed:<16}", *[f"{values[-1]:14.1%}" for values in scores.values()])
    print(f"    {'mean':21}", *[f"{np.mean(values):14.1%}" for values in scores.values()])

    backend.manual_seed(0)
    codes = {"pixels": (x, test)}
    for name in ("ae", "vae"):
        model = fit(models.build(name, shape=dataset.shape, hidden=(256,), latent=32), x, epochs)
        codes[f"{name.upper()} codes"] = model.encode(x), model.encode(test)
    measures = {"linear probe": metrics.linear_probe, "nearest neighbour": metrics.nearest_neighbour_accuracy}
    sizes = [n for n in SIZES if n <= len(x) // 2]
    subsets = [[chosen(y, n, seed) for seed in range(3)] for n in sizes]
    curves = {}
    print("\ntest accuracy by labels          " + "".join(f"{n:8}" for n in sizes))
    for way, measure in measures.items():
        for name, (a, b) in codes.items():
            row = [np.mean([measure(a[i], y[i], b, test_y) for i in draws]) for draws in subsets]
            curves[way, name] = row
            print(f"    {way:17} {name:10} " + "".join(f"{value:8.1%}" for value in row))
    draw(scores, sizes, curves, path)
    print(f"\nAccuracy against labels: {path}")


def draw(scores, sizes, curves, path):
    figure = Figure((12.5, 5), dpi=150, layout="constrained")
    figure.suptitle("100 labels: an AE's codes help a linear probe, pretraining a network a little", fontsize=15)
    panels = figure.subplots(1, 3, sharey=True)
    for seed, pair in enumerate(zip(*scores.values(), strict=True)):
        panels[0].plot([0, 1], pair, "o-", color=COLOURS[seed], label=f"seed {seed}")
    means = [np.mean(values) for values in scores.values()]
    panels[0].set_xticks([0, 1], [f"{name}\nmean {mean:.1%}" for name, mean in zip(scores, means, strict=True)])
    panels[0].set(title="A network and 100 labels", ylabel="test accuracy", xlim=(-0.4, 1.4))
    for axes, way in zip(panels[1:], ("linear probe", "nearest neighbour"), strict=True):
        for i, name in enumerate(("pixels", "AE codes", "VAE codes")):
            axes.semilogx(sizes, curves[way, name], ("o-", "s--", "^-.")[i], color=COLOURS[i], label=name)
        axes.set_xticks(sizes, [str(n) for n in sizes])
        axes.minorticks_off()
        axes.set(title=f"Fixed codes, {way}", xlabel="labels (mean of 3 draws)")
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=3000, epochs=15)
