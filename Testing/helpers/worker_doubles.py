"""Jobs, engines and machines with little memory for the tests of the worker thread's tasks."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import engine_doubles  # noqa: F401 - skips where a package is missing
from optional_packages import skip_without
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.inference.loading import LoadedModel
from ProxyPromptSegmentLib.inference.results import ModelFacts
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.checkpoints import load_model
from ProxyPromptSegmentLib.networks.folding import fold_norms
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.weights.registry import resolve
from ProxyPromptSegmentLib.worker.context import Context
from ProxyPromptSegmentLib.worker.engine import Engine
from ProxyPromptSegmentLib.worker.events import SliceReady
from ProxyPromptSegmentLib.worker.tasks import LiveTask, SegmentTask
from remembered import half_precision, remember_embeddings

SIZE = (10, 40, 40)
SUPPORTS = (3, 4, 5)  # slices

# Drawn once; no task may change it, and a test sees to that.
phantom = functools.cache(lambda seed: pelvis_phantom(seed, SIZE))


def a_support_case(seed=11, objects=("prostate",), slices=SUPPORTS):
    """A phantom with its prostate, and with the half of it that lies to the front."""
    volume, marks = phantom(seed)
    whole = marks.segments[0]
    front = whole.mask.copy()
    front[:, SIZE[1] // 2 :] = 0
    both = {"prostate": whole, "front": Segment("front", front, (0.2, 0.5, 0.8))}
    return SupportCase(volume, Segmentation([both[name] for name in objects], volume.geometry), slices)


def a_job(seed=12, support=11, objects=("prostate",), slices=None, support_slices=SUPPORTS):
    return plan([a_support_case(support, objects, support_slices)], phantom(seed)[0], slices=slices)


def embedded(name="sam-compact", remember=True):
    """The weights that come with the program, as `inference.loading` prepares them; what was embedded is remembered."""
    skip_without(name)
    model = load_model(*resolve(name))[0]
    fold_norms(model)
    return remember_embeddings(model, name) if remember else model


def loaded(segmenter, name="sam-compact"):
    facts = ModelFacts(name=name, path=Path(name), sha256="0" * 64, metadata={"name": name})
    return LoadedModel(segmenter=segmenter, facts=facts)


def an_engine(segmenter, **options):
    """An engine whose only model is there already."""
    return Engine(load=lambda model, device: loaded(segmenter, model), devices=lambda device: ("cpu",), **options)


def whole_slices(job, **options):
    """A task that segments whole slices alone, to be compared with the segmenter."""
    return SegmentTask(job, **{"closer": False, **options})


def whole_slice(job, index, **options):
    """The preview of one of these slices."""
    return LiveTask(job, index, closer=False, **options)


class Talk:
    """A context in the thread of the test, and all that was said in it."""

    def __init__(self, on_event=None):
        self.events, self.cancel, self._on_event = [], CancelToken(), on_event

    def hear(self, event):
        self.events.append(event)
        if self._on_event:
            self._on_event(event)

    def do(self, task, engine):
        return task(engine, Context(1, self.cancel, self.hear))

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def masks(self, shape):
        """What a receiver holds in the end, ``(S, N, H, W)``: the last masks of each slice."""
        received = np.zeros(shape, np.uint8)
        for event in self.of(SliceReady):
            received[event.index] = event.masks
        return received


class Machine:
    """Devices that hold so much: what goes through their networks at once is limited.

    Attributes:
        limits: For each device how many slices times support pairs a prompt may need; halved numbers need half.
        encodes: How many images the encoder may see at once there.
        half: Devices that have half precision.
        fast: Devices that are fast in it.
        opened: Devices and precisions on which the model was opened.
    """

    def __init__(self, model, limits, encodes=None, batch=4, half=(), fast=(), nan_in_half=False):
        self.limits, self.encodes, self.batch = limits, encodes or {}, batch
        self.half, self.fast = half, fast
        self.opened, self.left, self.released, self.asked, self.encoded = [], [], [], [], []
        self._model, self._nan = model, nan_in_half

    def engine(self):
        """An engine on these devices, in their order."""
        return Engine(
            load=self._load,
            devices=lambda device: tuple(self.limits),
            half_type=lambda device: torch.bfloat16 if device in self.half else None,
            fast_half=lambda device: device in self.fast,
        )

    def _load(self, name, device):
        self.opened.append(device)
        if self.limits[device] == 0:
            raise torch.cuda.OutOfMemoryError(f"the model does not fit into {device}")
        model = copy.deepcopy(self._model)
        prompt, encode = model.generator.prompt, model.backbone.encode

        def small_prompt(features, support, chosen=None):
            wanted = len(features.top) * len(support.features)
            half = half_precision()
            self.asked.append((device, half, len(features.top), len(support.features)))
            if wanted / (2 if half else 1) > self.limits[device]:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            answer = prompt(features, support, chosen)
            if half and self._nan:
                answer.dense.fill_(float("nan"))
            return answer

        def small_encode(images, valid=None):
            if len(images) > self.encodes.get(device, 1000):
                raise RuntimeError("MPS backend out of memory")
            features = encode(images, valid)
            self.encoded.append(half_precision())
            if self.encoded[-1] and self._nan:
                features.top.fill_(float("nan"))
            return features

        model.generator.prompt, model.backbone.encode = small_prompt, small_encode
        return loaded(Segmenter(model, "cpu", self.batch), name)
