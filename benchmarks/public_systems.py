"""Public code of compared systems, made to run on a file of features: see ``compare_public.py``.

A function for each system imports the authors' classes from ``run.folder``, mends from outside what keeps them from
running, trains, and returns the model. Nothing of that code is here.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from compare_mmsa import WIDTHS
from public_run import Batch, Run, behind_first, mean_frames, to_longest
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

TEXT, AUDIO, VISION = WIDTHS


class Finished(Exception):
    """All epochs are done."""


def load(folder: Path, name: str) -> ModuleType:
    """A module of a checkout."""
    sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def module(name: str, **content) -> None:
    """A module that public code imports and that is not there, or that must say something else."""
    sys.modules[name] = made = ModuleType(name)
    made.__dict__.update(content)


def sizes(text: int) -> None:
    """The file of widths and device that three of the repositories have."""
    module("global_configs", TEXT_DIM=text, ACOUSTIC_DIM=AUDIO, VISUAL_DIM=VISION, DEVICE=torch.device("cpu"))


class Features(nn.Module):
    """In place of a text encoder, however it is made and called: returns the features that it gets as token ids."""

    config = SimpleNamespace(output_attentions=False, output_hidden_states=False, is_decoder=False)

    def __init__(self, *args, **kwargs):
        super().__init__()

    @classmethod
    def from_pretrained(cls, *args, **kwargs) -> Features:
        return cls()

    def forward(self, x: Tensor | None = None, input_ids: Tensor | None = None, **kwargs) -> Any:
        return BaseModelOutput(input_ids if x is None else x)


class Embeddings(Features):
    """In place of a text encoder's embeddings."""

    def forward(self, input_ids: Tensor, **kwargs) -> Tensor:
        return input_ids


class PreTrained(nn.Module):
    """What of the ``transformers`` library's base class such a model uses, as it was when the code was written."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def init_weights(self) -> None:
        """Linear maps and embeddings from N(0, 0.02), no bias."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                nn.init.normal_(layer.weight, std=0.02)
            if isinstance(layer, nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def get_extended_attention_mask(self, mask: Tensor, *args) -> Tensor:
        return (1.0 - mask[:, None, None, :]) * -10000.0

    def get_head_mask(self, *args) -> None:
        return None


def quiet_plateau() -> None:
    """The schedule without the argument that PyTorch no longer takes."""
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau
    torch.optim.lr_scheduler.ReduceLROnPlateau = lambda *args, verbose=True, **kwargs: schedule(*args, **kwargs)


def old_transformers(embeddings: type, encoder: type) -> None:
    """Where the library of that day had its classes."""
    import transformers
    from transformers.models.bert import modeling_bert as bert

    inner = {"BertEmbeddings": embeddings, "BertEncoder": encoder, "BertPooler": bert.BertPooler}
    module("transformers.modeling_bert", BertPreTrainedModel=PreTrained, **inner)
    module("transformers.configuration_bert", BertConfig=transformers.BertConfig)
    transformers.activations.swish = F.silu
    for name in ("apply_chunking_to_forward", "find_pruneable_heads_and_indices", "prune_linear_layer"):
        setattr(transformers.modeling_utils, name, None)


def gfn(run: Run) -> nn.Module:
    """What the authors' script for CMU-MOSI does: four optimisers, of which two move the encoders."""
    public = load(run.folder / "ARGF" / "ARGF_context2", "model")
    public.F = SimpleNamespace(**vars(F))
    public.F.softmax = lambda x, axis: x if x.shape[axis] == 1 else F.softmax(x, axis)
    total, hidden, alpha = nn.L1Loss(reduction="sum"), 50, 0.001
    widths = AUDIO, VISION, TEXT
    encoders = nn.ModuleList(public.Encoder_5(d, hidden, 0.5) for d in widths)
    decoders = nn.ModuleList(public.Decoder2(hidden, d) for d in widths)
    tell, graph = public.Discriminator(hidden), public.graph11_new(in_size=hidden, output_dim=1)
    single = public.classifier3(in_size=hidden, output_dim=1)
    owners = (encoders, decoders), (encoders, single), (tell,), (graph,)
    groups = [[p for part in parts for p in part.parameters()] for parts in owners]
    settings = {"lr": run.lr, "betas": (0.5, 0.999), "weight_decay": 0.005}
    optimisers = [torch.optim.Adam(group, **settings) for group in groups]

    def encode(batch: Batch) -> tuple[tuple, Tensor]:
        x = mean_frames(batch)
        return x, torch.stack([encoder(v) for encoder, v in zip(encoders, x, strict=True)], 1)

    def losses(batch: Batch) -> tuple:
        (x, fused), y, bce = encode(batch), batch["label"][:, None], F.binary_cross_entropy
        z, yes, no = fused.unbind(1), torch.ones_like(y), torch.zeros_like(y)
        audio, vision, text = (tell(v) for v in z)
        recon = sum(total(decode(v), w) for decode, v, w in zip(decoders, z, x, strict=True))
        yield alpha * (bce(text, yes) + bce(vision, yes)) + (1 - alpha) * recon
        yield sum(total(single(v), y) for v in z)
        yield (bce(audio, yes) + bce(vision, no) + bce(text, no)) / 2
        yield total(graph(fused)[0], y)

    def step(batch: Batch) -> None:
        pairs = zip(losses(batch), groups, strict=True)
        found = [torch.autograd.grad(loss, group, retain_graph=True, allow_unused=True) for loss, group in pairs]
        for optimiser, group, gradients in zip(optimisers, groups, found, strict=True):
            for p, gradient in zip(group, gradients, strict=True):
                p.grad = gradient
            optimiser.step()

    for _ in range(run.epochs):
        for batch in run:
            step(batch)
        run.evaluate(lambda batch: graph(encode(batch)[1])[0], size=10**6)
    return nn.ModuleList([encoders, decoders, tell, graph, single])


def cubemlp(run: Run) -> nn.Module:
    """The command in the authors' README; the rate falls to a tenth after six sevenths of the epochs, as there."""
    public = load(run.folder, "Model")
    public.BertConfig = public.BertModel = Features
    blocks, drop = [[50, 3, 128], [10, 3, 32]], [0.1] * 4
    options = {"d_t": TEXT, "d_a": AUDIO, "d_v": VISION, "d_common": 128, "encoders": "gru", "num_class": 1}
    options |= {"features_compose_t": "mean", "features_compose_k": "cat", "activate": "gelu", "time_len": 100}
    options |= {"d_hiddens": blocks, "d_outs": blocks, "dropout_mlp": drop[:3], "dropout": drop}
    model = public.Model(SimpleNamespace(**options, bias=True, ln_first=True, res_project=[True, True]))
    for name, p in model.named_parameters():
        if "weight_hh" in name:
            nn.init.orthogonal_(p)
    optimiser = torch.optim.Adam(model.parameters(), lr=run.lr)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, round(run.epochs * 6 / 7), 0.1)

    def predict(batch: Batch) -> Tensor:
        x = to_longest(batch)
        return model(x["text"], x["mask"], x["mask"], x["audio"], x["vision"])[0]

    def step(batch: Batch) -> None:
        optimiser.zero_grad()
        F.l1_loss(predict(batch).view(-1), batch["label"]).backward()
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimiser.step()

    run.train(model, step, predict, lambda error: schedule.step())
    return model


