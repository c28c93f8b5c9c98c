"""Laws of prompts: the subject's last token is found, and rows keep their tokens."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from editing.base.errors import InputError
from editing.models.token_rows import (
    BARE,
    TokenRow,
    check_length,
    order_by_length,
    pad_rows,
    tokenize_continuation,
    tokenize_prompt,
    tokenize_prompts,
    tokenize_rewrite,
    tokenize_target,
    tokenize_text,
)
from editing.requests.edit_request import EditRequest
from tests.tiny import TEMPLATES, WORDS, tiny_model, tiny_requests, tiny_tokenizer

ROWS = st.lists(
    st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=12
)
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)
NAMES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token a byte, words' leading blanks included."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: number for number, sign in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def opening_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer that puts a special token before every text."""
    tokenizer = tiny_tokenizer()
    inner = tokenizer.backend_tokenizer
    inner.add_special_tokens(["<s>"])
    number = inner.token_to_id("<s>")
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", number)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>")


def closing_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer that puts special tokens before and after every text."""
    inner = opening_tokenizer().backend_tokenizer
    inner.add_special_tokens(["</s>"])
    ends = [(sign, inner.token_to_id(sign)) for sign in ("<s>", "</s>")]
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>")


def spaced_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer that puts a blank before any text, as Llama 2's does."""
    vocabulary = {"[UNK]": 0, "▁": 1}
    vocabulary |= {f"▁{word}": number for number, word in enumerate(WORDS, start=2)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@given(before=SENTENCES, left=SENTENCES, name=NAMES, right=SENTENCES)
def test_the_subject_ends_where_the_text_up_to_it_ends(
    before: str, left: str, name: str, right: str
) -> None:
    """The definition, for words: whatever stands around, the same name included."""
    tokenizer = tiny_tokenizer()
    template, prompt = f"{before} {{}} {right}", f"{left} {{}} {right}"
    row = tokenize_prompt(tokenizer, template, prompt, name)
    until = f"{before} {left} {name}"
    assert list(row.ids) == tokenizer(f"{until} {right} {right}")["input_ids"]
    assert row.subject == len(tokenizer(until)["input_ids"]) - 1


@pytest.mark.parametrize("subject", ["Ada", "Zoë", "Łódź", "東京", "A. B.-C"])
@pytest.mark.parametrize("template", ["{}", "Łow. {}", "Ada, {} Ada"])
@pytest.mark.parametrize("prompt", ["{}", "{}'s name", "of {} is"])
def test_a_subject_of_several_tokens_ends_at_its_last(
    subject: str, template: str, prompt: str
) -> None:
    """By bytes, several of which can be one sign."""
    row = tokenize_prompt(byte_tokenizer(), template, prompt, subject)
    until = template[: template.index("{}")] + prompt[: prompt.index("{}")] + subject
    assert row.subject == len(until.encode()) - 1


def test_special_tokens_move_the_subject_and_enter_no_target() -> None:
    """A model that wants a first token gets it once, at the start."""
    plain, opening = tiny_tokenizer(), opening_tokenizer()
    first = opening.bos_token_id
    row = tokenize_prompt(plain, BARE, "{} works for", "Ada Stone")
    moved = tokenize_prompt(opening, BARE, "{} works for", "Ada Stone")
    assert moved == TokenRow((first, *row.ids), row.subject + 1)
    text = tokenize_text(opening, "Ada works")
    assert text.ids == (first, *tokenize_text(plain, "Ada works").ids)
    assert text.subject == len(text.ids) - 1
    assert tokenize_target(opening, "Acme") == tokenize_target(plain, "Acme")


def test_special_tokens_after_a_text_stand_before_no_target() -> None:
    """What ends a text would end it before its answer."""
    opening, closing = opening_tokenizer(), closing_tokenizer()
    assert closing("Ada")["input_ids"][-1] == closing.convert_tokens_to_ids("</s>")
    for template in TEMPLATES:
        row = tokenize_prompt(closing, template, "{} works for", "Ada Stone")
        prompt = tokenize_prompt(opening, template, "{} works for", "Ada Stone")
        assert len(row.ids) == len(prompt.ids)
        assert row.subject == prompt.subject
    assert len(tokenize_text(closing, "Ada works").ids) == 3
    assert len(tokenize_target(closing, "Acme")) == 1


def test_a_target_has_no_blank_of_the_tokenizers_own() -> None:
    """It follows a prompt, where there is none."""
    tokenizer = spaced_tokenizer()
    alone = tokenizer(" French music", add_special_tokens=False)["input_ids"]
    whole = tokenizer("Ada speaks French music")["input_ids"]
    assert alone == [1, *whole[2:]]
    assert tokenize_target(tokenizer, "French music") == tuple(whole[2:])
    row = tokenize_prompt(tokenizer, BARE, "{} speaks", "Ada")
    assert row.followed_by(tokenize_target(tokenizer, "French music")).ids == tuple(
        whole
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_tokenizers_own_padding_and_cutting_change_nothing(side: str) -> None:
    """Nor does it take a token to pad with."""
    plain, set_up = opening_tokenizer(), opening_tokenizer()
    assert plain.pad_token is None
    set_up.padding_side = set_up.truncation_side = side
    set_up.model_max_length = 3
    set_up.pad_token = "."
    set_up.backend_tokenizer.enable_truncation(3, direction=side)
    set_up.backend_tokenizer.enable_padding(direction=side, length=32, pad_token=".")
    for request in tiny_requests():
        prompts = [
            tokenize_prompt(each, TEMPLATES[1], request.prompt, request.subject)
            for each in (plain, set_up)
        ]
        assert prompts[0] == prompts[1]
        text = request.rewrite_prompt
        assert tokenize_text(plain, text) == tokenize_text(set_up, text)
        answer = request.target_new
        assert tokenize_target(plain, answer) == tokenize_target(set_up, answer)


def test_a_subject_that_the_tokenizer_drops_is_refused() -> None:
    """No position could be edited."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("@", "")
    with pytest.raises(InputError, match="leaves nothing of the subject '@@'"):
        tokenize_prompt(tokenizer, BARE, "of {} is", "@@")


@pytest.mark.parametrize("make", [tiny_tokenizer, byte_tokenizer])
def test_many_prompts_are_tokenized_as_one_by_one(
    make: Callable[[], PreTrainedTokenizerFast],
) -> None:
    """Template by template, whatever was asked before."""
    tokenizer, requests = make(), tiny_requests()
    for templates, some in ((TEMPLATES, requests), (TEMPLATES[1:], requests[::-1])):
        found = tokenize_prompts(tokenizer, templates, some)
        assert found == tokenize_prompts(tokenizer, templates, some)
        assert found == [
            tokenize_prompt(tokenizer, template, each.prompt, each.subject)
            for template in templates
            for each in some
        ]


@pytest.mark.parametrize("target", ["Ada", " Ada", "Ada "])
def test_a_target_begins_with_one_blank(target: str) -> None:
    """Blanks around it are the file's, not the text's."""
    assert tokenize_target(byte_tokenizer(), target) == tuple(
        byte_tokenizer()(" Ada")["input_ids"]
    )


def test_a_row_is_followed_by_tokens_as_they_are() -> None:
    """Where the subject ends does not change."""
    assert TokenRow((3, 4), 0).followed_by([5, 6]) == TokenRow((3, 4, 5, 6), 0)


def to_rows(texts: list[list[int]]) -> list[TokenRow]:
    """Make rows of token numbers, with subjects here and there."""
    return [TokenRow(tuple(ids), ids[0] % len(ids)) for ids in texts]


@given(texts=ROWS)
def test_padding_follows_and_is_masked(texts: list[list[int]]) -> None:
    """Every row comes back from the batch."""
    rows = to_rows(texts)
    batch = pad_rows(rows, torch.device("cpu"))
    assert batch.lengths.tolist() == [len(row.ids) for row in rows]
    assert batch.subjects.tolist() == [row.subject for row in rows]
    for row, ids, mask in zip(rows, batch.input_ids, batch.attention_mask, strict=True):
        assert tuple(ids[: len(row.ids)].tolist()) == row.ids
        assert mask.tolist() == [1] * len(row.ids) + [0] * (len(ids) - len(row.ids))


@given(texts=ROWS)
def test_every_row_has_one_place_by_length(texts: list[list[int]]) -> None:
    """No later one is shorter, and equal ones keep their order."""
    rows = to_rows(texts)
    order = order_by_length(rows)
    assert sorted(order) == list(range(len(rows)))
    places = [(len(rows[index].ids), index) for index in order]
    assert places == sorted(places)


def test_a_row_longer_than_the_context_is_refused() -> None:
    """One that fills it is not."""
    model, request = tiny_model(), tiny_requests(1)[0]
    check_length(model, TokenRow((1,) * 64, 0), request)
    with pytest.raises(InputError, match=r"Request 10: .* 65 tokens .* reads 64"):
        check_length(model, TokenRow((1,) * 65, 0), request)


def test_templates_of_the_tests_are_of_several_lengths() -> None:
    """Or the laws of padding would say nothing."""
    lengths = {len(tiny_tokenizer()(text)["input_ids"]) for text in TEMPLATES}
    assert len(lengths) == len(TEMPLATES)


def merged_tokenizer(*words: str) -> PreTrainedTokenizerFast:
    """Make a tokenizer of bytes, in which some words are one token each."""
    inner = byte_tokenizer().backend_tokenizer
    inner.add_tokens([*words])
    return PreTrainedTokenizerFast(tokenizer_object=inner)


RUNNING = [
    ("张伟的母语是", "中文", "张伟的母语是中文"),
    ("<|im_start|>assistant\n", "Acme", "<|im_start|>assistant\nAcme"),
    ("Ada works for ", "Acme", "Ada works for Acme"),
    ("Ada works for", "Acme", "Ada works for Acme"),
    ('The motto of Ada is "', "onward", 'The motto of Ada is "onward'),
]


@pytest.mark.parametrize(("prompt", "target", "running"), RUNNING)
def test_a_prompt_and_its_target_have_the_tokens_of_the_running_text(
    prompt: str, target: str, running: str
) -> None:
    """A request's as a question's, also where a space has a token with its word."""
    tokenizer = merged_tokenizer("中文", " Acme", "onward")
    wanted = tuple(tokenizer(running)["input_ids"])
    row, ids = tokenize_continuation(tokenizer, prompt, target)
    assert row.followed_by(ids).ids == wanted
    subject = next(name for name in ("张伟", "assistant", "Ada") if name in prompt)
    request = EditRequest(
        case_id=0,
        prompt=prompt.replace(subject, "{}"),
        subject=subject,
        target_new=target,
    )
    found, edited = tokenize_rewrite(tokenizer, BARE, request)
    assert found.followed_by(edited).ids == wanted
    assert edited == ids
    named = tokenize_prompt(tokenizer, BARE, request.prompt, subject)
    assert found.subject == named.subject
    forced = request.model_copy(update={"target_space": "always"})
    row, ids = tokenize_rewrite(tokenizer, BARE, forced)
    assert tokenizer.decode([*row.ids, *ids]) == f"{prompt} {target}"


@pytest.mark.parametrize(
    "template",
    [
        'He said "yes. {}',
        "Er sagt „ja. {}",
        "Therefore I say to you all. {}",
        "她说过很多的话。{}",
        "It says “. {}",
        "I'd '. {}",
    ],
)
@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        ("{}的母语是", "华为"),
        ("The maker {}'s rival is", "华为"),
        ("{} 说", "华为"),
        ("The dogs' master is {}", "Acme"),
        ("{} is 'Ada'", "called"),
        ("{} says „ja“", "often"),
        ('{} says:"', "华为"),
        ("{} says “", "Acme"),
        ("The **{}** is called **", "Acme"),
    ],
)
def test_a_template_does_not_change_how_a_target_is_joined(
    template: str, prompt: str, target: str
) -> None:
    """What is trained after any of them is what is evaluated after the bare prompt."""
    tokenizer = merged_tokenizer("华为", " Acme")
    request = EditRequest(case_id=0, prompt=prompt, subject="张伟", target_new=target)
    _, evaluated = tokenize_continuation(tokenizer, request.rewrite_prompt, target)
    row, trained = tokenize_rewrite(tokenizer, template, request)
    assert trained == evaluated
    assert row == tokenize_prompt(tokenizer, template, prompt, "张伟")


def test_a_target_that_shares_a_token_with_its_prompt_is_tokenized_alone() -> None:
    """A prompt's tokens do not depend on what is asked of it."""
    tokenizer = merged_tokenizer("是中")
    row, ids = tokenize_continuation(tokenizer, "张伟的母语是", "中文")
    assert row == tokenize_text(tokenizer, "张伟的母语是")
    assert tokenizer.decode([*ids]) == "中文"


def test_an_english_target_has_the_tokens_it_always_had() -> None:
    """Those after any word, for a prompt without white space at its end."""
    for tokenizer in (tiny_tokenizer(), opening_tokenizer(), spaced_tokenizer()):
        for request in tiny_requests():
            for template in TEMPLATES:
                row, ids = tokenize_rewrite(tokenizer, template, request)
                assert ids == tokenize_target(tokenizer, request.target_new)
                assert row == tokenize_prompt(
                    tokenizer, template, request.prompt, request.subject
                )


@pytest.mark.parametrize("make", [opening_tokenizer, closing_tokenizer])
def test_a_prompt_that_begins_with_the_first_token_has_it_once(
    make: Callable[[], PreTrainedTokenizerFast],
) -> None:
    """In texts, prompts and rewrites; the subject is found where it is."""
    tokenizer = make()
    first = tokenizer.bos_token_id
    plain = tokenize_prompt(tokenizer, BARE, "{} works for", "Ada Stone")
    assert plain.ids[0] == first
    doubled = tokenize_prompt(tokenizer, BARE, "<s> {} works for", "Ada Stone")
    assert doubled == plain
    text = tokenize_text(tokenizer, "<s> Ada Stone works for")
    assert text.ids == plain.ids
    request = EditRequest(
        case_id=0, prompt="<s> {} works for", subject="Ada Stone", target_new="Acme"
    )
    for template in TEMPLATES:  # a text before it would stand before the first token
        row, _ = tokenize_rewrite(tokenizer, template, request)
        assert row == plain
        assert row == tokenize_prompt(tokenizer, template, request.prompt, "Ada Stone")
