"""The study that these tests look at."""

import pytest
from studies import METHODS, SAMPLES, colour, methods_of, save, serve, stop

from gmsrm_jax.study.presentation import Presentation
from gmsrm_jax.study.samples import read_samples
from gmsrm_jax.study.votes import FILE_NAME, Votes


@pytest.fixture
def folders(tmp_path):
    """Folders of the methods and of the inputs, with the samples in them."""
    for method in (*METHODS, "input"):
        for sample in SAMPLES:
            save(tmp_path / "pictures" / method / f"{sample}.png", colour(method, sample))
    return {method: tmp_path / "pictures" / method for method in (*METHODS, "input")}


@pytest.fixture
def presentation(folders):
    return Presentation(METHODS, read_samples(methods_of(folders), folders["input"]), seed=0)


@pytest.fixture
def votes(tmp_path, presentation):
    opened = Votes(tmp_path / "out" / FILE_NAME, presentation)
    yield opened
    opened.close()


@pytest.fixture
def server(presentation, votes):
    running = serve(presentation, votes)
    yield running
    stop(running)
