"""A textbook of experiments: each function trains what it is about, measures it, and returns a Finding.

    lab.py            what an experiment is given and what it returns
    autoencoders.py   linear, deep, convolutional, denoising, context, stacked; documents
    bounds.py         the VAE and its estimators, against closed forms and against each other
    betas.py          beta and its relatives; disentanglement
    posteriors.py     flows, hierarchies, conditions, a posterior that collapses
    factors.py        what each latent follows, by six measures
    games.py          WAE, GAN, VAE-GAN: samples, judged by classifiers
    codes.py          VQ-VAE, codebooks that collapse and their remedies
    priors.py         what codes cost: PixelCNN, VQ-VAE-2, files
    uses.py           outliers; what codes are good for
    sampling.py       samples of densities, and gradients through them
    paper.py          the papers' own setups, for a GPU

`python demos/results.py` runs them and makes the table.
"""

# The order of these imports is that of the table's rows
from experiments import autoencoders, bounds, betas, posteriors, factors, games, codes, priors, uses, sampling, paper  # noqa: I001
from experiments.lab import EXPERIMENTS, Experiment, Finding, Lab

__all__ = [
    "EXPERIMENTS", "Experiment", "Finding", "Lab", "autoencoders", "betas", "bounds", "codes", "factors", "games",
    "paper", "posteriors", "priors", "sampling", "uses",
]  # fmt: skip
