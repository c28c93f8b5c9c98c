"""The base of every error that bad input causes, and those of models and requests."""


class InputError(ValueError):
    """Invalid input of a user or a party; one line states the fault and what to try.

    The command line prints the message alone and ends with exit code 2. Any other
    exception is a fault of the program and keeps its traceback.
    """


class ModelError(InputError):
    """A model that cannot be loaded or edited."""


class ModelFilesError(ModelError):
    """The files of a model are missing, damaged or do not belong together."""


class RequestError(InputError):
    """A request that cannot be read, named by file, line or record, and field."""


class MissingSourceError(RequestError):
    """A source of requests that is not there, or may not be read."""


class EmptySourceError(RequestError):
    """A source of requests that holds none."""
