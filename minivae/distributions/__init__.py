"""Distributions: log_prob, sample, rsample, entropy, mean, variance, and kl.

q = Normal(mu, logvar)                            parameters are tensors; a batch is their broadcast shape
z, log_q = q.rsample_with_log_prob(rng=rng, axis=-1)
kl(q, Normal(0.0, 0.0), axis=-1).mean().backward()

distribution.py     what every distribution is
location_scale.py   Normal, LogNormal, Laplace, Logistic, Gumbel, Uniform, Exponential
gammas.py           Gamma, Beta, Dirichlet, StudentT: implicit reparameterisation
discrete.py         Bernoulli, Categorical
divergence.py       kl in closed form, estimate_kl
posterior.py        what a variational posterior is
"""

from minivae.distributions.discrete import Bernoulli, Categorical
from minivae.distributions.distribution import Distribution
from minivae.distributions.divergence import closed_form, estimate_kl, kl
from minivae.distributions.gammas import Beta, Dirichlet, Gamma, StudentT
from minivae.distributions.location_scale import Exponential, Gumbel, Laplace, Logistic, LogNormal, Normal, Uniform
from minivae.distributions.posterior import MeanField, Posterior

__all__ = [
    "Bernoulli", "Beta", "Categorical", "Dirichlet", "Distribution", "Exponential", "Gamma", "Gumbel", "Laplace",
    "LogNormal", "Logistic", "MeanField", "Normal", "Posterior", "StudentT", "Uniform", "closed_form", "estimate_kl",
    "kl",
]  # fmt: skip
