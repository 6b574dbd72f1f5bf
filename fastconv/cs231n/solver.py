"""CS231n's Solver: trains a model by small batches, watches its accuracy, keeps the best weights, and saves what it needs to go on."""

import contextlib
import copy
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import checkpoint, optim
from .progress import bar

__all__ = ["Solver"]

SETTINGS = ("lr_decay", "optim_config", "batch_size", "num_train_samples", "num_val_samples")  # saved, as they change what is trained
HISTORIES = ("loss_history", "train_acc_history", "val_acc_history")
ATTRIBUTES = (*SETTINGS, *HISTORIES, "epoch", "best_val_acc", "best_params", "optim_configs")
OTHERS = ("model", "params", "bn_params", "best_bn_params", "update_rule", "steps_done", "random")  # in a checkpoint


class Solver:
    """Trains a model on data.

    model: has `params`, a dictionary of arrays, and loss(X, y=None): the loss and a dictionary of gradients, or without y the scores.
        bn_params, where there are any, are saved and kept with the best weights.
    data: 'X_train', 'y_train', 'X_val' and 'y_val': arrays, examples first.

    Keyword arguments, and attributes of the same names:
    update_rule ('sgd'): a rule of `optim`, by name. optim_config ({}): its settings. lr_decay (1.0): what the learning rate is
        multiplied with after each epoch.
    batch_size (100), num_epochs (10): an epoch has len(X_train) // batch_size steps, at least one, on batches drawn with replacement
        by NumPy's own generator.
    num_train_samples (1000), num_val_samples (None): how many examples accuracies are measured on; None: all.
    checkpoint_name (None): save to checkpoint_name + '_epoch_E.npz' whenever accuracies are measured. Such a file is written whole or
        not at all, and reading it runs no code. `resume` goes on from it as if nothing had happened.
    print_every (10): steps between two printed losses; 0: none. verbose (True): print at all, and show a bar in a terminal.

    Attributes after `train`: loss_history, one number a step; train_acc_history and val_acc_history, after the first step, each epoch
    and the last step; epoch; best_val_acc and best_params, which are the model's params then.
    """

    def __init__(self, model: Any, data: dict[str, np.ndarray], **kwargs: Any) -> None:
        self.model = model
        self.X_train, self.y_train, self.X_val, self.y_val = (data[key] for key in ("X_train", "y_train", "X_val", "y_val"))
        rule = kwargs.pop("update_rule", "sgd")
        self.optim_config = kwargs.pop("optim_config", {})
        self.lr_decay = kwargs.pop("lr_decay", 1.0)
        self.batch_size = kwargs.pop("batch_size", 100)
        self.num_epochs = kwargs.pop("num_epochs", 10)
        self.num_train_samples = kwargs.pop("num_train_samples", 1000)
        self.num_val_samples = kwargs.pop("num_val_samples", None)
        self.checkpoint_name = kwargs.pop("checkpoint_name", None)
        self.print_every = kwargs.pop("print_every", 10)
        self.verbose = kwargs.pop("verbose", True)
        if kwargs:
            raise ValueError(f"Solver does not know {', '.join(map(repr, kwargs))}")
        self.update_rule = _rule(rule)
        self._reset()

    def _reset(self) -> None:
        """Forget all training but the model's weights."""
        self.epoch = 0
        self.best_val_acc = 0
        self.best_params: dict[str, np.ndarray] = {}
        self._best_bn_params: list[dict[str, Any]] = []
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []
        self.optim_configs = {name: dict(self.optim_config) for name in self.model.params}
        self._steps_done = 0  # of the present run of train()

    def train(self) -> None:
        """Train for num_epochs, or for what a resumed run has left of them; then give the model the best weights there were."""
        steps_per_epoch = max(len(self.X_train) // self.batch_size, 1)
        steps = self.num_epochs * steps_per_epoch
        with bar("training", steps) if self.verbose else contextlib.nullcontext(lambda text: None) as show:
            for _ in range(self._steps_done):
                show("")
            for t in range(self._steps_done, steps):
                show(f"epoch {self.epoch + 1}, validation accuracy {self.val_acc_history[-1]:.3f}" if self.val_acc_history else "epoch 1")
                self._step()
                self._steps_done += 1
                if self.verbose and self.print_every and t % self.print_every == 0:
                    print(f"(Iteration {t + 1} / {steps}) loss: {self.loss_history[-1]:f}")
                epoch_ends = (t + 1) % steps_per_epoch == 0
                if epoch_ends:
                    self.epoch += 1
                    for config in self.optim_configs.values():
                        config["learning_rate"] *= self.lr_decay
                if epoch_ends or t in (0, steps - 1):
                    self._measure()
        self._steps_done = 0
        if self.best_params:
            self.model.params = self.best_params
            for param, best in zip(getattr(self.model, "bn_params", ()), self._best_bn_params):
                param.update(best)

    def _step(self) -> None:
        """One update, from one batch."""
        batch = np.random.choice(len(self.X_train), self.batch_size)
        loss, gradients = self.model.loss(self.X_train[batch], self.y_train[batch])
        self.loss_history.append(float(loss))
        for name, w in self.model.params.items():
            self.model.params[name], self.optim_configs[name] = self.update_rule(w, gradients[name], self.optim_configs[name])

    def _measure(self) -> None:
        """Accuracies, best weights, checkpoint."""
        train_acc = self.check_accuracy(self.X_train, self.y_train, num_samples=self.num_train_samples)
        val_acc = self.check_accuracy(self.X_val, self.y_val, num_samples=self.num_val_samples)
        self.train_acc_history.append(train_acc)
        self.val_acc_history.append(val_acc)
        if self.verbose:
            self._report()
        if val_acc > self.best_val_acc:
            self.best_val_acc = val_acc
            self.best_params = {name: w.copy() for name, w in self.model.params.items()}
            self._best_bn_params = copy.deepcopy(getattr(self.model, "bn_params", []))
        self._save_checkpoint()

    def _report(self) -> None:
        """Print the last accuracies."""
        train_acc, val_acc = self.train_acc_history[-1], self.val_acc_history[-1]
        print(f"(Epoch {self.epoch} / {self.num_epochs}) train acc: {train_acc:f}; val_acc: {val_acc:f}")

    def check_accuracy(self, X: np.ndarray, y: np.ndarray, num_samples: int | None = None, batch_size: int = 100) -> float:
        """The share of X whose highest score is that of its label in y; of num_samples examples drawn with replacement, if there are more.

        The model sees batch_size examples at a time. NaN where X is empty.
        """
        if num_samples is not None and len(X) > num_samples:
            chosen = np.random.choice(len(X), num_samples)
            X, y = X[chosen], y[chosen]
        starts = range(0, len(X), batch_size)
        right = sum(np.count_nonzero(np.argmax(self.model.loss(X[i : i + batch_size]), axis=1) == y[i : i + batch_size]) for i in starts)
        return float(right / len(X)) if len(X) else float("nan")

    def _save_checkpoint(self) -> None:
        if self.checkpoint_name is None:
            return
        path = f"{self.checkpoint_name}_epoch_{self.epoch}.npz"
        if self.verbose:
            print(f'Saving checkpoint to "{path}"')
        self.save_checkpoint(path)

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write what `resume` needs to path, whole or not at all."""
        state = {name: getattr(self, name) for name in ATTRIBUTES}
        state |= {
            "model": type(self.model).__name__,
            "params": self.model.params,
            "bn_params": getattr(self.model, "bn_params", []),
            "best_bn_params": self._best_bn_params,
            "update_rule": self.update_rule.__name__,
            "steps_done": self._steps_done,
            "random": np.random.get_state(legacy=False),
        }
        checkpoint.save(path, state)

    def resume(self, path: str | os.PathLike[str] | None = None) -> None:
        """Take up the training that a checkpoint was saved from: the next `train` gives bit for bit what the uninterrupted one gives.

        path: the checkpoint; None stands for the one of checkpoint_name with the highest epoch. Weights, settings, histories and the
        state of NumPy's generator are taken from it; model, data, num_epochs and what is printed are this Solver's.
        FileNotFoundError: there is none. ValueError: it is damaged, of another kind, or another model's.
        """
        path = self._newest() if path is None else path
        state = checkpoint.load(path, (*ATTRIBUTES, *OTHERS))
        if state["model"] != type(self.model).__name__:
            raise ValueError(f"{path} holds a {state['model']}; wanted: a {type(self.model).__name__}")
        checkpoint.check_weights(path, state, self.model)
        for name in ATTRIBUTES:
            setattr(self, name, state[name])
        self.update_rule = _rule(state["update_rule"])
        self.model.params = state["params"]
        for param, saved in zip(getattr(self.model, "bn_params", ()), state["bn_params"]):
            param.clear()
            param.update(saved)
        self._best_bn_params = state["best_bn_params"]
        self._steps_done = state["steps_done"]
        np.random.set_state(state["random"])

    def _newest(self) -> Path:
        if self.checkpoint_name is None:
            raise ValueError("resume needs a path, as this Solver has no checkpoint_name")
        name = Path(self.checkpoint_name)
        found = {int(m[1]): p for p in name.parent.glob("*.npz") if (m := re.fullmatch(re.escape(name.name) + r"_epoch_(\d+)\.npz", p.name))}
        if not found:
            raise FileNotFoundError(f"there is no {name}_epoch_*.npz")
        return found[max(found)]


def _rule(name: str) -> Callable[..., Any]:
    if name not in optim.__all__:
        raise ValueError(f"update_rule is {name!r}; wanted: one of {', '.join(optim.__all__)}")
    return getattr(optim, name)
