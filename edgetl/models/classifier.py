"""One class for the whole frame: the mean of the coarsest features, then one linear layer."""

from __future__ import annotations

from torch import Tensor, nn


class CategoryHead(nn.Module):
    """(B, C) mean features in, (B, classes) logits out."""

    def __init__(self, channels: int, classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(channels, classes)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.zeros_(self.logits.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.dropout(embedding))
        return logits
