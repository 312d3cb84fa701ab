"""What libraries raise for files that cannot be read, so that every reader turns away the same."""

import struct
import zipfile
import zlib

from PIL import Image

# Pillow: files that are missing, cut short, not pictures, or absurdly large.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
# NumPy: npz files that are missing, cut short, of another format, or lack a key.
UNREADABLE_NPZ = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    zipfile.BadZipFile,
    zlib.error,
)
