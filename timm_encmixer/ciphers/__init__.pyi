from .cipher import BlockCipher as BlockCipher
from .image_cipher import ImageCipher as ImageCipher
