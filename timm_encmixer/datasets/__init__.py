"""Whole data sets, shard by shard, on as many processes as there are: docs/datasets.md."""

from timm_encmixer.datasets.inspection import describe_dataset as describe_dataset
from timm_encmixer.datasets.inspection import verify_dataset as verify_dataset
from timm_encmixer.datasets.push import push_dataset as push_dataset
from timm_encmixer.datasets.run import DatasetCounts as DatasetCounts
from timm_encmixer.datasets.run import decrypt_dataset as decrypt_dataset
from timm_encmixer.datasets.run import encrypt_dataset as encrypt_dataset
from timm_encmixer.datasets.run import join_processes as join_processes
