"""What takes long to load; named here, loaded elsewhere."""

MODELS = (
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.gpt2.modeling_gpt2",
)
"""Libraries of a process that computes with a model; the last is the embedded one's."""
