"""Optimizers, schedules and averages against their arithmetic in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gmsrm_jax.nn.optimizers import (
    average_weights,
    ema_decay,
    lazy_adam,
    learning_rate_schedule,
    slowed,
)


def adam_path(
    gradients: np.ndarray, rate: float, b1: float, b2: float, eps: float = 1e-8
) -> np.ndarray:
    """Weights after each of Adam's steps from zero (Kingma and Ba, algorithm 1)."""
    weights, first, second, path = 0.0, 0.0, 0.0, []
    for step, g in enumerate(gradients, start=1):
        first = b1 * first + (1 - b1) * g
        second = b2 * second + (1 - b2) * g**2
        corrected = first / (1 - b1**step), second / (1 - b2**step)
        weights = weights - rate * corrected[0] / (np.sqrt(corrected[1]) + eps)
        path.append(weights)
    return np.asarray(path)


@pytest.mark.parametrize(
    ("betas", "interval"), [((0.0, 0.99), 4), ((0.5, 0.99), 16), ((0.9, 0.999), 0)]
)
def test_lazy_adam_is_adam_with_corrected_rate_and_betas(betas, interval):
    gradients = np.random.default_rng(0).normal(size=(12, 3)) * [1.0, 0.01, 30.0]
    c = interval / (interval + 1) if interval else 1.0
    expected = adam_path(gradients, 0.0025 * c, betas[0] ** c, betas[1] ** c)
    optimizer = lazy_adam(0.0025, betas, interval)
    weights = jnp.zeros(3)
    state = optimizer.init(weights)
    update = jax.jit(optimizer.update)
    for gradient, wanted in zip(gradients, expected, strict=True):
        updates, state = update(jnp.float32(gradient), state)
        weights = optax.apply_updates(weights, updates)
        np.testing.assert_allclose(weights, wanted, rtol=2e-4, atol=1e-7)


def test_slowed_modules_move_as_with_a_smaller_rate():
    gradients = np.random.default_rng(1).normal(size=(8, 3))
    optimizer = optax.chain(optax.adam(0.01, b1=0.5, b2=0.999), slowed(("query_", "stat"), 0.1))
    weights = {"query_4": {"kernel": jnp.zeros(3)}, "output": {"kernel": jnp.zeros(3)}}
    state = optimizer.init(weights)
    for step, gradient in enumerate(gradients):
        given = jax.tree.map(lambda _, g=gradient: jnp.float32(g), weights)
        updates, state = optimizer.update(given, state)
        weights = optax.apply_updates(weights, updates)
        for name, rate in (("query_4", 0.001), ("output", 0.01)):
            wanted = adam_path(gradients, rate, 0.5, 0.999)[step]
            np.testing.assert_allclose(weights[name]["kernel"], wanted, rtol=2e-4, atol=1e-7)


def test_lazy_correction_is_that_of_stylegan2():
    """Rate × 0.8 and β2 = 0.99199 at 4 steps, rate × 0.9412 and β2 = 0.99059 at 16."""
    for interval, rate, b2 in [(4, 0.8, 0.99199), (16, 0.9412, 0.99059)]:
        optimizer = lazy_adam(1.0, (0.0, 0.99), interval)
        state = optimizer.init(jnp.zeros(()))
        updates, state = optimizer.update(jnp.float32(2.0), state)
        np.testing.assert_allclose(updates, -rate, rtol=1e-4)
        np.testing.assert_allclose(optax.tree_utils.tree_get(state, "nu"), 4 * (1 - b2), rtol=1e-3)


@pytest.mark.parametrize("steps", [100, 101, 2, 1])
def test_half_linear_holds_then_falls_to_zero_at_the_end(steps):
    schedule = learning_rate_schedule("half_linear", 2e-4, steps)
    half = steps // 2
    for step in range(steps + 1):
        wanted = 2e-4 * min(1.0, (steps - step) / (steps - half))
        np.testing.assert_allclose(schedule(step), wanted, rtol=1e-5, atol=1e-12)
    assert schedule(steps - 1) > 0.0  # the last step still learns


def test_other_schedules():
    constant, cosine = (learning_rate_schedule(kind, 2e-4, 50) for kind in ("constant", "cosine"))
    for step in (0, 1, 20, 25, 49, 50):
        np.testing.assert_allclose(constant(step), 2e-4)
        wanted = 2e-4 * 0.5 * (1 + np.cos(np.pi * step / 50))
        np.testing.assert_allclose(cosine(step), wanted, rtol=1e-4, atol=1e-10)


def test_average_weights_moves_every_leaf():
    average = {"a": jnp.asarray([1.0, 2.0]), "b": {"c": jnp.asarray(-3.0)}}
    weights = {"a": jnp.asarray([5.0, 2.0]), "b": {"c": jnp.asarray(1.0)}}
    moved = average_weights(average, weights, 0.75)
    np.testing.assert_allclose(moved["a"], [2.0, 2.0])
    np.testing.assert_allclose(moved["b"]["c"], -2.0)


def test_ema_forgets_half_in_one_half_life():
    """A unit average of zero weights is 1/2 after `half_life` images, whatever the batch."""
    for batch in (8, 32):
        decay = ema_decay(jnp.asarray(10**7), batch, 6400.0, 0.05)
        np.testing.assert_allclose(float(decay) ** (6400 / batch), 0.5, rtol=1e-3)


@pytest.mark.parametrize("images", [0, 32, 1000, 199_999, 200_000, 10**6])
def test_ema_ramps_up_with_the_images_seen(images):
    life = min(10_000.0, 0.05 * images)
    wanted = 0.5 ** (32 / max(life, 1e-8))
    np.testing.assert_allclose(ema_decay(jnp.asarray(images), 32, 1e4, 0.05), wanted, rtol=1e-5)
    np.testing.assert_allclose(
        ema_decay(jnp.asarray(images), 32, 1e4, 0.0), 0.5 ** (32 / 1e4), rtol=1e-5
    )


def test_ema_is_that_of_stylegan2():
    """The paper's 256 px setting: 0.99778 a step of 64 with a half-life of 20 kimg."""
    np.testing.assert_allclose(ema_decay(jnp.asarray(10**8), 64, 2e4, 0.0), 0.99778, atol=1e-5)
