"""The Muon of torch with matrix products that are batched by shape, in the precision that the device is fast in.

torch 2.13 orthogonalizes one matrix after another, always in bfloat16. On a GPU a small model then waits for thousands
of kernels a step; on a CPU without a bfloat16 unit the products take twice as long as in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class BatchedMuon(torch.optim.Muon):
    """`torch.optim.Muon`, with one batch of Newton-Schulz iterations for all matrices of a shape.

    Updates are scaled to the size of AdamW's (Liu et al. 2025, "Muon is Scalable for LLM Training"), so that one
    learning rate and one weight decay mean the same to both, and a transposed matrix is treated as any other.

    Args:
        matrices: the weights, each of shape (rows, columns).
        dtype: the dtype of the products; the momentum has the dtype of the weights.
        settings: `lr`, `weight_decay` and the other arguments of torch's Muon.
    """

    def __init__(self, matrices: list[nn.Parameter], *, dtype: torch.dtype, **settings: Any):
        super().__init__(matrices, adjust_lr_fn="match_rms_adamw", **settings)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Performs one optimizer step; the closure is not used."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape.setdefault(weight.shape, []).append(weight)
            for shape, weights in by_shape.items():
                updates = self._orthogonal(torch.stack(self._directions(weights, group)), group)
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                size = 0.2 * max(shape) ** 0.5
                torch._foreach_add_(weights, list(updates.to(weights[0].dtype)), alpha=-group["lr"] * size)

    def _directions(self, weights: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """The gradients after momentum."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        for weight, gradient in zip(weights, gradients, strict=True):
            self.state[weight].setdefault("momentum_buffer", torch.zeros_like(gradient))
        momenta = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        return list(torch._foreach_lerp(gradients, momenta, group["momentum"])) if group["nesterov"] else momenta

    def _orthogonal(self, matrices: Tensor, group: dict[str, Any]) -> Tensor:
        """Brings the singular values of matrices, shape (count, rows, columns), near to one (Jordan et al. 2024)."""
        a, b, c = group["ns_coefficients"]
        tall = matrices.shape[1] > matrices.shape[2]
        x = (matrices.mT if tall else matrices).to(self.dtype)
        x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=group["eps"])
        for _ in range(group["ns_steps"]):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x.mT if tall else x
