"""A model with a trained prefix: its keys and values precede every text and cannot be merged into the weights."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Prefixed(nn.Module):
    """A causal language model with the interface of the plain one. The prefix occupies part of the context.

    Args:
        model: the pretrained model.
        folder: the folder of the adapter, as peft saved it.
    """

    def __init__(self, model: Any, folder: Path):
        from peft import PeftModel

        super().__init__()
        self.adapted: Any = PeftModel.from_pretrained(model, folder)
        config: Any = self.adapted.peft_config["default"]
        self.length = config.num_virtual_tokens
        self.config = deepcopy(model.config)
        self.config.max_position_embeddings = model.config.max_position_embeddings - self.length

    @property
    def device(self) -> torch.device:
        return self.adapted.device

    def get_output_embeddings(self) -> nn.Module:
        return self.adapted.get_base_model().get_output_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        **options: Any,
    ) -> Any:
        """Calls the model like its own `forward`. Masks and positions refer to the text without the prefix."""
        count = len(input_ids)
        past = cache or self.adapted.get_prompt(batch_size=count)
        if attention_mask is None:
            attention_mask = input_ids.new_ones(count, past.get_seq_length() - self.length + input_ids.shape[1])
        return self.adapted.get_base_model()(
            input_ids=input_ids,
            attention_mask=torch.cat([attention_mask.new_ones(count, self.length), attention_mask], dim=1),
            position_ids=None if position_ids is None else position_ids + self.length,
            cache=past,
            **options,
        )
