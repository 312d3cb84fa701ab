"""Every term of the objectives, one function for one equation.

Images are [N, H, W, 3] in [-1, 1], masks [N, H, W, 1] with 1 in the hole; every loss is a scalar.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp


def reconstruction_loss(
    prediction: jax.Array, target: jax.Array, mask: jax.Array, hole_weight: float, norm: str
) -> jax.Array:
    """L_rec = L_known + γ · L_hole (Eq. 10), both mean absolute differences.

    Args:
        prediction: raw output of the network.
        target: the whole picture.
        mask: 1 in the hole.
        hole_weight: γ.
        norm: what each term is divided by: "all" elements of the picture, or its own "region".
    """
    difference = jnp.abs(prediction - target)
    known, hole = difference * (1.0 - mask), difference * mask
    if norm == "all":
        return known.mean() + hole_weight * hole.mean()
    channels = prediction.shape[-1]
    axes = (1, 2, 3)
    known_area = jnp.maximum((1.0 - mask).sum(axes), 1.0) * channels
    hole_area = jnp.maximum(mask.sum(axes), 1.0) * channels
    return (known.sum(axes) / known_area + hole_weight * hole.sum(axes) / hole_area).mean()


def perceptual_loss(predicted: Sequence[jax.Array], target: Sequence[jax.Array]) -> jax.Array:
    """L_perc (Eq. 11; PConv, Eq. 3): over layers of a VGG, Σ of the mean absolute differences."""
    terms = [jnp.abs(p - t).mean() for p, t in zip(predicted, target, strict=True)]
    return jnp.stack(terms).sum()


def gram_matrix(features: jax.Array) -> jax.Array:
    """FᵀF / (C·H·W) of each example's features F [H·W, C]: [N, H, W, C] to float32 [N, C, C].

    Gatys et al., arXiv 1508.06576, with the divisor of PConv's K_p.
    """
    n, h, w, c = features.shape
    f = features.astype(jnp.float32).reshape(n, h * w, c)
    return jnp.einsum("npi,npj->nij", f, f, precision=jax.lax.Precision.HIGHEST) / (c * h * w)


def style_loss(predicted: Sequence[jax.Array], target: Sequence[jax.Array]) -> jax.Array:
    """Over layers, the sum of the mean absolute differences of Gram matrices (PConv, Eq. 4, 5)."""
    return perceptual_loss(
        [gram_matrix(features) for features in predicted],
        [gram_matrix(features) for features in target],
    )


def content_loss(predicted: Sequence[jax.Array], target: Sequence[jax.Array]) -> jax.Array:
    """Over layers of a VGG, the sum of the mean squared differences (Gatys et al., Eq. 1)."""
    terms = [jnp.square(p - t).mean() for p, t in zip(predicted, target, strict=True)]
    return jnp.stack(terms).sum()


def squared_style_loss(predicted: Sequence[jax.Array], target: Sequence[jax.Array]) -> jax.Array:
    """Over layers, the sum of Σ (G - Ĝ)² / (N·H·W·C), G the Gram matrices of features [N, H, W, C].

    LISK's: the divisor is that of the features, not the Gram matrices' C².
    """
    terms = [
        jnp.square(gram_matrix(p) - gram_matrix(t)).sum() / p.size
        for p, t in zip(predicted, target, strict=True)
    ]
    return jnp.stack(terms).sum()


def masked_l1_loss(prediction: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over all elements of |mask · (prediction - target)|, so small regions count little.

    PConv's L_hole, and with 1 - M for the mask its L_valid (Sec. 3.3).
    """
    return jnp.abs(mask * (prediction - target)).mean()


def mean_squared_loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean over all elements of (prediction - target)²."""
    return jnp.square(prediction - target).mean()


def total_variation_loss(image: jax.Array, region: jax.Array) -> jax.Array:
    """Absolute differences of neighbours to the right and below that both lie in a region.

    Their sum over pairs, by the number of all elements of the image (PConv, Eq. 6).

    Args:
        image: of which to take differences.
        region: [N, H, W, 1], 1 inside.
    """
    below = jnp.abs(image[:, 1:] - image[:, :-1]) * (region[:, 1:] * region[:, :-1])
    beside = jnp.abs(image[:, :, 1:] - image[:, :, :-1]) * (region[:, :, 1:] * region[:, :, :-1])
    return (below.sum() + beside.sum()) / image.size


def kl_loss(mean: jax.Array, log_variance: jax.Array, reduction: str) -> jax.Array:
    """L_KL (Eq. 9): KL(N(μ, σ²) ‖ N(0, 1)) = (μ² + σ² - log σ² - 1) / 2.

    Args:
        mean: μ_i, [N, levels].
        log_variance: log σ_i², [N, levels].
        reduction: "mean" over the levels (w_i = 1 / levels) or "sum" (w_i = 1).
    """
    divergence = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - log_variance - 1.0)
    levels = divergence.mean(0)
    return levels.mean() if reduction == "mean" else levels.sum()


def adversarial_generator_loss(fake: jax.Array) -> jax.Array:
    """L_adv (Eq. 12): minus the mean of the discriminator's logits for fillings."""
    return -fake.mean()


