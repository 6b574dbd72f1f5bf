"""The two-layer network of CS231n's first assignment, which trains itself."""

from typing import Any

import numpy as np

from ..dense import affine_forward, affine_input_gradient, affine_parameter_gradients, relu_backward, relu_forward
from ..losses import regularize, softmax_loss
from ..optim import sgd

__all__ = ["TwoLayerNet"]


class TwoLayerNet:
    """affine - ReLU - affine - softmax. params: W1 (D, H), b1 (H,), W2 (H, C), b2 (C,).

    input_size D, hidden_size H, output_size C; std: the standard deviation of the weights, drawn by NumPy's own generator.
    """

    def __init__(self, input_size: int, hidden_size: int, output_size: int, std: float = 1e-4) -> None:
        self.params = {
            "W1": std * np.random.randn(input_size, hidden_size),
            "b1": np.zeros(hidden_size),
            "W2": std * np.random.randn(hidden_size, output_size),
            "b2": np.zeros(output_size),
        }

    def loss(self, X: np.ndarray, y: np.ndarray | None = None, reg: float = 0.0) -> Any:
        """Scores (N, C) of X (N, D); with labels y (N,) the loss, and the gradients by name.

        loss = the mean softmax loss + reg * the sum of all squared W: without the half of the second assignment's networks.
        """
        W1, W2 = self.params["W1"], self.params["W2"]
        a, first = affine_forward(X, W1, self.params["b1"])
        hidden, _ = relu_forward(a)
        scores, second = affine_forward(hidden, W2, self.params["b2"])
        if y is None:
            return scores
        loss, dscores = softmax_loss(scores, y)
        dW2, db2 = affine_parameter_gradients(dscores, second)
        dW1, db1 = affine_parameter_gradients(relu_backward(affine_input_gradient(dscores, hidden, W2), a), first)
        loss += reg * (regularize(W1, dW1, 2 * reg) + regularize(W2, dW2, 2 * reg))
        return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}

    def train(
        self,
        X: np.ndarray,
        y: np.ndarray,
        X_val: np.ndarray,
        y_val: np.ndarray,
        learning_rate: float = 1e-3,
        learning_rate_decay: float = 0.95,
        reg: float = 5e-6,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
    ) -> dict[str, list[float]]:
        """num_iters steps of gradient descent, on batches drawn with replacement by NumPy's own generator.

        At the begin of each epoch of len(X) // batch_size steps, accuracies on the batch and on X_val are kept, and learning_rate is
        multiplied by its decay. Returns 'loss_history', 'train_acc_history' and 'val_acc_history'. verbose: print every 100th loss.
        """
        steps_per_epoch = max(len(X) // batch_size, 1)
        losses: list[float] = []
        train_accs: list[float] = []
        val_accs: list[float] = []
        for step in range(num_iters):
            batch = np.random.choice(len(X), batch_size)
            loss, gradients = self.loss(X[batch], y[batch], reg)
            losses.append(loss)
            for name, w in self.params.items():
                self.params[name], _ = sgd(w, gradients[name], {"learning_rate": learning_rate})
            if verbose and step % 100 == 0:
                print(f"iteration {step} / {num_iters}: loss {loss:f}")
            if step % steps_per_epoch == 0:
                train_accs.append((self.predict(X[batch]) == y[batch]).mean())
                val_accs.append((self.predict(X_val) == y_val).mean())
                learning_rate *= learning_rate_decay
        return {"loss_history": losses, "train_acc_history": train_accs, "val_acc_history": val_accs}

    def predict(self, X: np.ndarray) -> np.ndarray:
        """X (N, D) -> the class of the highest score, (N,)."""
        return np.argmax(self.loss(X), axis=1)
