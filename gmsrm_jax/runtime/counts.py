"""Numbers of things in sentences."""


def count_of(number: int, noun: str, form: str = "") -> str:
    """A number and its noun: 1 picture, 2 pictures.

    Args:
        number: how many, from 0.
        noun: of one of them; its plural ends in s.
        form: how the number is written, such as "," for 1,000.
    """
    return f"{number:{form}} {noun}{'s' * (number != 1)}"
