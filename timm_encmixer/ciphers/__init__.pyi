from .cipher import BlockCipher as BlockCipher
