"""The exceptions whose message is the sentence that the user reads."""


class InputError(ValueError):
    """Bad input from a user: an option, a file, a name.

    The message is one sentence which names the input, what was expected and the mend.
    The command line prints it and exits with 2; nothing has been written by then. What a terminal would obey, such
    as a new line in the name of a file or in an archive, becomes a space.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


def printable(text: str) -> str:
    """The text with a space for each character that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)


class NotFinite(FloatingPointError):
    """A number became NaN or infinite where training cannot go on. The command line exits with 1."""
