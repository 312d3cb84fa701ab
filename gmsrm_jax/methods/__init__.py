"""The methods of inpainting by name; everything above asks one of them through `base.Method`."""

from gmsrm_jax.methods.base import Method, Row
from gmsrm_jax.methods.classical import CLASSICAL
from gmsrm_jax.methods.deepfill2.method import DEEPFILL2
from gmsrm_jax.methods.edgeconnect.method import EDGECONNECT
from gmsrm_jax.methods.gm_srm.method import GM_SRM
from gmsrm_jax.methods.lahiri import LAHIRI
from gmsrm_jax.methods.lbam.method import LBAM
from gmsrm_jax.methods.lisk.method import LISK
from gmsrm_jax.methods.medfe.method import MEDFE
from gmsrm_jax.methods.pconv import PCONV
from gmsrm_jax.methods.sharpening import sharpened

__all__ = ["CLASSICAL", "DEFAULT", "FIRST", "METHODS", "Method", "rows"]

METHODS: dict[str, Method] = {
    # Without the KL divergence beside them, the noise statistics of Eq. 8 stay as they are.
    "gm_srm": sharpened(GM_SRM, keeps=("statistics_",)),
    "pconv": sharpened(PCONV),
    "deepfill2": sharpened(DEEPFILL2),
    "edgeconnect": sharpened(EDGECONNECT),
    # The numbers of the maps have ranges that a second phase does not know.
    "lbam": sharpened(LBAM, keeps=("forward_map_", "reverse_map_")),
    "lisk": sharpened(LISK),
    "medfe": sharpened(MEDFE),
    "lahiri": sharpened(LAHIRI),
    **CLASSICAL,
}
DEFAULT = GM_SRM.name  # of a config that names none
FIRST = GM_SRM.name  # of exported folders that name none, format version 1


def rows() -> list[Row]:
    """Every row that a method of `METHODS` can have in tables, in its order."""
    return [
        row
        for method in METHODS.values()
        for row in (method.variants.values() or [Row(method.title, method.priors)])
    ]
