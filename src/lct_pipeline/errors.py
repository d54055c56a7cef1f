"""Faults that a user can mend: shown as one message, without a traceback."""


class UserError(Exception):
    """Something given is wrong; the message names it and says what would be right."""


class DataError(UserError):
    """A file or folder is missing, damaged or not of the kind that is needed."""


class ParameterError(UserError):
    """A parameter is unknown, of the wrong type, out of range, or not that of an existing run."""


class TrainingError(UserError):
    """Training cannot go on."""
