"""What the paper claims of its features (Figure 5), its estimators and its factorisation."""

from __future__ import annotations

from functools import partial

from finelib.paper import claims_measured as measured
from finelib.paper.claim import Claim

FIGURE_5 = "Visualization of Representations"

CLAIMS = [
    Claim(
        "sentiment_in_features",
        "The features are strongly correlated with sentiment (Figure 5a).",
        FIGURE_5,
        "how well the label can be read from the features, against shuffled labels",
        measured=partial(measured.figure5, measure="label_r2"),
    ),
    Claim(
        "neutral_between",
        "Neutral utterances lie mostly between the negative and the positive ones (Figure 5a).",
        FIGURE_5,
        "share of neutral utterances between the centroids",
        measured=partial(measured.figure5_above, measure="neutral_between", threshold=0.5),
    ),
    Claim(
        "modalities_apart",
        "Features of different modalities are clearly apart (Figure 5b).",
        FIGURE_5,
        "silhouette of the modalities, against shuffled names",
        measured=partial(measured.figure5, measure="modality_silhouette"),
    ),
    Claim(
        "kinds_alike",
        "STR and UTR of one modality are distributed alike (Figure 5b).",
        FIGURE_5,
        "their similarity (CKA) against that of different modalities",
        measured=partial(measured.figure5_order, larger="cka_within", smaller="cka_across"),
    ),
    Claim(
        "dense",
        "The six clouds are dense (Figure 5b).",
        FIGURE_5,
        "distance to the nearest point of the cloud, against shuffled features",
        measured=partial(measured.figure5, measure="neighbour_distance", side="below"),
    ),
    Claim(
        "infonce_lower_bound",
        "InfoNCE is a lower bound on mutual information (Eq. 7, 11).",
        "Methodology, Eq. 7",
        "distributions whose mutual information is known",
        measured=partial(measured.finding, file="estimators", names=["infonce_lower_bound"]),
    ),
    Claim(
        "club_upper_bound",
        "NCE-CLUB with a critic that InfoNCE is training is an upper bound (Eq. 8).",
        "Methodology, Eq. 8",
        "the same",
        measured=partial(measured.finding, file="estimators", names=["club_learning_is_bound"]),
    ),
    Claim(
        "club_conditional",
        "On features with the label put beside them, NCE-CLUB lowers I(X1;X2|Y) and nothing else "
        "(Eq. 10, negatives from the batch).",
        "Methodology, Eq. 10",
        "pairs that are independent given a known label",
        measured=partial(measured.finding, file="estimators", names=["conditional_club_in_batch_unbiased"]),
    ),
    Claim(
        "shared_in_str",
        "STR holds what modalities share and the label needs.",
        "Methodology, Factorized Task-Relevant Encoder",
        "probes for known factors in STR and UTR",
        measured=partial(measured.finding, file="identifiability", names=["shared_in_str"]),
    ),
    Claim(
        "unique_in_utr",
        "UTR holds what one modality alone has and the label needs.",
        "Methodology, Factorized Task-Relevant Encoder",
        "probes for known factors in STR and UTR",
        measured=partial(measured.finding, file="identifiability", names=["unique_in_utr"]),
    ),
    Claim(
        "noise_removed",
        "What is irrelevant to the task is removed from both.",
        "Introduction; Methodology, Factorized Task-Relevant Encoder",
        "probes for known irrelevant factors",
        measured=partial(measured.finding, file="identifiability", names=["noise_in_neither"]),
    ),
    Claim(
        "principled",
        "Optimising mutual information separates better than MISA's constraints on the feature space.",
        "Introduction; Abstract",
        "the probes' scores, FINE minus MISA",
        measured=partial(measured.finding, file="identifiability", names=["fine_over_misa"]),
    ),
    Claim(
        "objective_identifies",
        "The objective of Eq. 12 has the wanted factorisation as its only optimum.",
        "Methodology, Eq. 2 to 12 (implied)",
        "two solutions with the same value of every term",
        measured=partial(measured.finding, file="identifiability", names=["objective_identifies"]),
    ),
]
