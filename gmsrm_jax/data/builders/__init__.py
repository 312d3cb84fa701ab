"""TFDS builders for the paper's benchmarks that TFDS lacks; importing this registers them by name.

`gmsrm data tfds:NAME --prepare` and `tfds build NAME --imports=gmsrm_jax.data.builders` make the
same sets; the program `tfds` needs apache-beam and mlcroissant, too.
"""

from gmsrm_jax.data.builders.celeba_hq import GmsrmCelebaHq
from gmsrm_jax.data.builders.paris_streetview import GmsrmParisStreetview
from gmsrm_jax.data.builders.places2 import GmsrmPlaces2

BUILDERS = (GmsrmCelebaHq, GmsrmParisStreetview, GmsrmPlaces2)
