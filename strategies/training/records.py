"""What travels in a training step: tensors down, sums up.

A question names the step and the settings; with it go the hypernetwork, the batch's
update or the weights ``M``, as the phase needs. What comes up are moments and
statistics, as in rounds of edits, then losses with ``∂L/∂W``, then gradients by the
hypernetwork's tensors.
"""

import math
from collections.abc import Mapping, Sequence

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from editing.algebra.statistics import StatisticsError, check_matrix
from editing.base.settings import Settings
from editing.malmen.hypernetwork import Hypernetwork, HypernetworkShape
from editing.malmen.settings import TrainingSettings
from editing.malmen.sums import LossSums
from strategies.wire.arrays import to_array, to_tensors
from strategies.wire.messages import reading

TRAINING, GIVEN = "training", "given"
"""The records of a question."""

LOSSES, GRADIENTS = "losses", "gradients"
"""The records of a reply."""

NUMBERS = ("general", "local", "texts")
"""What a record of losses holds."""


class Question(Settings):
    """What a party is asked in a training step.

    Attributes:
        settings: Of the training; they say which requests are in the batch.
        step: Counted from 0.
        shape: Of the hypernetwork that comes with it, if one does.
    """

    settings: TrainingSettings
    step: int = 0
    shape: HypernetworkShape | None = None


def write_question(
    content: RecordDict, question: Question, given: Mapping[str, Tensor]
) -> None:
    """Add a question to a job, with the tensors that it needs."""
    arrays = {name: to_array(each) for name, each in given.items()}
    content[TRAINING] = ConfigRecord({TRAINING: question.model_dump_json()})
    content[GIVEN] = ArrayRecord(arrays)


def read_question(content: RecordDict) -> tuple[Question, dict[str, Tensor]]:
    """Undo `write_question`; a message of another protocol is a `ProtocolError`."""
    with reading("a step of training"):
        text = str(content.config_records[TRAINING][TRAINING])
        given = to_tensors(content.array_records[GIVEN])
        return Question.model_validate_json(text), given


def name_layers(tensors: Mapping[int, Tensor]) -> dict[str, Tensor]:
    """Name matrices by their layers."""
    return {str(layer): each for layer, each in tensors.items()}


def read_layers(
    given: Mapping[str, Tensor], layers: Sequence[int]
) -> dict[int, Tensor]:
    """Undo `name_layers`; what is missing is a `ProtocolError`."""
    with reading("the matrices of a step of training"):
        return {layer: given[str(layer)] for layer in layers}


def read_net(question: Question, given: Mapping[str, Tensor]) -> Hypernetwork:
    """Put a hypernetwork together that came with a question.

    One that is missing, or not whole, is a `ProtocolError`.
    """
    with reading("a hypernetwork"):
        assert question.shape is not None
        sizes = question.shape.sizes()
        assert {k: tuple(v.shape) for k, v in given.items()} == sizes
        return Hypernetwork(question.shape, given)


def write_losses(losses: LossSums) -> RecordDict:
    """Pack a party's losses; `read_losses` unpacks them."""
    arrays = {k: to_array(v) for k, v in name_layers(losses.gradients).items()}
    facts = ConfigRecord(
        {"general": losses.general, "local": losses.local, "texts": losses.texts}
    )
    return RecordDict({LOSSES: facts, GRADIENTS: ArrayRecord(arrays)})


def read_losses(content: RecordDict, widths: Mapping[int, tuple[int, int]]) -> LossSums:
    """Unpack and check a party's losses, and their gradients by the edited weights.

    Args:
        content: What the party sent.
        widths: ``d_out`` and ``d_in`` of each edited layer.

    Raises:
        StatisticsError: If they are not there, or no losses.
    """
    found = _arrays(content, {str(layer): size for layer, size in widths.items()})
    try:
        facts = content.config_records[LOSSES]
        general, local, texts = (facts[name] for name in NUMBERS)
    except KeyError as error:
        raise StatisticsError(f"Losses were asked for, without {error} here.") from None
    if not isinstance(texts, int) or isinstance(texts, bool) or texts < 0:
        raise StatisticsError("The number of texts is no whole number from 0 on.")
    gradients = {layer: found[str(layer)].double() for layer in widths}
    return LossSums(_loss(general), _loss(local), texts, gradients)


def _loss(value: object) -> float:
    """Check a sum of losses.

    Raises:
        StatisticsError: If it is none.
    """
    if not isinstance(value, float) or not 0 <= value < math.inf:
        raise StatisticsError("Losses are no finite numbers from 0 on.")
    return value


def write_gradients(gradients: Mapping[str, Tensor]) -> RecordDict:
    """Pack a party's gradients by the hypernetwork's tensors."""
    arrays = {name: to_array(each) for name, each in gradients.items()}
    return RecordDict({GRADIENTS: ArrayRecord(arrays)})


def read_gradients(content: RecordDict, net: Hypernetwork) -> dict[str, Tensor]:
    """Unpack them; others than those of the trained tensors are a `StatisticsError`."""
    sizes = {name: tuple(net.tensors[name].shape) for name in net.trained}
    return _arrays(content, sizes)


def _arrays(
    content: RecordDict, sizes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Read arrays of known names and sizes.

    Raises:
        StatisticsError: If there are others, or numbers in them are not finite.
    """
    try:
        found = to_tensors(content.array_records[GRADIENTS])
    except Exception as error:  # whatever a party's bytes make numpy raise
        raise StatisticsError(
            "Gradients were asked for, and the reply does not hold them "
            f"({type(error).__name__})."
        ) from None
    if {name: tuple(each.shape) for name, each in found.items()} != dict(sizes):
        raise StatisticsError(
            f"Gradients of {len(sizes)} tensors were asked for, and the reply holds "
            "others or not all, or of other sizes."
        )
    for name, each in found.items():
        if not each.is_floating_point():
            raise StatisticsError(f"The gradient of `{name}` is of no real numbers.")
        flat = each.reshape(1, -1)
        check_matrix(f"gradient of {name}", flat, (1, each.numel()))
    return found
