"""What the paper claims of its tables: comparisons with other methods (Tables 1-4), modalities (5), components (6)."""

from __future__ import annotations

from functools import partial

from finelib.paper import claims_measured as measured
from finelib.paper import claims_printed as printed
from finelib.paper.claim import Claim

RESULTS = "Results and Analysis, Quantitative Results"
MODALITIES = "Ablation Study, Impact of Different Modalities"
COMPONENTS = "Ablation Study, Role of Key Components"

CLAIMS = [
    Claim(
        "outperforms_everywhere",
        "FINE is ahead of existing methods on all four corpora, in every metric.",
        "Abstract, last sentence; Contributions, third point",
        "FINE and the other methods, same features and splits, several seeds",
        printed=partial(printed.best, tables=[1, 2, 3, 4]),
        measured=partial(measured.beats_others, tables=[1, 2, 3, 4]),
    ),
    Claim(
        "best_mosi",
        "FINE is best on CMU-MOSI in ACC-2, F1 and ACC-7.",
        RESULTS,
        "the same on CMU-MOSI",
        printed=partial(printed.best, tables=[1]),
        measured=partial(measured.beats_others, tables=[1]),
    ),
    Claim(
        "best_mosei",
        "FINE is best on CMU-MOSEI in all metrics.",
        RESULTS,
        "the same on CMU-MOSEI",
        printed=partial(printed.best, tables=[2]),
        measured=partial(measured.beats_others, tables=[2]),
    ),
    Claim(
        "mosei_one_point",
        "On CMU-MOSEI it gains one point of ACC-2 and F1 over the best other method.",
        RESULTS,
        "the difference to the best other row",
        printed=partial(printed.margin, table=2, metrics=["acc2_nonzero", "f1_nonzero"], points=1, decimals=0),
    ),
    Claim(
        "mosei_acc7",
        "On CMU-MOSEI it gains 0.7 points of ACC-7.",
        RESULTS,
        "the difference to the best other row",
        printed=partial(printed.margin, table=2, metrics=["acc7"], points=0.7, decimals=1),
    ),
    Claim(
        "best_ur_funny",
        "FINE's 74.95 is the best ACC-2 on UR-FUNNY.",
        RESULTS,
        "FINE and the other methods on the same version of UR-FUNNY",
        printed=partial(printed.best, tables=[3]),
        measured=partial(measured.beats_others, tables=[3]),
    ),
    Claim(
        "ur_funny_margin",
        "On UR-FUNNY it is 2.5 points above the best previous model.",
        RESULTS,
        "the difference to the best other row",
        printed=partial(printed.margin, table=3, metrics=["acc2"], points=2.5, decimals=1),
    ),
    Claim(
        "best_ch_sims",
        "FINE is best on CH-SIMS in ACC-2 and F1.",
        RESULTS,
        "FINE and the other methods on CH-SIMS",
        printed=partial(printed.best, tables=[4], metrics=["acc2", "f1"]),
        measured=partial(measured.beats_others, tables=[4], metrics=["acc2", "f1"]),
    ),
    Claim(
        "ch_sims_second",
        "FINE's ACC-5 on CH-SIMS ranks second.",
        RESULTS,
        "its place in the column",
        printed=partial(printed.rank, table=4, metric="acc5", place=2),
    ),
    Claim(
        "leads_beyond_sampling",
        "FINE's leads in ACC-2 over the second best are more than the accident of the test utterances.",
        "Results and Analysis, Quantitative Results (consistent gains)",
        "paired predictions of both methods on the test split",
        printed=partial(printed.lead, tables=[1, 2, 3, 4]),
    ),
    Claim(
        "more_modalities",
        "Every added modality improves performance.",
        MODALITIES,
        "FINE on all subsets of the modalities, several seeds",
        printed=partial(printed.added_modality),
        measured=partial(measured.added_modality),
    ),
    Claim(
        "all_three_best",
        "All three modalities together are best.",
        MODALITIES,
        "the same",
        printed=partial(printed.above, table=5, row="V + A + T", than=["V", "A", "T", "V + A", "V + T", "A + T"]),
        measured=partial(measured.higher, table=5, row="V + A + T", than=["V", "A", "T", "V + A", "V + T", "A + T"]),
    ),
    Claim(
        "text_most",
        "Text contributes most.",
        MODALITIES,
        "single modalities against each other",
        printed=partial(printed.above, table=5, row="T", than=["V", "A"]),
        measured=partial(measured.higher, table=5, row="T", than=["V", "A"]),
    ),
    Claim(
        "audio_video_worst",
        "Audio alone and video alone perform worst.",
        MODALITIES,
        "single modalities against all other subsets",
        printed=partial(printed.lowest, table=5, rows=["V", "A"]),
        measured=partial(
            measured.lower_than_all, table=5, rows=["V", "A"], others=["T", "V + A", "V + T", "A + T", "V + A + T"]
        ),
    ),
    Claim(
        "audio_text_sota",
        "With audio and text alone FINE is above all existing methods in ACC-2 and F1.",
        MODALITIES,
        "this subset against the methods of Table 2",
        printed=partial(printed.above_existing, table=5, row="A + T", metrics=["acc2_nonzero", "f1_nonzero"]),
    ),
    Claim(
        "every_component",
        "Every component contributes: without it the results are worse.",
        "Contributions, third point; Ablation Study, Role of Key Components",
        "each row of Table 6 against FINE, several seeds",
        printed=partial(printed.above, table=6, row="FINE", than="all"),
        measured=partial(measured.higher, table=6, row="FINE", than="printed"),
    ),
    Claim(
        "moq_essential",
        "The Mixture of Q-Formers is essential: without it FINE loses.",
        COMPONENTS,
        "w/o MoQ against FINE",
        printed=partial(printed.drop, table=6, rows=["w/o MoQ"]),
        measured=partial(measured.higher, table=6, row="FINE", than=["w/o MoQ"]),
    ),
    Claim(
        "moq_replacements",
        "Replacing it by a Transformer, TCN, LSTM or MLPs degrades the results notably.",
        COMPONENTS,
        "the four rows against FINE",
        printed=partial(
            printed.drop, table=6, rows=["w/o MoQ + TE", "w/o MoQ + TCN", "w/o MoQ + LSTM", "w/o MoQ + MLPs"]
        ),
        measured=partial(
            measured.higher,
            table=6,
            row="FINE",
            than=["w/o MoQ + TE", "w/o MoQ + TCN", "w/o MoQ + LSTM", "w/o MoQ + MLPs"],
        ),
    ),
    Claim(
        "moq_asynchronous",
        "The Q-Formers find cues that lie at different places in different modalities.",
        "Introduction; Methodology, first paragraph",
        "data whose cues are single frames at places of their own",
        measured=partial(measured.higher, table=6, row="FINE", than=["w/o MoQ"], design="cues"),
    ),
    Claim(
        "load_balance",
        "The load-balancing loss is needed.",
        "Methodology, Mixture of Q-Formers",
        "FINE without L_aux",
        measured=partial(measured.higher, table=6, row="FINE", than=["w/o L_aux"]),
    ),
    Claim(
        "padding",
        "TE, TCN, LSTM and MLPs are less robust to padding than the Q-Formers.",
        COMPONENTS,
        "the rows again with padding added",
    ),
    Claim(
        "misa_drop",
        "Putting MISA in the place of FTRE lowers ACC-2 and F1 significantly.",
        COMPONENTS,
        "this row against FINE",
        printed=partial(printed.drop, table=6, rows=["w/o FTRE + MISA"]),
        measured=partial(measured.higher, table=6, row="FINE", than=["w/o FTRE + MISA"]),
    ),
    Claim(
        "ftre_needed",
        "FTRE is critical: without it FINE loses.",
        COMPONENTS,
        "w/o FTRE against FINE",
        printed=partial(printed.drop, table=6, rows=["w/o FTRE"]),
        measured=partial(measured.higher, table=6, row="FINE", than=["w/o FTRE"]),
    ),
    Claim(
        "sota_without_task",
        "Without the task-aware terms FINE is still above existing methods.",
        COMPONENTS,
        "w/o I_str, I_utr against Table 2",
        printed=partial(
            printed.above_existing, table=6, row="w/o I_str, I_utr", metrics=["acc2_nonzero", "f1_nonzero", "acc7"]
        ),
    ),
    Claim(
        "task_terms_alone",
        "The task-aware terms alone, without disentanglement, do not improve on existing methods.",
        COMPONENTS,
        "w/o I_sha, I_uni against Table 2",
        printed=partial(
            printed.above_existing,
            table=6,
            row="w/o I_sha, I_uni",
            metrics=["acc2_nonzero", "f1_nonzero", "acc7"],
            expected=False,
        ),
    ),
    Claim(
        "both_branches",
        "The shared or the unique branch alone degrades the results drastically.",
        COMPONENTS,
        "both rows against FINE",
        printed=partial(printed.drop, table=6, rows=["w/o I_sha, I_str", "w/o I_uni, I_utr"]),
        measured=partial(measured.higher, table=6, row="FINE", than=["w/o I_sha, I_str", "w/o I_uni, I_utr"]),
    ),
    Claim(
        "redundancy",
        "Lowering I_uni and I_str removes redundancy that hurts.",
        "Ablation Study, last paragraph",
        "data with a loud irrelevant factor that all modalities share",
        measured=partial(measured.higher, table=6, row="FINE", than=["w/o I_uni, I_str"], design="redundancy"),
    ),
    Claim(
        "complementarity",
        "Raising I_utr strengthens what each modality has to itself.",
        "Ablation Study, last paragraph",
        "data whose label is in the unique factors",
        measured=partial(measured.higher, table=6, row="FINE", than=["w/o I_utr"], design="complementary"),
    ),
    Claim(
        "queue_over_batch",
        "With SupCon, the queue beats contrast within the batch.",
        COMPONENTS,
        "DCQ (SCL) against w/o DCQ + SCL",
        printed=partial(printed.above, table=6, row="DCQ (SCL)", than=["w/o DCQ + SCL"]),
        measured=partial(measured.higher, table=6, row="DCQ (SCL)", than=["w/o DCQ + SCL"]),
    ),
    Claim(
        "accon_over_supcon",
        "ACCon's angle compensation beats SupCon, with and without the queue.",
        COMPONENTS,
        "FINE against DCQ (SCL)",
        printed=partial(printed.above, table=6, row="FINE", than=["DCQ (SCL)"]),
        measured=partial(measured.higher, table=6, row="FINE", than=["DCQ (SCL)"]),
    ),
    Claim(
        "queue_contributes",
        "The Dynamic Contrastive Queue contributes.",
        COMPONENTS,
        "w/o DCQ against FINE",
        printed=partial(printed.drop, table=6, rows=["w/o DCQ"]),
        measured=partial(measured.higher, table=6, row="FINE", than=["w/o DCQ"]),
    ),
    Claim(
        "queue_imbalance",
        "The queue helps where classes are imbalanced.",
        "Methodology, Dynamic Contrastive Queue",
        "data with two thirds of the labels in one class",
        measured=partial(measured.higher, table=6, row="FINE", than=["w/o DCQ"], design="imbalance"),
    ),
]
