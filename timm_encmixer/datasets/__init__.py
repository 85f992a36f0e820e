"""Whole data sets, shard by shard, on as many processes as there are: docs/datasets.md."""

from timm_encmixer.datasets.info import describe_dataset as describe_dataset
from timm_encmixer.datasets.info import verify_dataset as verify_dataset
from timm_encmixer.datasets.job import DatasetCounts as DatasetCounts
from timm_encmixer.datasets.job import decrypt_dataset as decrypt_dataset
from timm_encmixer.datasets.job import encrypt_dataset as encrypt_dataset
from timm_encmixer.datasets.job import join_processes as join_processes
from timm_encmixer.datasets.publish import push_dataset as push_dataset
