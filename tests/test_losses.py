"""Every loss against its equation in float64, and gradients against derivatives made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmsrm_jax.nn import losses


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(x))


@pytest.fixture(scope="module")
def pictures():
    """Prediction, target and a mask that covers another share of each picture."""
    mask = np.zeros((3, 8, 8, 1))
    mask[0, 2:4, 1:7] = 1
    mask[1, :, :5] = 1
    mask[2, 7, 7] = 1
    return normal(0, 3, 8, 8, 3), normal(1, 3, 8, 8, 3), mask


def test_reconstruction_divides_by_all_elements(pictures):
    prediction, target, mask = pictures
    expected = 0.0
    for index in np.ndindex(3, 8, 8, 3):
        weight = 10.0 if mask[index[0], index[1], index[2], 0] else 1.0
        expected += weight * abs(prediction[index] - target[index])
    got = losses.reconstruction_loss(*map(jnp.float32, pictures), 10.0, "all")
    np.testing.assert_allclose(got, expected / (3 * 8 * 8 * 3), rtol=1e-5)


def test_reconstruction_divides_by_the_area_of_each_region(pictures):
    prediction, target, mask = pictures
    expected = []
    for p, t, m in zip(prediction, target, mask[..., 0] > 0, strict=True):
        error = np.abs(p - t)
        expected.append(error[~m].mean() + 6.0 * error[m].mean())
    got = losses.reconstruction_loss(*map(jnp.float32, pictures), 6.0, "region")
    np.testing.assert_allclose(got, np.mean(expected), rtol=1e-5)


@pytest.mark.parametrize("norm", ["all", "region"])
@pytest.mark.parametrize(("hole", "weight"), [(0.0, 1.0), (1.0, 10.0)])
def test_reconstruction_without_one_of_the_regions_is_the_other(pictures, norm, hole, weight):
    prediction, target = (jnp.float32(a) for a in pictures[:2])
    mask = jnp.full((3, 8, 8, 1), hole)
    got, gradient = jax.value_and_grad(losses.reconstruction_loss)(
        prediction, target, mask, 10.0, norm
    )
    np.testing.assert_allclose(got, weight * np.abs(prediction - target).mean(), rtol=1e-5)
    np.testing.assert_allclose(np.abs(gradient), weight / (3 * 8 * 8 * 3), rtol=1e-4)


def test_perceptual_is_the_sum_of_mean_differences():
    shapes = [(2, 8, 8, 4), (2, 4, 4, 16)]
    predicted = [normal(2 + k, *shape) for k, shape in enumerate(shapes)]
    target = [normal(4 + k, *shape) for k, shape in enumerate(shapes)]
    expected = sum(np.abs(p - t).sum() / p.size for p, t in zip(predicted, target, strict=True))
    got = losses.perceptual_loss(
        [jnp.float32(p) for p in predicted], [jnp.float32(t) for t in target]
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="argument 2"):
        losses.perceptual_loss([jnp.float32(predicted[0])], [jnp.float32(t) for t in target])


def test_kl_is_the_divergence_of_the_two_densities():
    mean, log_variance = normal(6, 4, 3), normal(7, 4, 3)
    x = np.linspace(-30, 30, 60_001)
    expected = np.zeros((4, 3))
    for index in np.ndindex(4, 3):
        deviation = np.exp(0.5 * log_variance[index])
        log_q = -0.5 * ((x - mean[index]) / deviation) ** 2 - np.log(deviation)
        log_p = -0.5 * x**2
        density = np.exp(log_q) / np.sqrt(2 * np.pi)
        expected[index] = (density * (log_q - log_p)).sum() * (x[1] - x[0])
    inputs = jnp.float32(mean), jnp.float32(log_variance)
    np.testing.assert_allclose(losses.kl_loss(*inputs, "mean"), expected.mean(), rtol=1e-4)
    np.testing.assert_allclose(losses.kl_loss(*inputs, "sum"), expected.sum(1).mean(), rtol=1e-4)


def test_kl_is_zero_at_the_prior_only():
    zeros = jnp.zeros((2, 3))
    assert losses.kl_loss(zeros, zeros, "sum") == 0.0
    assert losses.kl_loss(zeros + 0.1, zeros, "sum") > 0.0
    assert losses.kl_loss(zeros, zeros - 0.1, "sum") > 0.0


def test_adversarial_losses_of_the_patch_discriminator():
    real, fake = 2 * normal(8, 3, 4, 4, 1), 2 * normal(9, 3, 4, 4, 1)
    inputs = jnp.float32(real), jnp.float32(fake)
    assert (real > 1).any()  # the clamps matter
    assert (fake < -1).any()
    hinge = np.mean([max(0.0, 1 - r) for r in real.ravel()]) + np.mean(
        [max(0.0, 1 + f) for f in fake.ravel()]
    )
    np.testing.assert_allclose(losses.hinge_discriminator_loss(*inputs), hinge, rtol=1e-5)
    np.testing.assert_allclose(
        losses.adversarial_generator_loss(inputs[1]), -fake.mean(), rtol=1e-5
    )


def test_logistic_losses_of_stage_one():
    real, fake = 3 * normal(10, 6), 3 * normal(11, 6)
    np.testing.assert_allclose(
        losses.logistic_generator_loss(jnp.float32(fake)), softplus(-fake).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        losses.logistic_discriminator_loss(jnp.float32(real), jnp.float32(fake)),
        softplus(fake).mean() + softplus(-real).mean(),
        rtol=1e-5,
    )


def test_r1_of_a_quadratic_discriminator_and_its_gradient():
    """D(x) = Σ (a x² / 2 + b x): ∇D = a x + b, R1 = mean over n of Σ (a x + b)² / 2."""
    x, a, b = normal(12, 4, 3, 3, 2), normal(13, 3, 3, 2), normal(14, 3, 3, 2)

    def penalty(a, b):
        def logits(images):
            return (0.5 * a[None] * images**2 + b[None] * images).sum((1, 2, 3))

        return losses.r1_penalty(logits, jnp.float32(x))

    evaluate = jax.jit(jax.value_and_grad(penalty, argnums=(0, 1)))
    value, gradients = evaluate(jnp.float32(a), jnp.float32(b))
    inner = a * x + b
    np.testing.assert_allclose(value, 0.5 * np.square(inner).sum() / 4, rtol=1e-5)
    np.testing.assert_allclose(gradients[0], (inner * x).mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients[1], inner.mean(0), rtol=1e-4, atol=1e-5)


def test_gradient_penalty_of_critics_with_known_slopes():
    """D = Σ a x² / 2 + b x: (‖a x + b‖ - 1)² for each example, its gradient in b; a flat one."""
    a, b, x = normal(18, 4, 4, 3), normal(19, 4, 4, 3), normal(20, 5, 4, 4, 3)

    def penalty(b, scale):
        def critic(images):
            terms = 0.5 * jnp.float32(a)[None] * images**2 + b[None] * images
            return scale * terms.sum((1, 2, 3))

        return losses.gradient_penalty(critic, jnp.float32(x))

    value, slope = jax.jit(jax.value_and_grad(penalty))(jnp.float32(b), 1.0)
    inner = a * x + b
    norms = np.sqrt(np.square(inner).sum((1, 2, 3), keepdims=True))
    np.testing.assert_allclose(value, np.square(norms - 1).mean(), rtol=1e-5)
    expected = (2 * (norms - 1) * inner / norms).mean(0)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5)
    value, slope = jax.value_and_grad(penalty)(jnp.float32(b), 0.0)
    np.testing.assert_allclose(value, 1.0, atol=1e-5)
    assert np.isfinite(slope).all()


def test_wasserstein_losses_pull_apart():
    real, fake = normal(21, 6), normal(22, 6)
    found = losses.wasserstein_discriminator_loss(jnp.float32(real), jnp.float32(fake))
    np.testing.assert_allclose(found, fake.mean() - real.mean(), rtol=1e-5)


def test_path_lengths_of_a_linear_synthesiser_and_their_gradient():
    """x_p = Σ_ld A_pld w_ld: g_ld = Σ_p A_pld y_p / sqrt(HW), length = sqrt(mean_l Σ_d g²)."""
    height, width, levels, dim = 4, 2, 3, 5
    jacobian, codes = normal(15, height, width, 3, levels, dim), normal(16, 2, levels, dim)
    y = normal(17, 2, height, width, 3)

    def lengths(scale):
        def synthesise(w):
            return scale * jnp.einsum("hwcld,nld->nhwc", jnp.float32(jacobian), w)

        return losses.path_lengths(synthesise, jnp.float32(codes), jnp.float32(y))

    got, slope = jax.jit(lambda s: jax.jvp(lengths, (s,), (jnp.ones(()),)))(1.5)
    expected = []
    for direction in y / np.sqrt(height * width):
        g = np.tensordot(direction, jacobian, axes=3)
        expected.append(np.sqrt(np.square(g).sum(1).mean()))
    np.testing.assert_allclose(got, 1.5 * np.asarray(expected), rtol=1e-4)
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


def test_path_lengths_have_a_finite_gradient_where_the_image_does_not_depend_on_the_code():
    def penalty(scale):
        def synthesise(codes):
            return scale * codes.sum((1, 2))[:, None, None, None] * jnp.ones((2, 4, 4, 3))

        lengths = losses.path_lengths(synthesise, jnp.ones((2, 3, 5)), jnp.ones((2, 4, 4, 3)))
        return jnp.square(lengths).sum()

    assert np.isfinite(jax.jit(jax.grad(penalty))(0.0))


def test_gram_matrices_and_style():
    found = losses.gram_matrix(jnp.ones((1, 2, 2, 3)))
    np.testing.assert_allclose(found, np.full((1, 3, 3), 1 / 3), rtol=1e-6)
    maps = [(normal(0, 2, 4, 3, 5), normal(1, 2, 4, 3, 5)), (normal(2, 2, 2, 2, 7),) * 2]
    maps[1] = (maps[1][0], 2 * maps[1][1])
    expected = 0.0
    for pair in maps:
        grams = []
        for f in pair:
            n, h, w, c = f.shape
            gram = np.zeros((n, c, c))
            for i, j in np.ndindex(c, c):
                gram[:, i, j] = (f[..., i] * f[..., j]).sum((1, 2)) / (c * h * w)
            grams.append(gram)
        expected += np.abs(grams[0] - grams[1]).mean()
    first, second = zip(*maps, strict=True)
    got = losses.style_loss([jnp.float32(f) for f in first], [jnp.float32(f) for f in second])
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_masked_l1_and_variation_of_a_hole_filled_with_zeros():
    """Ones, 4×4, with a 2×2 hole: figures by hand."""
    image, mask = np.ones((1, 4, 4, 1), np.float32), np.zeros((1, 4, 4, 1), np.float32)
    mask[:, 1:3, 1:3] = 1
    filled = jnp.asarray(image * (1 - mask))
    region = jnp.ones((1, 4, 4, 1))
    assert losses.masked_l1_loss(filled, jnp.asarray(image), jnp.asarray(mask)) == 0.25
    assert losses.masked_l1_loss(filled, jnp.asarray(image), jnp.asarray(1 - mask)) == 0
    assert losses.total_variation_loss(filled, region) == 0.5


def test_variation_is_of_pairs_inside_the_region(pictures):
    image, _, mask = pictures
    expected = 0.0
    for n, i, j, c in np.ndindex(image.shape):
        for di, dj in ((0, 1), (1, 0)):
            if i + di < 8 and j + dj < 8 and mask[n, i, j, 0] and mask[n, i + di, j + dj, 0]:
                expected += abs(image[n, i, j, c] - image[n, i + di, j + dj, c])
    got = losses.total_variation_loss(jnp.float32(image), jnp.float32(mask))
    np.testing.assert_allclose(got, expected / image.size, rtol=1e-5)


@pytest.mark.parametrize(
    ("real", "fake", "discriminator", "generator"),
    [([0, 0], [0, 0], 1, 1), ([0.5, 0.5], [-0.5, -0.5], 0, 4), ([1, 0], [0, -1], 0.25, 4.25)],
)
def test_relativistic_losses(real, fake, discriminator, generator):
    r, f = (jnp.float32(x).reshape(1, 1, 2, 1) for x in (real, fake))
    np.testing.assert_allclose(losses.relativistic_discriminator_loss(r, f), discriminator)
    np.testing.assert_allclose(losses.relativistic_generator_loss(r, f), generator)
    # The means are each example's own.
    r2, f2 = (jnp.concatenate([x, x + shift]) for x, shift in ((r, 7.0), (f, 7.0)))
    np.testing.assert_allclose(losses.relativistic_discriminator_loss(r2, f2), discriminator)


def test_squared_losses_of_features():
    shapes = ((2, 4, 4, 3), (2, 2, 2, 5))
    predicted, target = ([normal(10 * k + i, *s) for i, s in enumerate(shapes)] for k in (1, 2))
    content = style = 0.0
    for p, t in zip(predicted, target, strict=True):
        content += np.square(p - t).mean()
        _, h, w, c = p.shape
        for one, other in zip(p.reshape(2, -1, c), t.reshape(2, -1, c), strict=True):
            difference = (one.T @ one - other.T @ other) / (h * w * c)
            style += np.square(difference).sum() / (2 * h * w * c)
    given = [[jnp.float32(x) for x in maps] for maps in (predicted, target)]
    np.testing.assert_allclose(losses.content_loss(*given), content, rtol=1e-5)
    np.testing.assert_allclose(losses.squared_style_loss(*given), style, rtol=1e-4)
