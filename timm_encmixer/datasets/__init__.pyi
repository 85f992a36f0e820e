from .encryption import decrypt_dataset as decrypt_dataset
from .encryption import encrypt_dataset as encrypt_dataset
from .inspection import describe_dataset as describe_dataset
from .inspection import verify_dataset as verify_dataset
from .push import push_dataset as push_dataset
from .run import DatasetCounts as DatasetCounts
from .run import join_processes as join_processes
