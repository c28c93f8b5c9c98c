"""What a model's folder lacks, by the names of its files."""

from pathlib import Path

CONFIGURATION = ("config.json", "adapter_config.json")
VOCABULARY = (
    "tokenizer.json",
    *("tokenizer.*", "*vocab*", "merges*", "*bpe*"),
    *("*.model", "*.spm", "*.tiktoken", "tekken*"),
)
WEIGHTS = (
    "model.safetensors",
    *("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json"),
)


def missing_files(folder: Path, weights: bool) -> list[str]:
    """Name the files that a folder would need to hold a model; of each part, the usual.

    Empty if the folder is none, or has a file of each part under any name that one is
    known by.

    Args:
        folder: As `save_pretrained` writes it, or anything else.
        weights: Whether weights are needed, or the configuration and tokenizer alone.
    """
    if not folder.is_dir():
        return []
    parts = [CONFIGURATION, VOCABULARY, *([WEIGHTS] if weights else [])]
    return [
        names[0]
        for names in parts
        if not any(path.exists() for name in names for path in folder.glob(name))
    ]
