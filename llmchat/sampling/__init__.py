"""Pure functions on logits: the sampling chain and the draw. numpy only."""