def mag(run: Run) -> nn.Module:
    """A small BERT, untrained, behind the gate, and a linear map of the features in front; their [CLS] stays."""
    from transformers import BertConfig, get_linear_schedule_with_warmup
    from transformers.models.bert import modeling_bert as bert

    width = 128
    sizes(text=width)
    old_transformers(bert.BertEmbeddings, bert.BertEncoder)
    public = load(run.folder, "bert")
    shape = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 4 * width}
    config = BertConfig(vocab_size=1, num_labels=1, attn_implementation="eager", **shape)
    gate = SimpleNamespace(beta_shift=1.0, dropout_prob=0.5)
    inner = public.MAG_BertForSequenceClassification(config, gate)
    model = nn.ModuleDict({"inner": inner, "map": nn.Linear(TEXT, width)})
    model.cls = nn.Parameter(torch.zeros(1, 1, width))
    kept = [p for name, p in model.named_parameters() if not name.endswith("bias") and "LayerNorm" not in name]
    rest = [p for name, p in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    optimiser = torch.optim.AdamW([{"params": kept}, {"params": rest, "weight_decay": 0.0}], run.lr, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimiser, 0.1 * run.epochs * len(run), run.epochs * len(run))

    def predict(batch: Batch) -> Tensor:
        text = torch.cat([model.cls.expand(len(batch["text"]), -1, -1), model["map"](batch["text"])], 1)
        x = behind_first(batch)
        return inner(None, x["vision"], x["audio"], attention_mask=x["mask"], inputs_embeds=text)[0]

    def step(batch: Batch) -> None:
        optimiser.zero_grad()
        F.mse_loss(predict(batch).view(-1), batch["label"]).backward()
        optimiser.step()
        schedule.step()

    run.train(model, step, predict)
    return model


def c_mib(run: Run) -> nn.Module:
    """Fusion by concatenation, as the authors' file has it."""
    sizes(TEXT)
    old_transformers(Embeddings, Features)
    public = load(run.folder / "MIB_github", "cmib")
    attention = sys.modules["modules.multihead_attention"].MultiheadAttention
    shared = attention.in_proj_qkv
    attention.in_proj_qkv = lambda self, x: (part.clone() for part in shared(self, x))
    config = SimpleNamespace(num_labels=1, num_hidden_layers=0, hidden_dropout_prob=0.1, **vars(Features.config))
    return steps_itself(run, public.MIB(config, None))


def euar(run: Run) -> nn.Module:
    """The partial code as it is published."""
    sizes(TEXT)
    quiet_plateau()
    public = load(run.folder, "EUAR")
    public.BertConfig = SimpleNamespace(from_pretrained=lambda path: Features.config)
    public.BertModel = Features
    model = public.EUAR(None, SimpleNamespace(learning_rate1=run.lr, learning_rate2=run.lr), 1)
    return steps_itself(run, model, lambda error: [s.step(error) for s in (model.scheduler_l, model.scheduler_all)])


def steps_itself(run: Run, model: nn.Module, after: Any = lambda error: None) -> nn.Module:
    """Train a model that takes its optimisers' steps in ``forward``."""
    model.proj_a = nn.Conv1d(AUDIO, model.d_l, 3, padding=1, bias=False)
    model.optimizer_all.add_param_group({"params": list(model.proj_a.parameters())})
    for group in model.optimizer_l.param_groups + model.optimizer_all.param_groups:
        group["lr"] = run.lr

    def step(batch: Batch) -> None:
        model(batch["text"], batch["vision"], batch["audio"], batch["label"], attention_mask=batch["mask"])

    def predict(batch: Batch) -> Tensor:
        return model.test(batch["text"], batch["vision"], batch["audio"], attention_mask=batch["mask"])

    run.train(model, step, predict, after)
    return model


def dmd(run: Run) -> nn.Module:
    """The authors' trainer drives it; its look at dev and test after an epoch is ours, and ends it."""
    quiet_plateau()
    torch.Tensor.cuda = nn.Module.cuda = lambda self, *args: self
    module("pynvml")
    trainer_class = load(run.folder, "trains.singleTask.DMD").DMD
    names = "distillnets.get_distillation_kernel_homo", "distillnets.get_distillation_kernel", "misc", "model.dmd"
    kernel_homo, kernel, misc, network = (importlib.import_module(f"trains.singleTask.{name}") for name in names)

    recipe = json.loads((run.folder / "config" / "config.json").read_text())["dmd"]
    args = SimpleNamespace(**recipe["commonParams"] | recipe["datasetParams"]["mosi"])
    args.__dict__.update(use_bert=False, dataset_name="mosi", feature_dims=WIDTHS, model_name="dmd", cur_seed=0)
    args.__dict__.update(device=torch.device("cpu"), train_mode="regression", KeyEval="Loss", early_stop=run.epochs)
    args.__dict__.update(learning_rate=run.lr, update_epochs=run.settings["accumulate"])
    common = {"n_classes": 1, "to_idx": [0, 1, 2], "from_idx": [0, 1, 2], "gd_reg": 10, "w_losses": [1, 10]}
    common |= {"metric": "l1", "alpha": 1 / 8, "hyp_params": args}
    width, prior = args.dst_feature_dim_nheads[0], [misc.softmax([0, 0, 1, 0, 1, a_v], 0.25) for a_v in (0, 1)]
    homo = kernel_homo.DistillationKernel(hidden_size=width, gd_size=64, gd_prior=prior[0], **common)
    hetero = kernel.DistillationKernel(hidden_size=2 * width, gd_size=32, gd_prior=prior[1], **common)
    model = nn.ModuleList([network.DMD(args), homo, hetero])

    class Trainer(trainer_class):
        def do_test(self, inner: nn.Module, data: Any, mode: str) -> dict:
            if mode == "TEST":
                if run.seen >= run.epochs * run.size:
                    raise Finished
                return {}
            inner.eval()
            return {"Loss": run.evaluate(lambda b: inner(b["text"], b["audio"], b["vision"])["output_logit"])}

    trainer = Trainer(args)
    trainer.cosine = lambda x, y, target: F.cosine_similarity(x, y, dim=1).relu().mean()
    os.makedirs("pt")
    try:
        trainer.do_train(model, {"train": run, "valid": None, "test": None})
    except Finished:
        return model
