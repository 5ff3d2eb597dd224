"""Parts of the prompt are removed or replaced, and the rest of the program is the same."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from broad_cases import SIDE, square
from engine_doubles import EVERYTHING, EchoBackbone, EchoGenerator, tiny_config, tiny_model
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.broad.changed_prompt import dense_alone, noise_alone, tokens_alone, with_change
from ProxyPromptSegmentLib.evaluation.broad.paper_prompt import DENSE, NOISE, TOKENS, WHOLE, score_prompt
from ProxyPromptSegmentLib.evaluation.broad.records import Scores
from ProxyPromptSegmentLib.evaluation.broad.rows import SHARE, rows_of
from ProxyPromptSegmentLib.evaluation.broad.tasks import Task
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import Decoded, Prompt


def a_case(number: int) -> Case:
    images, labels = square(seed=number)
    return Case(
        dataset="made",
        patient=f"p{number}",
        images=images.astype("float32"),
        masks=(labels > 0)[:, None].astype("uint8"),
        objects=("organ",),
        spacing_mm=None,
        name=f"p{number}",
    )


def a_prompt() -> Prompt:
    chance = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, 2, 5, 4, generator=chance) * torch.linspace(1, 9, 5).view(-1, 1)
    return Prompt(sparse=tokens, memory=tokens + 1, dense=torch.ones(3, 2, 4, 8, 8), presence=torch.ones(3, 2))


def test_tokens_alone_have_no_dense_prompt_and_the_dense_prompt_alone_no_tokens():
    prompt = a_prompt()
    tokens, dense = tokens_alone(prompt), dense_alone(prompt)
    assert tokens.dense is None and tokens.sparse is prompt.sparse and tokens.memory is prompt.memory
    assert dense.dense is prompt.dense and dense.sparse is None and dense.memory is None
    assert tokens.presence is dense.presence is prompt.presence


def test_noise_has_the_norm_of_every_token_and_nothing_of_its_direction():
    prompt = a_prompt()
    noise = noise_alone(prompt)
    assert noise.dense is None
    for mine, theirs in ((noise.sparse, prompt.sparse), (noise.memory, prompt.memory)):
        torch.testing.assert_close(mine.norm(dim=-1), theirs.norm(dim=-1))
        assert torch.nn.functional.cosine_similarity(mine, theirs, dim=-1).mean().abs() < 0.5
    torch.testing.assert_close(noise_alone(prompt).sparse, noise.sparse)
    assert noise_alone(tokens_alone(Prompt(dense=torch.ones(1)))).sparse is None


class MarkedGenerator(EchoGenerator):
    """Says in its tokens how bright the marked part of the supports is, and in its dense prompt nothing."""

    config = tiny_config(image_size=64, grid=64, channels=1)

    def prompt(self, features, support, chosen=None):
        weights = support.occupancy
        level = (support.features * weights).sum(dim=(0, 2)) / weights.sum(dim=(0, 2))
        tokens = torch.stack([level, 1 - level], dim=-1).expand(len(features.top), -1, -1)
        return Prompt(sparse=tokens.unsqueeze(2), dense=torch.ones(1), names=support.names)


class ListeningBackbone(EchoBackbone):
    """Draws what is as bright as its tokens say; without tokens nothing."""

    def decode(self, features, prompt):
        shape = (len(features.top), len(prompt.names))
        if prompt.sparse is None:
            return Decoded(logits=torch.full((*shape, 64, 64), -9.0), quality=torch.ones(shape))
        level = prompt.sparse[:, :, 0, 0]
        logits = (0.1 - (features.top - level[..., None, None]).abs()) * 100
        return Decoded(logits=logits, quality=torch.ones(shape))


def test_a_model_whose_tokens_carry_the_task_is_told_from_its_dense_prompt():
    segmenter = Segmenter(ProxyPromptModel(ListeningBackbone(), MarkedGenerator()), "cpu", across_slices=False)
    pool = [a_case(number) for number in range(4)]
    task = Task(dataset="made", objects=("organ",), targets=pool[:1], pool=pool)
    records = score_prompt(segmenter, task, pool[0], 2, 0)
    scores = {record.condition: record.score for record in records}
    assert list(scores) == [WHOLE, TOKENS, NOISE, DENSE]
    assert scores[WHOLE] == scores[TOKENS] == pytest.approx(1, abs=0.02)
    assert scores[DENSE] == 0 and scores[NOISE] < 0.2
    (share,) = [row for name, row in rows_of(Scores(facts={}, records=records)).items() if name[3] == SHARE]
    assert share.summary().mean == pytest.approx(1)
    assert score_prompt(segmenter, task, pool[0], 9, 0) == []


def test_a_changed_prompt_leaves_embeddings_supports_and_the_model_itself_as_they_were():
    segmenter = Segmenter(tiny_model(**EVERYTHING), "cpu", across_slices=False)
    case = a_case(0)
    prepared = segmenter.prepare(support_of(case))
    encoded: dict = {}
    before = segmenter.segment(case.images, prepared, encoded=encoded).probability
    keys = {index: one.keys for index, one in encoded.items()}
    changed = with_change(segmenter, tokens_alone).segment(case.images, prepared, encoded=encoded).probability
    assert {index: one.keys for index, one in encoded.items()} == keys, "the embeddings were reused"
    assert abs(changed - before).max() > 1e-3, "without its dense prompt it answers differently"
    assert (segmenter.segment(case.images, prepared, encoded=encoded).probability == before).all()
    assert before.shape[-1] == SIDE


def support_of(case: Case):
    from ProxyPromptSegmentLib.evaluation.broad.supports import support_set
    from ProxyPromptSegmentLib.evaluation.in_context import pair_of

    return support_set([pair_of(case, 1)], case)
