"""SAM 2 as a backbone: proxy prompt tokens and the memories of earlier frames meet in its memory attention.

The order of the tokens is fixed: spatial memories (which get the rotary encoding), proxy prompt, object pointers.
Three of the package's behaviours are not used, because each of them would hide what a prompt does: masks replaced by a
constant where the objectness score is negative, the choice among three masks by the estimated IoU, and the fallback to
them where the single mask looks unstable. The single-mask token is used in training and in use.

References:
    Ravi et al., SAM 2, 2024; Proxy Prompt, section 3.3. The layout of memories and pointers is that of the package's
    ``SAM2Base._prepare_memory_conditioned_features``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.networks.backbones.memory_bridge import MemoryBridge
from ProxyPromptSegmentLib.networks.backbones.sam2_architectures import COMPACT_NAME, SAM2_CONFIGS, build_sam2_modules
from ProxyPromptSegmentLib.networks.backbones.sam2_decoder import predict_masks
from ProxyPromptSegmentLib.networks.devices import without_autocast
from ProxyPromptSegmentLib.networks.values import Decoded, FrameMemory, ImageFeatures, Prompt

# ImageNet's statistics, on 0..1: those of the official weights.
SAM2_MEAN, SAM2_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Logits that a given mask becomes, as in the package's ``_use_mask_as_output``.
MASK_SCALE, MASK_BIAS = 20.0, -10.0
CORNERS = (2, 3)  # labels of a box's corners among points, as the package has them


class Sam2Backbone(nn.Module):
    """The `Backbone` protocol on ``sam2``'s modules, with a memory.

    Attributes:
        name: One of `SAM2_NAMES`.
        image_size: Side of the square input in pixels.
        grid: Side of the feature grid.
        channels: Channels of the embedding.
        memory_channels: Channels of a memory.
        memories: How many earlier frames' spatial memories are read.
        pointers: How many frames' object pointers are read.
        sam2: The package's own module, whose state dict is the official checkpoint's.
        few_tokens: Whether `token_decoder` decodes where it can; False to compare its speed with the package's.
        bridge: From proxy prompt tokens to memory tokens; None for prompts without such tokens.
    """

    def __init__(
        self, name: str, bridge: str | None = "linear", grid_positions: bool = False, image_size: int | None = None
    ) -> None:
        """Build the modules with random weights; `checkpoints` fills them.

        Args:
            name: One of `SAM2_NAMES`.
            bridge: See `MemoryBridge`; None for prompts that never reach the memory attention.
            grid_positions: See `MemoryBridge`.
            image_size: See `build_sam2_modules`.
        """
        super().__init__()
        self.sam2 = build_sam2_modules(name, image_size)
        self.name = name
        self.few_tokens = True
        self.image_size = int(self.sam2.image_size)
        self.grid = self.image_size // int(self.sam2.backbone_stride)
        self.channels = int(self.sam2.hidden_dim)
        self.memory_channels = int(self.sam2.mem_dim)
        self.memories = int(self.sam2.num_maskmem) - 1
        self.pointers = int(self.sam2.max_obj_ptrs_in_encoder)
        self.bridge: MemoryBridge | None = (
            None if bridge is None else MemoryBridge(self.channels, self.memory_channels, bridge, grid_positions)
        )
        mean, std = (SAM2_MEAN, SAM2_STD) if name in SAM2_CONFIGS else ((0.5,) * 3, (0.25,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def keeps_aspect(self) -> bool:
        """Whether images are letterboxed; the official weights were trained on images squashed to a square."""
        return self.name == COMPACT_NAME

    def encode(self, images: torch.Tensor, valid: torch.Tensor | None = None) -> ImageFeatures:
        """Embed images; no memory is involved.

        Args:
            images: ``(B, 3, size, size)`` in 0..1.
            valid: Feature positions that are not padding, bool ``(B, g, g)``; None means all.
        """
        if valid is None:
            valid = torch.ones(images.shape[0], self.grid, self.grid, dtype=torch.bool, device=images.device)
        levels = self.sam2.forward_image((images - self.mean) / self.std)["backbone_fpn"]
        high_res = tuple(levels[:2]) if self.sam2.use_high_res_features_in_sam else None
        return ImageFeatures(top=levels[-1], positions=self.positions(), valid=valid, high_res=high_res)

    def positions(self) -> torch.Tensor:
        """Return SAM's random Fourier encoding of the grid, ``(C, g, g)``."""
        with without_autocast(self.mean.device):  # angles of many turns, which bfloat16 cannot hold
            return self.sam2.sam_prompt_encoder.get_dense_pe()[0]

    def decode(
        self, features: ImageFeatures, prompt: Prompt, memories: Sequence[FrameMemory] = (), frame: int = 0
    ) -> Decoded:
        """Predict the objects of the prompt on the embedded frames; single-mask output (token 0).

        Args:
            features: ``B`` embedded frames.
            prompt: For ``B`` frames and ``N`` objects; ``memory`` reaches the memory attention, ``sparse``,
                ``dense`` and ``mask`` the mask decoder.
            memories: Memories of earlier frames, of ``B * N`` tracks each. Without memories and
                ``prompt.memory`` the frame stands alone, as in SAM 2 on images.
            frame: Number of this frame in the order of tracking; memories have smaller ones.

        Returns:
            Logits ``(B, N, 4g, 4g)``, estimated IoU and objectness ``(B, N)`` with the prompt's presence added to its
            logit, and pointer ``(B, N, C)``.
        """
        batch, objects = _shape_of(prompt, memories, features.top.shape[0])
        masks, quality, tokens, score = self._predicted(features, prompt, memories, frame, objects, (0,))
        presence = score[:, 0] if self.sam2.pred_obj_scores else None
        if presence is not None and prompt.presence is not None:  # what the supports say, beside what the memories say
            presence = presence + prompt.presence.flatten().to(presence.dtype)
        there = None
        if presence is not None:
            there = torch.sigmoid(presence) if self.sam2.soft_no_obj_ptr else (presence > 0).to(presence.dtype)
        pointer = self._pointer(tokens[:, 0], there)
        return Decoded(
            logits=masks[:, 0].unflatten(0, (batch, objects)),
            quality=quality[:, 0].unflatten(0, (batch, objects)),
            presence=None if presence is None else presence.unflatten(0, (batch, objects)),
            pointer=pointer.unflatten(0, (batch, objects)),
        )

    def decode_masks(
        self, features: ImageFeatures, prompt: Prompt, outputs: Sequence[int] = (0, 1, 2, 3)
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return some of the decoder's masks on frames that stand alone: 0 is the single mask, 1 to 3 are readings.

        Args:
            features: ``B`` embedded frames.
            prompt: For ``B`` frames and ``N`` objects.
            outputs: Numbers of the masks.

        Returns:
            Logits ``(B, N, len(outputs), 4g, 4g)`` and estimated IoU ``(B, N, len(outputs))``.
        """
        batch, objects = _shape_of(prompt, (), features.top.shape[0])
        masks, quality, _, _ = self._predicted(features, prompt, (), 0, objects, outputs)
        return masks.unflatten(0, (batch, objects)), quality.unflatten(0, (batch, objects))

    def _predicted(
        self,
        features: ImageFeatures,
        prompt: Prompt,
        memories: Sequence[FrameMemory],
        frame: int,
        objects: int,
        outputs: Sequence[int],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return some of the decoder's masks, their IoU and tokens, and the objectness, for ``B * N`` tracks."""
        count = features.top.shape[0] * objects
        image = self.condition(features, prompt, memories, frame, objects)
        encoder, decoder = self.sam2.sam_prompt_encoder, self.sam2.sam_mask_decoder
        if prompt.sparse is not None:
            sparse = prompt.sparse.flatten(0, 1)
        else:  # what the package's encoder makes of no click at all: two tokens "not a point"
            sparse = encoder.not_a_point_embed.weight.unsqueeze(0).expand(count, 2, -1)
        parts = [] if prompt.dense is None else [prompt.dense.flatten(0, 1)]
        if prompt.mask is not None:
            parts.append(encoder.mask_downscaling(prompt.mask.flatten(0, 1).unsqueeze(1)))
        if not parts:
            parts.append(encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(count, -1, self.grid, self.grid))
        image = image + sum(parts[1:], parts[0])
        high_res = self._high_res(features, objects)
        return predict_masks(decoder, image, features.positions, sparse, high_res, outputs, self.few_tokens)

    def condition(
        self, features: ImageFeatures, prompt: Prompt, memories: Sequence[FrameMemory], frame: int, objects: int
    ) -> torch.Tensor:
        """Let the frame's features attend to memories, proxy prompt and pointers; ``(B * N, C, g, g)``."""
        network = self.sam2
        top = features.top.repeat_interleave(objects, dim=0)
        usable = self.readable(memories, frame)
        if prompt.memory is None and not usable:
            return top + network.no_mem_embed.reshape(1, -1, 1, 1)
        count = top.shape[0]
        tokens, positions = [], []
        grid_positions: torch.Tensor | None = None  # of every memory the same
        for memory in usable:
            ago = frame - memory.frame
            if memory.conditioning or 1 <= ago <= self.memories:
                if grid_positions is None:
                    grid_positions = self._memory_positions(memory.spatial)
                index = self.memories if memory.conditioning else ago - 1
                tokens.append(memory.spatial.flatten(2).permute(2, 0, 1))
                positions.append((grid_positions + network.maskmem_tpos_enc[index]).expand(-1, count, -1))
        unrotated = 0
        if prompt.memory is not None:
            assert self.bridge is not None  # a generator of such tokens brings it
            proxy, encoding = self.bridge(prompt.memory.flatten(0, 1), network.memory_encoder.position_encoding)
            tokens.append(proxy.transpose(0, 1))
            positions.append((encoding.transpose(0, 1) + network.maskmem_tpos_enc[self.memories]).expand(-1, count, -1))
            unrotated += proxy.shape[1]
        if usable and network.use_obj_ptrs_in_encoder:
            pointers, encoding = self._pointer_tokens(usable, frame)
            tokens.append(pointers)
            positions.append(encoding.expand(-1, count, -1))
            unrotated += pointers.shape[0]
        seen = network.memory_attention(
            curr=top.flatten(2).permute(2, 0, 1),
            curr_pos=self._frame_positions(top).expand(-1, count, -1),
            memory=torch.cat(tokens),
            memory_pos=torch.cat(positions),
            num_obj_ptr_tokens=unrotated,
        )
        return seen.permute(1, 2, 0).unflatten(-1, (self.grid, self.grid))

    def readable(self, memories: Sequence[FrameMemory], frame: int) -> list[FrameMemory]:
        """Return the memories within reach: conditioning ones, and frames still used by spatial memory or pointer."""
        reach = max(self.memories, self.pointers - 1)
        return [m for m in memories if m.frame < frame and (m.conditioning or frame - m.frame <= reach)]

    def remember(self, features: ImageFeatures, decoded: Decoded, frame: int) -> FrameMemory:
        """Encode a frame's own prediction as a memory for later frames.

        Args:
            features: ``B`` embedded frames.
            decoded: The prediction for the frame, ``B`` by ``N``.
            frame: Number of the frame in the order of tracking.
        """
        count = decoded.logits.shape[0] * decoded.logits.shape[1]
        logits = decoded.logits.flatten(0, 1).unsqueeze(1).float()
        size = (self.image_size, self.image_size)
        full = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        score = logits.new_full((count, 1), 10.0)
        if decoded.presence is not None:
            score = decoded.presence.reshape(count, 1)
            # The package writes -1024 into an absent object's mask; its sigmoid is this zero.
            full = torch.where(score[..., None, None] > 0, full, full.new_full((), -1024.0))
        if decoded.pointer is None:
            raise ValueError("only what SAM 2 decoded has a pointer and can be remembered")
        return FrameMemory(
            frame=frame, spatial=self._spatial(features, full, score), pointer=decoded.pointer.flatten(0, 1)
        )

    def remember_mask(self, features: ImageFeatures, masks: torch.Tensor, frame: int) -> FrameMemory:
        """Encode given masks (a correction, or a support as a first frame) as a conditioning memory.

        The mask alone decides whether the object is there; the package also asks the decoder and, where that doubts,
        forgets the pointer of a mask that was given.

        Args:
            features: ``B`` embedded frames.
            masks: 0 or 1, ``(B, N, size, size)``.
            frame: Number of the frame in the order of tracking.
        """
        objects = masks.shape[1]
        flat = masks.flatten(0, 1).unsqueeze(1).float()
        present = flat.flatten(1).amax(dim=1, keepdim=True)
        score = MASK_SCALE * present + MASK_BIAS
        spatial = self._spatial(features, flat * MASK_SCALE + MASK_BIAS, score)
        network = self.sam2
        pointer = flat.new_zeros(len(flat), self.channels)
        if network.use_obj_ptrs_in_encoder:
            wanted = network.sam_prompt_encoder.mask_input_size
            small = network.mask_downsample(flat)
            if tuple(small.shape[-2:]) != tuple(wanted):
                # In training half precision comes out of the convolution, for which a CPU has no antialiased resizing.
                small = functional.interpolate(
                    small.float(), size=wanted, mode="bilinear", align_corners=False, antialias=True
                )
            no_click = torch.zeros(len(flat), 1, 2, device=flat.device)
            label = -torch.ones(len(flat), 1, dtype=torch.int32, device=flat.device)
            sparse, dense = network.sam_prompt_encoder(points=(no_click, label), boxes=None, masks=small)
            _, _, tokens, _ = network.sam_mask_decoder.predict_masks(
                image_embeddings=features.top.repeat_interleave(objects, dim=0),
                image_pe=features.positions.unsqueeze(0),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                repeat_image=False,
                high_res_features=self._high_res(features, objects),
            )
            pointer = self._pointer(tokens[:, 0], present[:, 0])
        return FrameMemory(frame=frame, spatial=spatial, pointer=pointer, conditioning=True)

    def prompt_points(
        self, points: torch.Tensor | None, labels: torch.Tensor | None, boxes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embed clicks and boxes as SAM 2 does, for which the corners of a box are two more points.

        Args:
            points: Pixel positions ``(x, y)`` in the square, ``(M, P, 2)``; None for a box alone.
            labels: 1 inside, 0 outside, ``(M, P)``.
            boxes: Centres of the first and the last pixel ``(x, y, x, y)``, ``(M, 4)``.

        Returns:
            Tokens ``(M, t, C)``: those of the box's corners, of the clicks and of a padding point.
        """
        places, kinds = [], []
        if boxes is not None:
            places.append(boxes.reshape(-1, 2, 2))
            kinds.append(torch.tensor(CORNERS, dtype=torch.int32, device=boxes.device).expand(len(boxes), -1))
        if points is not None and labels is not None:
            places.append(points)
            kinds.append(labels)
        with without_autocast(self.mean.device):
            sparse, _ = self.sam2.sam_prompt_encoder(
                points=(torch.cat(places, dim=1), torch.cat(kinds, dim=1)), boxes=None, masks=None
            )
        return sparse

    def _spatial(self, features: ImageFeatures, logits: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
        """Encode features and full-size logits ``(B * N, 1, size, size)`` as a spatial memory ``(B * N, M, g, g)``."""
        network = self.sam2
        top = features.top.repeat_interleave(len(logits) // features.top.shape[0], dim=0)
        mask = torch.sigmoid(logits) * network.sigmoid_scale_for_mem_enc + network.sigmoid_bias_for_mem_enc
        spatial = network.memory_encoder(top, mask, skip_mask_sigmoid=True)["vision_features"]
        if network.no_obj_embed_spatial is not None:
            absent = (score <= 0).to(spatial.dtype)[..., None, None]
            spatial = spatial + absent * network.no_obj_embed_spatial[..., None, None]
        return spatial

    def _pointer(self, token: torch.Tensor, there: torch.Tensor | None) -> torch.Tensor:
        """Return the object pointer ``(M, C)`` of the mask token, or the "not there" pointer where ``there`` is 0."""
        network = self.sam2
        pointer = network.obj_ptr_proj(token)
        if there is None or not network.pred_obj_scores:
            return pointer
        there = there.unsqueeze(-1)
        kept = there * pointer if network.fixed_no_obj_ptr else pointer
        return kept + (1 - there) * network.no_obj_ptr

    def _pointer_tokens(self, memories: Sequence[FrameMemory], frame: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pointers split to the memory's width, ``(T, B * N, M)``, and their temporal encoding ``(T, 1, M)``."""
        from sam2.modeling.sam2_utils import get_1d_sine_pe

        network = self.sam2
        # The pointers of conditioning frames come first, then the nearest frame's and so on, as in the package.
        near = sorted((m for m in memories if not m.conditioning), key=lambda m: -m.frame)
        near = [m for m in near if frame - m.frame <= self.pointers - 1]
        chosen = [m for m in memories if m.conditioning] + near
        pointers = torch.stack([memory.pointer for memory in chosen])
        pieces = self.channels // self.memory_channels
        length, count = pointers.shape[:2]
        tokens = pointers.reshape(length, count, pieces, self.memory_channels).permute(0, 2, 1, 3).flatten(0, 1)
        encoding = tokens.new_zeros(length, self.memory_channels)
        if network.add_tpos_enc_to_obj_ptrs:
            ago = torch.tensor([frame - m.frame for m in chosen], dtype=torch.float32, device=tokens.device)
            width = self.channels if network.proj_tpos_enc_in_obj_ptrs else self.memory_channels
            encoding = network.obj_ptr_tpos_proj(get_1d_sine_pe(ago / (self.pointers - 1), dim=width))
        return tokens, encoding.repeat_interleave(pieces, dim=0).unsqueeze(1)

    def _high_res(self, features: ImageFeatures, objects: int) -> list[torch.Tensor] | None:
        """Return the decoder's finer features, one copy for each object."""
        if features.high_res is None:
            return None
        return [level.repeat_interleave(objects, dim=0) for level in features.high_res]

    def _frame_positions(self, top: torch.Tensor) -> torch.Tensor:
        """Return SAM 2's sine encoding of the feature grid, ``(P, 1, C)``."""
        encoding = self.sam2.image_encoder.neck.position_encoding(top[:1])
        return encoding.flatten(2).permute(2, 0, 1).to(top.dtype)

    def _memory_positions(self, spatial: torch.Tensor) -> torch.Tensor:
        """Return the sine encoding of a memory's grid, ``(P, 1, M)``."""
        encoding = self.sam2.memory_encoder.position_encoding(spatial[:1])
        return encoding.flatten(2).permute(2, 0, 1).to(spatial.dtype)


def _shape_of(prompt: Prompt, memories: Sequence[FrameMemory], batch: int) -> tuple[int, int]:
    """Return the numbers of targets ``B`` and objects ``N``, from any field of the prompt, else from the memories."""
    for field in (prompt.memory, prompt.sparse, prompt.dense, prompt.mask):
        if field is not None:
            return field.shape[0], field.shape[1]
    if memories:
        return batch, memories[0].pointer.shape[0] // batch
    return batch, 1
