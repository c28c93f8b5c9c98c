"""A model folder takes along what belongs to its base, and nothing that might tell."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedModel

from editing.base.errors import InputError
from editing.hyperparameters.choice import choose_hyperparameters
from editing.hyperparameters.config import EditingConfig, read_context_templates
from sims.deltas.export import apply_delta
from sims.deltas.model_folders import (
    COMPANIONS,
    check_shard_size,
    copy_companions,
    hub_name,
    load_whole,
    save_whole,
    stored_dtype,
    torch_dtype,
)
from sims.deltas.revert import revert_delta
from tests.sims.homes import SECRET, Base, texts_of

PROCESSOR = b'{"image_mean": [0.5],\r\n "size": 224}'
"""Bytes that no library would write this way."""

KEPT_BACK = (
    "requests.json",
    "held_out.json",
    "special_tokens_map.json",
    "pytorch_model.bin",
    "other.safetensors",
    "modeling_own.py",
    "MODEL.md",
    ".env",
    "edit/revert.safetensors",
    "edit/LICENSE",
)
"""What may tell of requests or of a machine, weights, programs, and old leftovers."""


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """Write a base with all that belongs to a model, and all that does not."""
    base = Base(tmp_path)
    (base.path / "edit").mkdir()
    for name in KEPT_BACK:
        (base.path / name).write_text(f'["{SECRET}"]')
    (base.path / "special_tokens_map.json").write_text("{}")
    for name in COMPANIONS:
        (base.path / name).write_bytes(PROCESSOR + name.encode())
    (base.path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return base


def files(folder: Path) -> set[str]:
    """List a folder's files."""
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    }


def test_an_edited_and_a_restored_folder_hold_what_belongs_to_the_base(
    base: Base, tmp_path: Path
) -> None:
    """Byte for byte, readable as the card is; of the rest nothing."""
    edited, restored = tmp_path / "edited", tmp_path / "restored"
    apply_delta(str(base.path), base.delta_path, edited)
    revert_delta(edited, base.delta_path, restored)
    for folder in (edited, restored):
        for name in COMPANIONS:
            assert (folder / name).read_bytes() == (base.path / name).read_bytes()
        assert not files(folder) & (set(KEPT_BACK) - {"edit/revert.safetensors"})
        assert SECRET not in texts_of(folder)
        modes = {path.stat().st_mode for path in folder.rglob("*") if path.is_file()}
        assert modes == {(folder / "README.md").stat().st_mode}
        messages = [{"role": "user", "content": "the harp"}]
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.apply_chat_template(messages, tokenize=False) == "the harp"
    assert files(edited) - files(restored) == {
        "edit/record.json",
        "edit/revert.safetensors",
    }


def test_an_edited_model_of_the_embedded_layout_can_be_edited_again(
    tmp_path: Path,
) -> None:
    """A run finds what it needs next to the model; requests and texts are left out."""
    base, edited = Base(tmp_path), tmp_path / "edited"
    (base.path / "hyperparameters.json").write_text('{"layers": [1]}')
    (base.path / "context_templates.json").write_text('["{}", "So. {}"]')
    (base.path / "text.txt").write_text("one\ntwo\n")
    (base.path / "held_out.json").write_text(f'["{SECRET}"]')
    apply_delta(str(base.path), base.delta_path, edited)
    choice = choose_hyperparameters(EditingConfig(), str(edited))
    assert choice.parameters.layers == (1,)
    assert read_context_templates(edited / "context_templates.json") == (
        "{}",
        "So. {}",
    )
    assert not files(edited) & {"requests.json", "held_out.json", "text.txt"}


def test_a_folder_is_not_given_what_it_has(tmp_path: Path) -> None:
    """What the library wrote stands; a link gives its content, a folder nothing."""
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    folder.mkdir()
    (source / "NOTICE").mkdir()
    (source / "vocab.json").write_text("theirs")
    (folder / "vocab.json").write_text("ours")
    (tmp_path / "blob").write_text("terms")
    (source / "LICENSE").symlink_to(tmp_path / "blob")
    copy_companions(source, folder)
    assert (folder / "vocab.json").read_text() == "ours"
    assert (folder / "LICENSE").read_text() == "terms"
    assert not (folder / "LICENSE").is_symlink()
    assert files(folder) == {"vocab.json", "LICENSE"}


def test_a_hub_name_is_not_taken_for_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model without a folder has no companion files."""
    monkeypatch.chdir(tmp_path)
    copy_companions(Path("owner/model"), tmp_path)
    assert files(tmp_path) == set()
    assert hub_name("owner/model") == "owner/model"
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert hub_name("owner/model") is None


def test_a_saved_model_is_loaded_in_the_precision_it_was_saved_in(
    base: Base, tmp_path: Path
) -> None:
    """As the folder's configuration tells."""
    model: PreTrainedModel = load_whole(str(base.path), "bfloat16")
    assert not any(each.requires_grad for each in model.parameters())
    save_whole(model, str(base.path), tmp_path / "out", "5GB")
    assert stored_dtype(tmp_path / "out") == "bfloat16"
    assert stored_dtype(base.path) == "float32"


@pytest.mark.parametrize("name", ["int8", "nonsense", "nn"])
def test_what_is_no_precision_of_weights_is_refused(name: str) -> None:
    """With what is wanted."""
    with pytest.raises(InputError, match="wanted float32"):
        torch_dtype(name)


@pytest.mark.parametrize("size", ["5", "0GB", "5 GB", "-1GB", "5gb", "GB", "1.5GB"])
def test_sizes_that_are_none_are_refused(size: str) -> None:
    """Before any work."""
    with pytest.raises(InputError, match="such as 5GB"):
        check_shard_size(size)
    check_shard_size("15KB")
