"""Query2Label: class tokens attend to the last map of a backbone, and each is classified.

The position encodings are computed for the map at hand, so that images may have any size; the
published model keeps them for one size.

Source: Liu et al., "Query2Label: A Simple Transformer Way to Multi-Label Classification", 2021, and
its release.

Shapes: B images, K classes, (h, w) the map, L = h * w, D its channels, E width of the head.
"""

from torch import Tensor, nn

from segcore.rankseg.heads import DecoderHead
from segcore.rankseg.layers import DecoderLayer, sine_positions


class Query2LabelHead(nn.Module):
    """Transformer layers over the map, then decoder layers from a token per class to the map.

    Attributes:
        input_proj: of the map's cells, D -> E.
        encoder: layers in which cells attend to each other.
        decoder: has the class tokens, (1, K, E), and the classifiers.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        hidden_dim: int | None = None,
        num_heads: int = 4,
        feedforward_dim: int = 8192,
        dropout: float = 0.1,
        encoder_layers: int = 1,
        decoder_layers: int = 2,
    ) -> None:
        """
        Args:
            width: D.
            num_classes: K.
            hidden_dim: E, a multiple of 4 and of the number of heads; None: D, without a
                projection, as published.
            num_heads, feedforward_dim, dropout: of all layers.
            encoder_layers, decoder_layers: their numbers.
        """
        super().__init__()
        self.hidden_dim = hidden_dim or width
        self.input_proj = nn.Linear(width, hidden_dim) if hidden_dim else nn.Identity()
        self.encoder = nn.ModuleList(
            DecoderLayer(self.hidden_dim, num_heads, feedforward_dim, dropout)
            for _ in range(encoder_layers)
        )
        self.decoder = DecoderHead(
            nn.Identity(),
            num_classes,
            self.hidden_dim,
            own_embeddings=True,
            project_tokens=False,
            num_heads=num_heads,
            feedforward_dim=feedforward_dim,
            dropout=dropout,
            grid=None,
            num_layers=decoder_layers,
        )
        nn.init.normal_(self.decoder.class_embeddings)
        for parameter in (*self.encoder.parameters(), *self.decoder.layers.parameters()):
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """A map (B, D, h, w) -> logits (B, K)."""
        positions = sine_positions(*features.shape[-2:], self.hidden_dim)
        positions = positions.to(features.device, features.dtype)
        memory = self.encode(features, positions)
        return self.decoder.classifier(self.decoder.attend(memory, positions))

    def encode(self, features: Tensor, positions: Tensor) -> Tensor:
        """Return the encoded cells (B, L, E) of a map (B, D, h, w); ``positions`` (L, E)."""
        x = self.input_proj(features.flatten(2).transpose(1, 2))
        for layer in self.encoder:
            x = layer(x, positions, x + positions, x)
        return x
