"""Many clients at once: none is lost, all answers are right, and the memory stays level."""

import concurrent.futures

import numpy as np
import pytest
from exported_networks import exported, tiny_network
from serving import ask, encoded, fill_by_rest, hole, running, text

from gmsrm_jax.inference.inpainter import Inpainter

CLIENTS, REQUESTS, EARLY = 8, 200, 50
# A leak of any whole picture, sent or decoded, is over 100 MB.
SIZES = ((480, 400), (640, 512), (333, 710))
SEEDS = (0, 5, 6)
MAX_GROWTH = 40 << 20  # bytes


@pytest.fixture(scope="module")
def cases():
    """Requests, their pictures, holes and right answers."""
    inpainter = Inpainter(tiny_network(), device="cpu", max_batch=4)
    random = np.random.default_rng(0)
    found = []
    for size in SIZES:
        picture, mask = random.integers(0, 256, (*size, 3), np.uint8), hole(*size)
        files = {"image": text(encoded(picture)), "mask": text(encoded(mask))}
        for seed in SEEDS:
            options = {"seed": seed, "strategy": "resize"}
            expected = inpainter(picture, mask, **options).images[0]
            found.append(({**files, **options}, picture, mask, expected))
    return found


@pytest.mark.slow
def test_none_of_200_requests_of_8_clients_is_lost(cases, tmp_path):
    checkpoint = exported(tmp_path / "tiny")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with running(checkpoint, temporary) as run:
        (folder,) = temporary.glob("gmsrm-serve-*")
        before = sorted(folder.rglob("*"))

        def client(number: int) -> int:
            fields, picture, mask, expected = cases[number % len(cases)]
            answer = fill_by_rest(run.port, **fields)
            assert answer.headers["x-seed"] == str(fields["seed"])
            np.testing.assert_array_equal(answer.pixels[~mask], picture[~mask])
            # Another process, with other threads, may round sums otherwise.
            np.testing.assert_allclose(answer.pixels.astype(int), expected, atol=2)
            return answer.status

        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
            first = list(clients.map(client, range(EARLY)))
            early = run.memory()
            rest = list(clients.map(client, range(EARLY, REQUESTS)))
            late = run.memory()
        assert first + rest == [200] * REQUESTS
        assert late - early < MAX_GROWTH, f"{early >> 20} MiB, later {late >> 20} MiB"
        print(f"\n{early >> 20} MiB after {EARLY}, {late >> 20} MiB after {REQUESTS}")
        assert ask(run.port, "GET", "/healthz").json["queue"] == 0
        assert sorted(folder.rglob("*")) == before  # nothing of them is on the disk
        assert run.stop()[0] == 0
