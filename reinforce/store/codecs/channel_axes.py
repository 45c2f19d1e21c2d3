"""The directions in which channels vary together: what transforms of rows and of maps share.

B = rows (or cells), C = channels, K = directions. Classes of logits are weighted by a power of their mean probability,
and a row's constant is left out; dimensions of features count alike, and all of a feature is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ChannelAxes:
    """Eigenvectors of the weighted covariance of centred rows, the largest first."""

    weights: NDArray[np.float64]
    """(C,)"""
    mean: NDArray[np.float64]
    """(C,)"""
    stds: NDArray[np.float64]
    """(C,) along each direction"""
    vectors: NDArray[np.float64]
    """(C, C), each row a direction: coefficients @ vectors + mean are the channels"""

    @classmethod
    def of_logits(cls, logits_BC: NDArray[np.float32], temperature: float, power: float) -> ChannelAxes:
        flat = logits_BC.astype(np.float64)
        weights = class_weights(flat / temperature, power)
        flat -= (flat @ (weights / weights.sum()))[:, None]
        return cls._of(flat, weights)

    @classmethod
    def of_features(cls, features_BC: NDArray[np.float32]) -> ChannelAxes:
        return cls._of(features_BC.astype(np.float64), np.ones(features_BC.shape[-1]))

    @classmethod
    def _of(cls, flat: NDArray[np.float64], weights: NDArray[np.float64]) -> ChannelAxes:
        mean = flat.mean(axis=0)
        flat -= mean
        flat *= np.sqrt(weights)
        variances, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
        return cls(weights, mean, np.sqrt(np.maximum(variances[::-1], 0)), vectors[:, ::-1].T / np.sqrt(weights))


def class_weights(logits_BC: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """(C,) the mean probability of each class to a power, mean 1; no class is below a thousandth."""
    p = np.exp(logits_BC - logits_BC.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    weights = p.mean(axis=0) ** power
    weights = np.maximum(weights / weights.mean(), 1e-3)
    return np.asarray(weights / weights.mean())


def centred(rows: NDArray[np.float32], weights_C: NDArray[np.float32], *, absolute: bool) -> NDArray[np.float64]:
    """(..., C) less each row's weighted mean, which softmax does not see; or, where rows are absolute, as it is."""
    values = rows.astype(np.float64)
    if absolute:
        return values
    share = weights_C.astype(np.float64) / weights_C.sum(dtype=np.float64)
    values -= (values @ share)[..., None]
    return values


def least_squares(decoder_KC: NDArray[np.float32], weights_C: NDArray[np.float32]) -> NDArray[np.float64]:
    """(C, K) logits -> coefficients of the least weighted error with the decoder as it is stored: W D^T (D W D^T)^-1.

    In float64: an order of sums hardly ever decides a digit.
    """
    decoder = decoder_KC.astype(np.float64)
    weighted = decoder * weights_C
    return np.asarray(np.linalg.solve(weighted @ decoder.T, weighted).T, np.float64)
