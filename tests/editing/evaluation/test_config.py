"""Laws of what an evaluation may set."""

import pytest
from pydantic import ValidationError

from editing.evaluation.config import EvaluationConfig, GenerationConfig


def test_texts_are_drawn_as_published_and_only_if_asked_for() -> None:
    """From the five best tokens, up to a hundred, as ROME's and MEMIT's programs do."""
    assert GenerationConfig() == GenerationConfig(top_k=5, max_tokens=100)
    assert not EvaluationConfig().generation
    assert not EvaluationConfig().attribute_prompts


@pytest.mark.parametrize("field", ["top_k", "max_tokens"])
def test_no_text_is_drawn_from_nothing(field: str) -> None:
    """Neither from no token nor of none; an unknown key is refused as well."""
    for values in ({field: 0}, {field: -1}, {f"{field}s": 3}):
        with pytest.raises(ValidationError):
            EvaluationConfig.model_validate(values)
