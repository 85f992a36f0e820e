from .push import push_to_hub as push_to_hub
from .rotation import rotate_on_hub as rotate_on_hub
