"""How measures are headed, and how their scores are printed, in every table."""

from gmsrm_jax.metrics import Definition

UNDEFINED = "-"
PAPER_DIGITS = {"psnr": 2, "ssim": 3, "ncc": 3, "lmse": 3}
"""Digits behind the point in the paper's tables."""
_ARROWS = {"higher": "↑", "lower": "↓", "nearer to 1": "→ 1"}
_RATIO_DIGITS, _OTHER_DIGITS = 4, 2  # of measures without and with a unit
_DIGITS = {"fid": 2}  # without a unit, but not between 0 and 1


def heading(definition: Definition) -> str:
    """A measure's label, unit and direction: "PSNR [dB] ↑"."""
    unit = "" if definition.unit == "1" else f" [{definition.unit}]"
    return f"{definition.label}{unit} {_ARROWS[definition.better]}"


def score_text(
    metric: str, definition: Definition, score: float | None, paper_digits: bool = False
) -> str:
    """A score as printed.

    Args:
        metric: name of the measure.
        definition: of the measure.
        score: None where it is undefined, which is printed as "-".
        paper_digits: as many digits as the paper has, where it has that measure.
    """
    if score is None:
        return UNDEFINED
    usual = _RATIO_DIGITS if definition.unit == "1" else _OTHER_DIGITS
    digits = _DIGITS.get(metric, usual)
    if paper_digits:
        digits = PAPER_DIGITS.get(metric, digits)
    return f"{score:.{digits}f}"
