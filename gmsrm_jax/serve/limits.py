"""How much one server takes on, and the refusals that say so."""

from dataclasses import dataclass
from http import HTTPStatus

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        upload_bytes: of a request's whole body.
        pixels: of a picture or mask, checked before it is decoded.
        queue: requests under way, the one on the device included.
        seconds: for a request, from its first byte to its answer.
        samples: fillings of one picture; see `filled_pixels` for large ones.
        rings: rings of pixels by which a hole is blended or grows, one after another.
    """

    upload_bytes: int = 64 * MIB
    pixels: int = 50_000_000
    queue: int = 16
    seconds: float = 120.0
    samples: int = 8
    rings: int = 256

    @property
    def most(self) -> dict[str, int]:
        """Largest values of the options of a filling that cost time or memory."""
        return {"num_samples": self.samples, "feather": self.rings, "mask_dilate": self.rings}

    @property
    def filled_pixels(self) -> int:
        """Of all fillings of one picture together, which are in memory until they are sent.

        Such a pixel takes at most 15 bytes, of 8-bit RGB: as PNG (3), in base64 (4), and in JSON,
        as text and encoded (8); 1.5 GB with the default, for the one request that is worked on.
        How much of it is filled at a time is the inpainter's matter.
        """
        return 2 * self.pixels


class Refused(Exception):
    """A request that gets an error as its answer; the message is one line for people.

    Attributes:
        status: of the answer.
        retry_after: seconds after which to try again, None for never.
    """

    def __init__(self, status: HTTPStatus, message: str, retry_after: int | None = None):
        """Takes the status, the message and when to come back."""
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
