"""Generated texts: what the model writes of the subjects it was edited on."""

from collections.abc import Callable, Mapping, Sequence

from editing.evaluation.cases import CaseRecord
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.fluency import WordSplitter, find_splitter, ngram_entropy
from editing.evaluation.generation import Sample, generate
from editing.evaluation.perplexity import essence_score
from editing.evaluation.references import References
from editing.models.loading import EditableModel
from editing.models.token_rows import tokenize_text
from editing.requests.edit_request import EditRequest


def measure_texts(
    model: EditableModel,
    requests: Sequence[EditRequest],
    config: EvaluationConfig,
    seed: int,
    *,
    references: References | None = None,
    target_ids: Mapping[int, str] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> list[CaseRecord]:
    """Let the model continue each generation prompt, and measure the texts.

    Gives for each request the fields that MEMIT adds to ``post``: ``text`` and
    ``ngram_entropy``; with references ``reference_score``, and where they describe the
    subject ``essence_score`` and ``essence_text``. A request without generation prompts
    has none of them.

    Args:
        model: What writes.
        requests: Whose generation prompts.
        config: How texts are drawn.
        seed: Draws them, with the request's number and the prompt's place.
        references: The published snippets.
        target_ids: By case, the number that snippets know the new object by.
        on_batch: Called after each batch with the number of texts written.
    """
    samples = [
        Sample(tokenize_text(model.tokenizer, prompt), f"{seed}/{each.case_id}/{place}")
        for each in requests
        for place, prompt in enumerate(each.generation_prompts)
    ]
    texts = iter(generate(model, samples, config, on_batch=on_batch))
    splitter = find_splitter()
    measured = []
    for each in requests:
        own = [next(texts) for _ in each.generation_prompts]
        fields = _measure(own, splitter)
        if references is not None and own:
            target = (target_ids or {}).get(each.case_id)
            fields |= _compare(model, each, own, references, target)
        measured.append(fields)
    return measured


def add_texts(
    cases: Sequence[CaseRecord], measured: Sequence[CaseRecord]
) -> list[CaseRecord]:
    """Add what `measure_texts` found to the cases of the same requests."""
    joined = []
    for case, fields in zip(cases, measured, strict=True):
        post = case["post"]
        assert isinstance(post, dict)
        joined.append({**case, "post": {**post, **fields}})
    return joined


def _measure(texts: Sequence[str], splitter: WordSplitter) -> CaseRecord:
    if not texts:
        return {}
    return {"ngram_entropy": ngram_entropy(texts, splitter), "text": list(texts)}


def _compare(
    model: EditableModel,
    request: EditRequest,
    texts: Sequence[str],
    references: References,
    target: str | None,
) -> CaseRecord:
    """Compare texts with references; nothing where these do not know the object."""
    if request.relation_id is None or target is None:
        return {}
    score = references.score(texts, request.relation_id, target)
    essence = references.essence(request.relation_id, target, request.subject)
    fields: CaseRecord = {} if score is None else {"reference_score": score}
    if essence:
        fields["essence_score"] = essence_score(model, " ".join(essence))
        fields["essence_text"] = essence
    return fields
