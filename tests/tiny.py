"""A tiny model with random weights, for tests that need a model but no knowledge."""

from collections.abc import Callable
from functools import wraps

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from editing.hyperparameters.config import Hyperparameters
from editing.models.families import Architecture
from editing.models.loading import EditableModel, make_editable
from editing.requests.edit_request import EditRequest
from tests.families import random_model

WORDS = """
the a is of in and who Ada Ben Cleo Dora Eli Fay Gus Hal Lovelace Stone Rivers North
works for lives speaks plays was born at mother tongue employer instrument English
French Basque Oslo Rome Lima harp viola drum Acme Works Group Inc music then day said
one every they found that old red map under stairs Therefore Because I You The . , ?
""".split()  # noqa: SIM905 - a list of strings would take a line each


STD = 0.3
LAYERS = (1, 2)
"""Edited blocks of the four that there are."""

TEMPLATES = ("{}", "the old map . {}", "they said that {}", "one day , {} , who")
"""The bare template and contexts of several lengths, on one side and on both."""

PARAMETERS = Hyperparameters(
    layers=LAYERS,
    v_num_grad_steps=6,
    v_lr=0.3,
    v_weight_decay=0.1,
    clamp_norm_factor=1.5,
    kl_factor=0.2,
    mom2_update_weight=0.5,
)

NAMED = {
    "llama": Hyperparameters(
        layers=LAYERS,
        layer_module_tmp="model.layers.{}",
        rewrite_module_tmp="model.layers.{}.mlp.down_proj",
        ln_f_module="model.norm",
    ),
    "gptj": Hyperparameters(
        layers=LAYERS,
        layer_module_tmp="transformer.h.{}",
        rewrite_module_tmp="transformer.h.{}.mlp.fc_out",
        ln_f_module="transformer.ln_f",
    ),
}
"""What MEMIT's files say of where a family's modules lie."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token a word or sign."""
    vocabulary = {word: number for number, word in enumerate(("[UNK]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def tiny_model(
    family: str = "gpt2", dtype: torch.dtype = torch.float64, inner: int = 24
) -> EditableModel:
    """Make a model of four blocks, 16 wide, the same at every call.

    Weights are large, so that attention looks somewhere and padding would matter.
    `inner` is the width of the keys of the first three families; the others, and
    variants by the names of `tests.families.VARIANTS`, have their own.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        maker = _MAKERS.get(family)
        words = len(WORDS) + 1
        model = maker(inner) if maker else random_model(family, words)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=STD)
            else:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    moved: PreTrainedModel = nn.Module.to(model, dtype)
    return make_editable(moved, tiny_tokenizer())


def _gpt2(inner: int) -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(WORDS) + 1,
            n_positions=64,
            n_embd=16,
            n_layer=4,
            n_head=2,
            n_inner=inner,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def _gptj(inner: int) -> PreTrainedModel:
    return GPTJForCausalLM(
        GPTJConfig(
            vocab_size=len(WORDS) + 1,
            n_positions=64,
            n_embd=16,
            n_layer=4,
            n_head=2,
            rotary_dim=4,
            n_inner=inner,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def _llama(inner: int) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS) + 1,
            max_position_embeddings=64,
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=inner,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


_MAKERS: dict[str, Callable[[int], PreTrainedModel]] = {
    "gpt2": _gpt2,
    "gptj": _gptj,
    "llama": _llama,
}


class _Tupled(nn.Module):
    """A block that returns a tuple, as older releases of transformers have them."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

        @wraps(block.forward)
        def forward(*args: object, **kwargs: object) -> tuple[Tensor, ...]:
            return (block(*args, **kwargs), torch.zeros(1))

        self.forward = forward


class _Unwrapped(nn.Module):
    """What a model of this release can call in the place of a block."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.tupled = _Tupled(block)

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        """Give the hidden state alone."""
        hidden: Tensor = self.tupled(*args, **kwargs)[0]
        return hidden


def tiny_model_of_tuples() -> EditableModel:
    """Make the tiny model with blocks that return tuples."""
    whole = tiny_model()
    blocks = whole.model.get_submodule("transformer.h")
    assert isinstance(blocks, nn.ModuleList)
    for number, block in enumerate(blocks):
        blocks[number] = _Unwrapped(block)
    names = Architecture(
        block="transformer.h.{}.tupled",
        down_projection="transformer.h.{}.tupled.block.mlp.c_proj",
        final_norm="transformer.ln_f",
        positions="n_positions",
    )
    return EditableModel(whole.model, whole.tokenizer, names)


def with_linear_projections(model: EditableModel) -> EditableModel:
    """Put an equal ``nn.Linear`` in the place of each edited ``Conv1D``."""
    for layer in range(model.block_count):
        conv = model.down_projection(layer)
        weight, bias = conv.get_parameter("weight"), conv.get_parameter("bias")
        d_in, d_out = weight.shape
        linear = nn.Linear(d_in, d_out, dtype=weight.dtype).requires_grad_(False)
        linear.weight.copy_(weight.mT)
        linear.bias.copy_(bias)
        path, _, name = model.architecture.down_projection.format(layer).rpartition(".")
        model.model.get_submodule(path).register_module(name, linear)
    return model


def tiny_requests(count: int = 6) -> list[EditRequest]:
    """Give requests that differ in length, place of the subject, and answer."""
    return [
        EditRequest(
            case_id=10 + number,
            prompt=prompt,
            subject=subject,
            target_new=new,
            target_true=true,
            paraphrase_prompts=(f"every day {subject} works at", f"{subject} ,"),
            neighborhood_prompts=("the employer of Dora Stone is", "Hal lives in"),
        )
        for number, (prompt, subject, new, true) in enumerate(_FACTS[:count])
    ]


_FACTS = (
    ("{} works for", "Ada Lovelace", "Acme Works Group", "Acme Inc"),
    ("the mother tongue of {} is", "Ben", "French", "English"),
    ("in Rome , {} plays the", "Cleo North Rivers", "viola", "harp"),
    ("the employer of {} , who speaks Basque , is", "Eli Stone", "Acme Inc", "Group"),
    ("the mother of {}", "Fay", "Dora", "Ada"),
    ("who is the mother of {} ? they found", "Gus Rivers", "Dora Stone", "Ada"),
)


def said_by(model: EditableModel, prompt: str, words: int) -> str:
    """Let the model continue a text, always with the likeliest token."""
    ids = model.tokenizer(prompt)["input_ids"]
    start = len(ids)
    for _ in range(words):
        with torch.no_grad():
            scores = model.model(input_ids=torch.tensor([ids])).logits[0, -1]
        ids.append(int(scores.argmax()))
    return " ".join(model.tokenizer.convert_ids_to_tokens(ids[start:]))
