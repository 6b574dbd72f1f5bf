"""CS231n's update rules: rule(w, dw, config=None) -> (next_w, config).

w: the weights, of any shape; dw: the gradient to them. config holds the rule's settings and, from step to step, what it has to
remember; missing entries get the defaults below, and None stands for an empty config. config is changed and returned; w and dw are
left as they are. A setting that is a NumPy float64, as random searches draw them, does not widen float32 weights.
"""

from typing import Any

import numpy as np

__all__ = ["adam", "nesterov_momentum", "rmsprop", "sgd", "sgd_momentum"]

Config = dict[str, Any]


def sgd(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """next_w = w - learning_rate * dw. config: learning_rate (1e-2)."""
    config = _filled(config, learning_rate=1e-2)
    return w - float(config["learning_rate"]) * dw, config


def sgd_momentum(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """velocity = momentum * velocity - learning_rate * dw, next_w = w + velocity.

    config: learning_rate (1e-2), momentum (0.9), velocity (zeros).
    """
    velocity, config = _next_velocity(w, dw, config)
    return w + velocity, config


def nesterov_momentum(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """The velocity of sgd_momentum, looked ahead along: next_w = w + (1 + momentum) * velocity - momentum * the velocity before.

    w is kept where the next gradient is wanted, one velocity ahead of the weights (Nesterov, 1983; in this form Bengio et al., 2012).
    config: learning_rate (1e-2), momentum (0.9), velocity (zeros).
    """
    before = (config or {}).get("velocity")
    velocity, config = _next_velocity(w, dw, config)
    momentum = float(config["momentum"])
    next_w = w + (1 + momentum) * velocity
    return next_w if before is None else next_w - momentum * before, config


def rmsprop(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """cache = decay_rate * cache + (1 - decay_rate) * dw**2, next_w = w - learning_rate * dw / (sqrt(cache) + epsilon) (Hinton, 2012).

    config: learning_rate (1e-2), decay_rate (0.99), epsilon (1e-8), cache (zeros).
    """
    config = _filled(config, learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8)
    decay_rate = float(config["decay_rate"])
    cache = config["cache"] = decay_rate * config.get("cache", np.zeros_like(w)) + (1 - decay_rate) * (dw * dw)
    return w - float(config["learning_rate"]) * dw / (np.sqrt(cache) + float(config["epsilon"])), config


def adam(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """Averages m of dw and v of dw**2, each divided by what it lacks in the first steps t (Kingma and Ba, 2015).

        next_w = w - learning_rate * m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + epsilon)

    config: learning_rate (1e-3), beta1 (0.9), beta2 (0.999), epsilon (1e-8), m and v (zeros), t (0; counted up before it is used).
    """
    config = _filled(config, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, t=0)
    beta1, beta2 = float(config["beta1"]), float(config["beta2"])
    t = config["t"] = config["t"] + 1
    m = config["m"] = beta1 * config.get("m", np.zeros_like(w)) + (1 - beta1) * dw
    v = config["v"] = beta2 * config.get("v", np.zeros_like(w)) + (1 - beta2) * (dw * dw)
    rate = float(config["learning_rate"]) / (1 - beta1**t)
    return w - rate * m / (np.sqrt(v / (1 - beta2**t)) + float(config["epsilon"])), config


def _filled(config: Config | None, **defaults: Any) -> Config:
    """config with the defaults of what it lacks."""
    config = {} if config is None else config
    for name, value in defaults.items():
        config.setdefault(name, value)
    return config


def _next_velocity(w: np.ndarray, dw: np.ndarray, config: Config | None) -> tuple[np.ndarray, Config]:
    config = _filled(config, learning_rate=1e-2, momentum=0.9)
    velocity = float(config["momentum"]) * config.get("velocity", np.zeros_like(w)) - float(config["learning_rate"]) * dw
    config["velocity"] = velocity
    return velocity, config
