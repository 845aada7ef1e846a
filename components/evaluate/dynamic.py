"""Dynamic evaluation: the model takes a gradient step on each segment of the text after it has scored that segment.

Krause, Kahembwe, Murray and Renals 2018, Dynamic Evaluation of Neural Sequence Models (arXiv:1709.07432), with their
RMS-scaled update and decay back to the trained weights: after a segment with gradient g, every weight becomes

    w + min(decay * r, 1) * (trained w - w) - learning_rate * g / (R * (r + EPSILON))

where R is the root mean square of all gradients on training text, and R * r that of this weight. A weight whose
gradients are large there learns in smaller steps and returns sooner. Dividing by R makes the learning rate comparable
between models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluate.scoring import Scorer, SequenceScore
from components.evaluate.windows import Window
from components.shared.model.head import head_in_float32

if TYPE_CHECKING:
    import torch

# Without it, a weight whose gradient is nearly always zero would move by any distance at the first other one.
EPSILON = 0.1


@dataclass(frozen=True)
class GradientScale:
    """The size of gradients on training text.

    Attributes:
        overall: the root mean square of all gradients, R above.
        relative: for each parameter of the model, in their order, the root mean square of each weight divided by
            `overall`, r above.
    """

    overall: float
    relative: list[torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class DynamicScorer(Scorer):
    """A scorer whose model adapts while it scores. Its weights are restored at the end of each call of `score`.

    Segments are the windows' scored tokens, so a smaller stride adapts more often.

    Attributes:
        scale: the size of gradients on training text, see `gradient_scale`.
        learning_rate, decay: see the update above.
    """

    scale: GradientScale
    learning_rate: float
    decay: float

    def score(
        self,
        sequences: Sequence[np.ndarray],
        *,
        rolling: bool = True,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[SequenceScore]:
        """Scores the windows of `Scorer.score` one after another, and adapts the model after each of them."""
        windows = [self.windows(sequence, rolling=rolling) for sequence in sequences]
        scores = [SequenceScore(np.zeros(len(each)), np.zeros(len(each), dtype=bool)) for each in sequences]
        done, total = 0, sum(window.end - window.scored for each in windows for window in each)
        with head_in_float32(self.model), restored_weights(self.model) as trained:
            update = self._update(trained)
            for sequence, inside, score in zip(sequences, windows, scores, strict=True):
                for window in inside:
                    nll, gradients = window_gradients(self, sequence, window)
                    update(gradients)
                    score.nll[window.scored : window.end] = nll
                    score.scored[window.scored : window.end] = True
                    done += len(nll)
                    progress(done, total)
        return scores

    def _update(self, trained: Sequence[torch.Tensor]) -> Callable[[Sequence[torch.Tensor]], None]:
        """Returns the function that moves the weights by the gradients of a segment."""
        import torch

        shares = [(self.decay * r).clamp_(max=1) for r in self.scale.relative]
        rates = [self.learning_rate / self.scale.overall / (r + EPSILON) for r in self.scale.relative]

        @torch.no_grad()
        def update(gradients: Sequence[torch.Tensor]) -> None:
            parts = zip(self.model.parameters(), trained, gradients, shares, rates, strict=True)
            for weight, before, gradient, share, rate in parts:
                weight.lerp_(before, share).addcmul_(gradient, rate, value=-1)

        return update


def window_gradients(scorer: Scorer, sequence: np.ndarray, window: Window) -> tuple[np.ndarray, Sequence[torch.Tensor]]:
    """Scores one window, and returns the gradients of the mean over its scored tokens.

    Enter `head_in_float32` around the calls.

    Returns:
        The negative log-likelihoods of the scored tokens in nats, and a gradient for each parameter of the model.
    """
    import torch

    with torch.enable_grad(), scorer.autocast():
        nll = scorer.likelihood(*scorer.states([(sequence, 0, window)]))
        gradients = torch.autograd.grad(nll.mean(), list(scorer.model.parameters()), materialize_grads=True)
    return nll.detach().double().cpu().numpy(), gradients


def gradient_scale(scorer: Scorer, sequence: np.ndarray) -> GradientScale:
    """Measures the gradients of the segments of a training text, by the trained weights.

    Args:
        scorer: the model, with the windows of the evaluation.
        sequence: the tokens of the text, of which the first is not scored.
    """
    windows = scorer.windows(sequence)
    squares: list[Any] = [weight.detach().new_zeros(weight.shape) for weight in scorer.model.parameters()]
    with head_in_float32(scorer.model):
        for window in windows:
            _, gradients = window_gradients(scorer, sequence, window)
            for square, gradient in zip(squares, gradients, strict=True):
                square.addcmul_(gradient, gradient, value=1 / len(windows))
    weights = sum(square.numel() for square in squares)
    overall = (sum(float(square.double().sum()) for square in squares) / weights) ** 0.5
    return GradientScale(overall, [square.sqrt_().div_(overall) for square in squares])


@contextmanager
def restored_weights(model: Any) -> Iterator[list[torch.Tensor]]:
    """Restores the weights of a model at the end of the block; within it, yields copies of them."""
    import torch

    trained = [weight.detach().clone() for weight in model.parameters()]
    try:
        yield trained
    finally:
        with torch.no_grad():
            for weight, before in zip(model.parameters(), trained, strict=True):
                weight.copy_(before)
