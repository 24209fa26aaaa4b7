"""FTRE against plain layers, and which gradient of L_MI reaches what."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F

from finelib.config import FineConfig
from finelib.ftre import FTRE, FTREOutput, MutualInformation, reconstruction_loss
from finelib.mutual_information import info_nce, nce_club

FACTOR = {"T": 6, "A": 4, "V": 6}  # widths differ
TASK, TOKENS, SIZE = 8, 3, 10
CLASSES = torch.tensor([0, 0, 1, 1, 1, 2, 2, 0, 1, 2])
LABEL = torch.linspace(-3, 3, SIZE)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def leaves(widths):
    return {m: torch.randn(SIZE, TOKENS, w, requires_grad=True) for m, w in widths.items()}


def make_features(modalities="TAV"):
    """Features that are leaves of the graph, so that gradients to the encoders can be read off."""
    factor = {m: FACTOR[m] for m in modalities}
    task, tokens = dict.fromkeys(modalities, TASK), dict.fromkeys(modalities, 12)
    return FTREOutput(leaves(tokens), leaves(factor), leaves(factor), leaves(task), leaves(task), leaves(tokens))


def make_information(modalities="TAV", **options):
    factor = {m: FACTOR[m] for m in modalities}
    config = FineConfig(task_width=TASK, label_width=4, critic_width=16, **options)
    return MutualInformation(factor, config, label_low=-3.0, label_high=3.0)


def reaches(loss, tensors):
    """Whether the loss sends gradient to each tensor."""
    grads = torch.autograd.grad(loss, list(tensors), allow_unused=True, retain_graph=True)
    return [g is not None and bool(g.abs().max() > 0) for g in grads]


def plain_scores(critic, index, x, y):
    """DotCritic's scores from plain linear maps; the first layer is cut to the width of x and of y."""
    out = []
    for net, v in ((critic.g, x), (critic.h, y)):
        first, last = net[0], net[2]
        v = F.gelu(F.linear(v, first.weight[index, : v.shape[1]].T, first.bias[index, 0]))
        out.append(F.linear(v, last.weight[index].T, last.bias[index, 0]))
    return out[0] @ out[1].T / 4  # sqrt(16)