def hinge_discriminator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """L_D (Eq. 13) as hinge: mean max(0, 1 - D(real)) + mean max(0, 1 + D(fake)).

    Args:
        real: logits of real pictures, which Eq. 13's first term means.
        fake: logits of fillings.
    """
    return jax.nn.relu(1.0 - real).mean() + jax.nn.relu(1.0 + fake).mean()


def logistic_generator_loss(fake: jax.Array) -> jax.Array:
    """Non-saturating logistic loss of a generator: mean softplus(-D(fake))."""
    return jax.nn.softplus(-fake).mean()


def logistic_discriminator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Logistic loss of a discriminator: mean softplus(D(fake)) + mean softplus(-D(real))."""
    return jax.nn.softplus(fake).mean() + jax.nn.softplus(-real).mean()


def wasserstein_discriminator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Loss of a critic (Arjovsky et al., arXiv 1701.07875): mean D(fake) - mean D(real)."""
    return fake.mean() - real.mean()


def relativistic_discriminator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """½ [mean (r - f̄ - 1)² + mean (f - r̄ + 1)²]: RaLSGAN (Jolicoeur-Martineau, arXiv 1807.00734).

    r̄ and f̄ are means over the logits of one example, so that examples do not know each other.

    Args:
        real: r, logits [N, h, w, 1] of real pictures.
        fake: f, logits of what a generator made of them.
    """
    axes = (1, 2, 3)
    above = real - fake.mean(axes, keepdims=True)
    below = fake - real.mean(axes, keepdims=True)
    return 0.5 * (jnp.square(above - 1.0).mean() + jnp.square(below + 1.0).mean())


def relativistic_generator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """`relativistic_discriminator_loss` with the places of real and fake exchanged."""
    return relativistic_discriminator_loss(fake, real)


def feature_matching_loss(fake: Sequence[jax.Array], real: Sequence[jax.Array]) -> jax.Array:
    """L_FM (EdgeConnect, Eq. 3): over a discriminator's outputs, the sum of mean |fake - real|.

    Args:
        fake: its outputs for what a generator made.
        real: its outputs for what is true, which are targets alone.
    """
    whole = [[x.astype(jnp.float32) for x in outputs] for outputs in (fake, real)]
    return perceptual_loss(whole[0], jax.lax.stop_gradient(whole[1]))


def hole_share_loss(prediction: jax.Array, target: jax.Array, share: jax.Array) -> jax.Array:
    """Mean |prediction - target| over all elements, divided by the holes' share of the batch.

    EdgeConnect's L1: with known pixels right, the mean over the holes. Its divisor vanishes with
    the holes; holes of less than a hundredth count as a hundredth.

    Args:
        prediction: raw output of the network.
        target: the whole picture.
        share: mean of the batch's masks, a scalar.
    """
    return jnp.abs(prediction - target).mean() / jnp.maximum(share, 0.01)


def r1_penalty(logits: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """R1 without its weight: half the squared norm of the logits' gradient at real images.

    Mescheder et al., arXiv 1801.04406. The mean over the batch of ‖∇_x D(x)‖² / 2.

    Args:
        logits: maps images [N, H, W, 3] to logits [N].
        images: real images.
    """
    gradient = jax.grad(lambda x: logits(x).sum())(images)
    return 0.5 * jnp.square(gradient).sum((1, 2, 3)).mean()


def gradient_penalty(critic: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """Mean of (‖∇_x D(x)‖₂ - 1)² over examples (Gulrajani et al., arXiv 1704.00028, Eq. 3).

    Args:
        critic: maps images [N, H, W, C] to any number of outputs for each.
        images: between real and made ones, α · real + (1 - α) · fake.
    """
    gradient = jax.grad(lambda x: critic(x).sum())(images)
    # A norm of exactly 0 has no gradient of its own.
    norms = jnp.sqrt(jnp.square(gradient).sum((1, 2, 3)) + 1e-12)
    return jnp.square(norms - 1.0).mean()


def path_lengths(
    synthesise: Callable[[jax.Array], jax.Array], codes: jax.Array, noise: jax.Array
) -> jax.Array:
    """Path lengths |J_wᵀ y| of StyleGAN2 (Eq. 4), y = noise / sqrt(H · W).

    Args:
        synthesise: maps codes [N, L, D] to images [N, H, W, 3].
        codes: [N, L, D].
        noise: N(0, 1) numbers in the images' shape.

    Returns:
        [N]: the root of the mean over levels of the squared gradient's sum over D.
    """
    images, pullback = jax.vjp(synthesise, codes)
    (gradient,) = pullback(noise / float((images.shape[1] * images.shape[2]) ** 0.5))
    return jnp.sqrt(jnp.square(gradient).sum(-1).mean(-1) + 1e-12)
