"""Loaders that give encrypted batches on the device: a plain uint8 loader, sharded by accelerate, and the cipher after it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from timm.data.distributed_sampler import OrderedDistributedSampler, RepeatAugSampler
from timm.data.loader import PrefetchLoader
from timm.data.transforms import MaybePILToTensor, MaybeToTensor
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset
from torchvision.transforms import Compose, Normalize, ToTensor

from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.distributed.processes import check_launch, on_every_process, same_everywhere
from timm_encmixer.errors import DataError
from timm_encmixer.images.tensors import cipher_input

_SHARDING = (DistributedSampler, OrderedDistributedSampler, RepeatAugSampler)
_UINT8_REMEDY = "give a loader of uint8 batches (N, C, H, W): augment and resize in the data set, normalise nothing"


class EncryptedLoader:
    """Batches of an encrypted model's inputs; made by `prepare_encrypted`.

    Each batch is what the plain loader gives, on the accelerator's device, with the images encrypted and normalised. It is
    iterated as accelerate's own loaders are, so `gather_for_metrics`, `accumulate` and `skip_first_batches(loader.sharded)`
    work as usual. No batch is read before accelerate reads it.

    Attributes:
        sharded: accelerate's loader of this process's plain uint8 batches.
        cipher: What encrypts them.

    Examples:
        >>> accelerator = accelerate.Accelerator(cpu=True)
        >>> pixels = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
        >>> loader = DataLoader(TensorDataset(pixels, torch.arange(8)), batch_size=4)
        >>> cipher = te.BlockCipher("owner.key", te.find_scheme("encrypted"))
        >>> encrypted = te.prepare_encrypted(accelerator, loader, cipher)
        >>> isinstance(encrypted, te.EncryptedLoader), len(encrypted)
        (True, 2)
    """

    def __init__(
        self,
        sharded: Any,
        cipher: BlockCipher,
        device: torch.device,
        *,
        images: int | str = 0,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format | None = None,
    ) -> None:
        self.sharded, self.cipher, self.device = sharded, cipher, device
        self._images, self._dtype, self._memory_format = images, dtype, memory_format
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.sharded)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.sharded:
            yield self._encrypted(batch)

    def set_epoch(self, epoch: int) -> None:
        """Tell the sampler which epoch comes next."""
        self.sharded.set_epoch(epoch)

    def _encrypted(self, batch: Any) -> Any:
        """Move a batch to the device and encrypt it; on a GPU beside the work that the consumer has queued there already.

        The side stream needs no reading ahead: the consumer's kernels for the last batch are still running when Python comes
        back for the next one. Pinned memory (`DataLoader(pin_memory=True)`) makes the copy asynchronous too.
        """
        if self._stream is None:
            return self._replace_images(send_to_device(batch, self.device))
        consumer = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            moved = self._replace_images(send_to_device(batch, self.device, non_blocking=True))
        consumer.wait_stream(self._stream)
        for tensor in _tensors(moved):
            tensor.record_stream(consumer)  # else its memory could be given to the next batch while it is in use
        return moved

    def _replace_images(self, batch: Any) -> Any:
        if isinstance(batch, Tensor):
            return self._input(batch)
        try:
            pixels = batch[self._images]
        except (KeyError, IndexError, TypeError) as error:
            got = f"{type(batch).__name__}" + (f" with {', '.join(map(str, batch))}" if isinstance(batch, dict) else "")
            raise DataError("loader", f"batches with images at {self._images!r}", got, "pass images=") from error
        if isinstance(batch, dict):
            return {**batch, self._images: self._input(pixels)}
        index = int(self._images)
        return [*batch[:index], self._input(pixels), *batch[index + 1 :]]

    def _input(self, pixels: Any) -> Tensor:
        if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
            got = str(pixels.dtype) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise DataError("loader", "uint8 images", got, _UINT8_REMEDY)
        inputs = cipher_input(self.cipher, pixels, self._dtype)
        return inputs if self._memory_format is None else inputs.contiguous(memory_format=self._memory_format)


def prepare_encrypted(
    accelerator: Accelerator,
    loader: Any,
    cipher: BlockCipher,
    *,
    images: int | str = 0,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format | None = None,
) -> EncryptedLoader:
    """Shard a loader of plain images over the processes and encrypt each batch on the device.

    Resizing, cropping and augmentation stay in the data set, before the cipher. Loaders of
    `timm.data.create_loader` are taken as they are. If a loader has timm's prefetcher, the loader inside it is used. If it has
    none, a copy is used whose transform ends at the uint8 stage. Neither is changed. Their normalisation is not applied. The
    cipher comes directly after the uint8 stage, then /255 and mean = std = 1/2, as an encrypted model wants it.

    Args:
        accelerator: The run. Every process must call this.
        loader: DataLoader of uint8 batches (N, C, H, W), or of sequences or dicts that hold them; or timm's.
        cipher: The same on every process; `share_key` gives them the key.
        images: Where a batch holds the images: an index or a name.
        dtype: Of the inputs.
        memory_format: Of the inputs, for example torch.channels_last; None keeps that of the batches.

    Raises:
        ProcessError: Fewer processes run than were asked for, or another process has another cipher.
        DataError: A loader that shards its data itself, erases or normalises after the uint8 stage; or, while it is
            iterated, batches that are not uint8.

    Examples:
        >>> accelerator = accelerate.Accelerator(cpu=True)
        >>> pixels = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
        >>> loader = DataLoader(TensorDataset(pixels, torch.arange(8)), batch_size=4)
        >>> cipher = te.BlockCipher("owner.key", te.find_scheme("encrypted"))
        >>> images, labels = next(iter(te.prepare_encrypted(accelerator, loader, cipher)))
        >>> images.shape, images.dtype
        (torch.Size([4, 3, 32, 32]), torch.float32)
    """
    check_launch()
    plain = on_every_process(lambda: _uint8_loader(loader))
    same_everywhere("cipher", _digest(cipher), remedy="make it from share_key(accelerator) and one model")
    overlapped = accelerator.device.type == "cuda"
    sharded = accelerator.prepare_data_loader(plain, device_placement=False if overlapped else None)
    return EncryptedLoader(sharded, cipher, accelerator.device, images=images, dtype=dtype, memory_format=memory_format)


def _uint8_loader(loader: Any) -> DataLoader[Any]:
    """Return the loader of uint8 batches that is in `loader`, or equals it but for the end of its transform."""
    if isinstance(loader, PrefetchLoader):  # accelerate would leave it unsharded: every process would see every sample
        if loader.random_erasing is not None:
            raise _erasing()
        loader = loader.loader
    if not isinstance(loader, DataLoader):
        raise DataError("loader", "a torch DataLoader or timm's", type(loader).__name__, "make one: DataLoader(dataset, ...)")
    if isinstance(getattr(loader, "sampler", None), _SHARDING):
        got = type(loader.sampler).__name__
        raise DataError("loader", "all samples: accelerate shards them", got, "leave distributed=True to accelerate")
    transform = getattr(loader.dataset, "transform", None)
    if not isinstance(transform, Compose) or not any(isinstance(step, Normalize) for step in transform.transforms):
        return loader
    steps = list(transform.transforms)
    if not isinstance(steps[-1], Normalize):
        raise _erasing()
    if len(steps) < 2 or not isinstance(steps[-2], (ToTensor, MaybeToTensor)):
        raise DataError("loader", "a transform that ends in ToTensor, Normalize", f"{steps[-2:]}", _UINT8_REMEDY)
    dataset = copy.copy(loader.dataset)
    dataset.transform = Compose([*steps[:-2], MaybePILToTensor()])  # type: ignore[attr-defined]
    return _with_dataset(loader, dataset)


def _erasing() -> DataError:
    remedy = "set re_prob=0: on ciphertext it would erase other places than on the plain image"
    return DataError("loader", "augmentation before the uint8 stage", "random erasing after it", remedy)


def _with_dataset(loader: DataLoader[Any], dataset: Any) -> DataLoader[Any]:
    """Return a loader of another data set of the same length, otherwise as `loader`."""
    batches: dict[str, Any] = {"batch_sampler": loader.batch_sampler}
    if isinstance(dataset, IterableDataset) or loader.batch_sampler is None:
        batches = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
    same = ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "generator", "persistent_workers")
    arguments = {name: getattr(loader, name) for name in (*same, "prefetch_factor", "multiprocessing_context")}
    return DataLoader(dataset, **batches, **arguments)


def _digest(cipher: BlockCipher) -> str:
    """Return a digest that differs for ciphers that do: of the record, and of what becomes of one block of noise."""
    scheme = cipher.scheme
    side = scheme.patch_size
    probe = torch.rand(1, scheme.in_chans, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    block = copy.deepcopy(cipher).cpu().encrypt(probe)
    return hashlib.sha256(scheme.to_json().encode() + block.numpy().tobytes()).hexdigest()[:16]


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, dict):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from _tensors(value)
