"""What the reparameterisation buys: gradients through a sample, of little variance.

    python demos/09_reparameterisation.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

The gradient of E_q[f(z)], f(z) = -log p(x | z), with respect to the mean of q = N(mu, sigma^2), by one z:

    score function  (f(z) - baseline) d log q(z) / d mu        [Williams 1992, REINFORCE]
    pathwise        d f(mu + sigma eps) / d mu                 [Kingma & Welling 2014, section 2.4]

Both are right in the mean. The score function sees how good a z is, not which way is better: its variance is larger.
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import Tensor, backend, models
from minivae.data import Batches
from minivae.plots import COLOURS
from minivae.train import Options, Trainer

LATENT = 20


def gradients(model, x, samples):
    """By each estimator the gradient with respect to mu for one image x (1, C, H, W): (samples, latent)."""
    mean, logvar = model.posterior(x)
    sigma = np.exp(0.5 * logvar.data)
    mu = Tensor(np.repeat(mean.data, samples, axis=0), requires_grad=True)  # one for each sample: its own gradient
    eps = backend.current().generator(2).standard_normal(mu.shape, dtype=np.float32)
    loss = model.nll(mu + sigma * eps, x)  # (samples,)
    loss.sum().backward()
    f, score = loss.data[:, None], eps / sigma  # score: d log q(z) / d mu
    others = (f.sum() - f) / (samples - 1)  # the mean of f at the other samples: a baseline without bias
    return {"score function": f * score, "... with baseline": (f - others) * score, "pathwise": mu.grad}


def main(dataset, epochs, path):
    vae = models.build("vae", shape=dataset.shape, latent=LATENT, hidden=(200,))
    Trainer(vae, dataset, Options(epochs=epochs)).run()
    x = next(Batches(dataset.test, 1, shuffle=False).epoch(0))
    samples = gradients(vae, x, 20_000)
    variances = {name: float(g.var(axis=0).sum()) for name, g in samples.items()}
    print("\nThe gradient of -log p(x | z) with respect to mu_1, 20,000 samples, and the variance of one, all latents")
    for name, g in samples.items():
        print(f"  {name:18} {g[:, 0].mean():7.2f} +- {g[:, 0].std() / len(g) ** 0.5:4.2f} {variances[name]:12.1f}")
    g, h = samples["... with baseline"], samples["pathwise"]
    off = abs((g - h).mean(axis=0)) / (g - h).std(axis=0) * len(g) ** 0.5
    print(f"The means with baseline and pathwise agree: of {LATENT}, {(off < 2).sum()} within 2 standard errors.")
    ratios = [variances[name] / variances["pathwise"] for name in samples]
    print(f"Pathwise needs {ratios[0]:,.0f} times fewer samples ({ratios[1]:,.0f} times fewer than with the baseline).")
    draw(samples, ratios, path)
    print(f"\n{path}")


def draw(samples, ratios, path):
    figure = Figure((8, 5.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    ls = 2 ** np.arange(8)
    for (name, g), i, style in zip(samples.items(), (3, 1, 0), "s^o", strict=True):
        means = [g[: len(g) // n * n].reshape(-1, n, LATENT).mean(axis=1) for n in ls]
        axes.loglog(ls, [m.var(axis=0).sum() for m in means], f"{style}-", color=COLOURS[i], label=name)
    axes.set_title(f"The same gradient from {ratios[0]:,.0f} times fewer samples", fontsize=14)
    axes.set(xlabel="samples averaged", ylabel="variance of the gradient, summed over the latents")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=10_000, epochs=10)
