from .encryption import decrypt_model as decrypt_model
from .encryption import encrypt_model as encrypt_model
from .encryption import rotate_model as rotate_model
from .record import scheme_of as scheme_of
from .support import Support as Support
