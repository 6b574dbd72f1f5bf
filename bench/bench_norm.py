"""Batch normalisation and its gradients, training and not: plain loops, NumPy (the equations on whole arrays) and fastconv."""
from __future__ import annotations

import fastconv
import naive
from bench.harness import fast, plain
from fastconv.report import truth

_FORWARD = {"naive": plain(naive.batch_norm), "numpy": plain(truth.batch_norm), "fastconv": fast(fastconv.batch_norm, out=True)}
_BACKWARD = {
    "naive": plain(naive.batch_norm_backward),
    "numpy": plain(truth.batch_norm_backward),
    "fastconv": fast(fastconv.batch_norm_backward, out=False),
}
CONTENDERS = {
    "batch_norm_training": _FORWARD,
    "batch_norm_training_backward": _BACKWARD,
    "batch_norm_eval": _FORWARD,
    "batch_norm_eval_backward": _BACKWARD,
}


def test_batch_norm_training(race):
    race()


def test_batch_norm_training_backward(race):
    race()


def test_batch_norm_eval(race):
    race()


def test_batch_norm_eval_backward(race):
    race()
