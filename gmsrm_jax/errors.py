"""The one exception that reaches a person as a single line instead of a traceback."""


class UserError(Exception):
    """Something that the person running the program can cure.

    The message is one line and names the file or key, the value found, and the cure. The entry
    points print it and exit with status 2; every other exception is a bug and keeps its traceback.
    """
