"""The residual block of EdgeConnect and of what was built on it."""

import flax.linen as nn
import jax

from gmsrm_jax.nn.layers import PlainConv, instance_norm
from gmsrm_jax.nn.norms import AffineInstanceNorm
from gmsrm_jax.nn.spectral import spectral


class ResidualBlock(nn.Module):
    """x + IN(3×3 conv(ReLU(IN(dilated 3×3 conv(x))))), mirrored outside, nothing after the sum.

    Attributes:
        dilation: of the first convolution; H and W must be larger.
        kernel_init: initialiser.
        use_bias: of both convolutions, whose effect the instance norms take away.
        spectral: divide both kernels by their largest singular value.
        affine: the norms have scale and shift.
        epsilon: of the norms.
    """

    dilation: int = 2
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    use_bias: bool = True
    spectral: bool = False
    affine: bool = False
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, *, update_stats: bool = False) -> jax.Array:
        """Maps [N, H, W, C] to the same shape."""
        y = x
        for name, dilation in (("first", self.dilation), ("second", 1)):
            layer = PlainConv(
                x.shape[-1],
                3,
                1,
                dilation,
                self.kernel_init,
                reflect=True,
                dilation=dilation,
                use_bias=self.use_bias,
                name=name,
            )
            y = spectral(layer, y, update_stats=update_stats) if self.spectral else layer(y)
            if self.affine:
                y = AffineInstanceNorm(self.epsilon, name=f"{name}_affine")(y)
            else:
                y = instance_norm(y, self.epsilon)
            if name == "first":
                y = nn.relu(y)
        return x + y