def pooled(features):
    x = features.mean(1)
    return (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("critic", ["dot", "concat"])
def test_main_terms_send_no_gradient_to_what_the_critics_own_loss_trains(critic):
    information, features = make_information(critic=critic), make_features()
    terms = information(features, LABEL, CLASSES)
    for term, own in (("I_uni", features.unique), ("I_str", features.str_)):
        assert not any(reaches(terms[term], information.parameters()))
        assert all(reaches(terms[term], own.values()))


@pytest.mark.parametrize("critic", ["dot", "concat"])
def test_the_critics_own_loss_reaches_them_alone(critic):
    information, features = make_information(critic=critic), make_features()
    loss = information(features, LABEL, CLASSES)["critic"]
    every_feature = [x for group in vars(features).values() for x in group.values()]
    assert not any(reaches(loss, every_feature))
    mine = {id(p) for p in information.critic_parameters()}
    for (name, p), reached in zip(information.named_parameters(), reaches(loss, information.parameters()), strict=True):
        # a number added to all scores cancels in InfoNCE, so the last bias of a concat critic is never moved
        last_bias = critic == "concat" and name.endswith("rest.3.bias")
        assert last_bias or reached == (id(p) in mine), name


def test_maximised_terms_train_encoders_and_critics_together():
    information, features = make_information(), make_features()
    terms = information(features, LABEL, CLASSES)
    assert all(reaches(terms["I_sha"], [*features.shared.values(), *information.critics["I_sha"].parameters()]))
    trained = (
        *features.utr.values(),
        *information.critics["I_utr"].parameters(),
        *information.label_unique.parameters(),
    )
    assert all(reaches(terms["I_utr"], trained))


def test_pairwise_terms_equal_a_loop_over_pairs_of_unpadded_features():
    information, features = make_information(symmetric=False), make_features()
    terms = information(features, LABEL, CLASSES)
    y = information.label_shared(LABEL[:, None] / 3)
    sha, uni, str_, own = [], [], [], []
    for p, (m, n) in enumerate(combinations("TAV", 2)):
        sha.append(
            info_nce(
                plain_scores(information.critics["I_sha"], p, pooled(features.shared[m]), pooled(features.shared[n]))
            )
        )
        scores = plain_scores(information.critics["I_uni"], p, pooled(features.unique[m]), pooled(features.unique[n]))
        uni.append(nce_club(scores))
        own.append(-info_nce(scores))
        left, right = (torch.cat([pooled(features.str_[k]), y], 1) for k in (m, n))
        scores, same = plain_scores(information.critics["I_str"], p, left, right), CLASSES[:, None] == CLASSES
        str_.append(nce_club(scores, same))
        own.append(-info_nce(scores, same))
    for name, values in (("I_sha", sha), ("I_uni", uni), ("I_str", str_)):
        torch.testing.assert_close(terms[name], sum(values))
    torch.testing.assert_close(terms["critic"], sum(own))


def test_label_term_equals_a_loop_over_modalities():
    information, features = make_information(symmetric=False), make_features()
    values = []
    for i, m in enumerate("TAV"):
        first, last = information.label_unique[0], information.label_unique[2]
        y = F.gelu(LABEL[:, None] / 3 * first.weight[i] + first.bias[i]) @ last.weight[i] + last.bias[i]
        values.append(info_nce(plain_scores(information.critics["I_utr"], i, pooled(features.utr[m]), y)))
    torch.testing.assert_close(information(features, LABEL, CLASSES)["I_utr"], sum(values))


@pytest.mark.parametrize(("modalities", "pairs"), [("TAV", 3), ("TA", 1), ("V", 0)])
def test_averaged_terms_are_the_sums_over_the_number_of_pairs_or_modalities(modalities, pairs):
    features = make_features(modalities)
    summed, averaged = (make_information(modalities, average_terms=flag) for flag in (False, True))
    averaged.load_state_dict(summed.state_dict())
    of_sum, of_mean = (each(features, LABEL, CLASSES) for each in (summed, averaged))
    for name in ("I_sha", "I_uni", "I_str", "critic"):
        torch.testing.assert_close(of_mean[name] * max(pairs, 1), of_sum[name])
    torch.testing.assert_close(of_mean["I_utr"] * len(modalities), of_sum["I_utr"])
    assert torch.equal(of_mean["L_recon"], of_sum["L_recon"])


def test_only_same_bin_negatives_depend_on_the_classes():
    features, other = make_features(), CLASSES.flip(0)
    for negatives, changes in (("same_bin", True), ("batch", False)):
        information = make_information(str_negatives=negatives)
        a, b = (information(features, LABEL, classes)["I_str"] for classes in (CLASSES, other))
        assert (a != b).item() == changes


def test_one_modality_has_no_pairwise_terms():
    information, features = make_information("A"), make_features("A")
    terms = information(features, LABEL, CLASSES)
    assert all(terms[name].item() == 0 for name in ("I_sha", "I_uni", "I_str", "critic"))
    assert information.critic_parameters() == []
    assert all(reaches(terms["I_utr"], features.utr.values()))


def test_reconstruction_is_the_mean_squared_error_to_a_fixed_target():
    features = make_features("TA")
    loss = reconstruction_loss(features)
    expected = sum((features.reconstruction[m] - features.tokens[m]).square().mean() for m in "TA") / 2
    torch.testing.assert_close(loss, expected)
    assert not any(reaches(loss, features.tokens.values()))
    assert all(reaches(loss, features.reconstruction.values()))


def test_encoders_equal_plain_layers_of_each_modality():
    ftre = FTRE({"T": 12, "V": 12}, FineConfig(task_width=TASK))
    tokens = {m: torch.randn(SIZE, TOKENS, 12) for m in ("T", "V")}
    out, (stack,) = ftre(tokens), ftre.stacks

    def net(stacked, index, x):
        first, last = stacked[0], stacked[2]
        hidden = F.gelu(F.linear(x, first.weight[index].T, first.bias[index, 0]))
        return F.linear(hidden, last.weight[index].T, last.bias[index, 0])

    for i, m in enumerate(("T", "V")):
        shared, unique = net(stack.factorise, i, tokens[m]), net(stack.factorise, 2 + i, tokens[m])
        assert shared.shape == (SIZE, TOKENS, 6)
        torch.testing.assert_close(out.shared[m], shared)
        torch.testing.assert_close(out.unique[m], unique)
        torch.testing.assert_close(out.str_[m], net(stack.task, i, shared))
        torch.testing.assert_close(out.utr[m], net(stack.task, 2 + i, unique))
        torch.testing.assert_close(out.reconstruction[m], net(stack.decoder, i, torch.cat([shared, unique], -1)))


def test_modalities_of_several_widths_keep_their_order_and_their_own_weights():
    ftre = FTRE({"T": 12, "A": 8, "V": 12}, FineConfig(task_width=TASK))
    tokens = {"T": torch.randn(SIZE, TOKENS, 12), "A": torch.randn(SIZE, TOKENS, 8), "V": torch.randn(SIZE, TOKENS, 12)}
    out = ftre(tokens)
    for kind in vars(out).values():
        assert list(kind) == ["T", "A", "V"]
    assert ftre.factor_widths == {m: x.shape[-1] for m, x in out.shared.items()} == {"T": 6, "A": 4, "V": 6}
    other = ftre(tokens | {"A": torch.zeros(SIZE, TOKENS, 8)})
    assert torch.equal(out.str_["V"], other.str_["V"]) and not torch.equal(out.str_["A"], other.str_["A"])
