"""Tables in the paper's layout: read back from Markdown, LaTeX and HTML, they hold the metrics."""

import copy
import re

import numpy as np
import pytest
from made_up_scores import PAPER_METRICS, entry, make_metrics
from table_readers import (
    FORMATS,
    best,
    headings,
    read_html,
    read_latex,
    read_markdown,
    shown_rows,
    texts,
    value_rows,
)

from gmsrm_jax.data.masks.bins import BIN_NAMES
from gmsrm_jax.evaluation.paper_tables import (
    ablation_table,
    centre_table,
    full_table,
    irregular_table,
    samples_table,
)
from gmsrm_jax.evaluation.published import CENTRE_BINS, DATA_SETS, IRREGULAR_BINS, PUBLISHED, TYPES
from gmsrm_jax.evaluation.table_formats import to_html, to_latex, to_markdown
from gmsrm_jax.metrics.extra import EXTRA_DEFINITIONS

NASTY = r"50%_of|a&b {#1} $x$ ~^ \cmd <i> [2] *"
PAPER_DIGITS = {"psnr": 2, "ssim": 3, "ncc": 3, "lmse": 3}
LPIPS = {"label": "LPIPS (VGG)", "text": "distance", "unit": "1", "better": "lower"}
SETS = {
    "fid": {"label": "FID", "text": "distance", "unit": "1", "better": "lower"},
    "p_ids": {"label": "P-IDS", "text": "share", "unit": "1", "better": "higher"},
    "u_ids": {"label": "U-IDS", "text": "share", "unit": "1", "better": "higher"},
}


def mean(metrics, method, bin_name, metric, kind="composite"):
    return metrics["methods"][method][kind][bin_name][metric]["mean"]


def best_of(values, metric):
    """The values in bold, by an independent rule: equal to the best after rounding."""
    defined = [value for value in values if value is not None]
    if len(defined) < 2:
        return [False] * len(values)
    rounded = [None if v is None else round(v, PAPER_DIGITS[metric]) for v in values]
    champion = (min if metric == "lmse" else max)(v for v in rounded if v is not None)
    return [value == champion for value in rounded]


# --- Tables I and II ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("data_set", DATA_SETS.values())
@pytest.mark.parametrize(
    ("build", "number", "bins"),
    [(irregular_table, "I", IRREGULAR_BINS), (centre_table, "II", CENTRE_BINS)],
)
def test_a_data_set_beside_the_papers_rows(kind, data_set, build, number, bins):
    methods = ["GM-SRM", NASTY, "mean colour"]
    run = make_metrics(methods)
    table = build(data_set, run)
    values = table.grid().drop(columns=[("", "Type")])
    assert list(values.columns) == [(data_set, bin_name) for bin_name in bins]
    rows = value_rows(table, kind)
    assert len(rows) == 4 * (8 + 3)
    for place, metric in enumerate(PAPER_METRICS):
        paper, ours = np.split(np.array(rows[11 * place : 11 * place + 11], object), [8])
        for column, name in enumerate(bins):
            digits = PAPER_DIGITS[metric]
            for row, method in zip(paper, TYPES, strict=True):
                text, bold = row[column]
                assert text == f"{PUBLISHED[data_set, number, method, metric, name]:.{digits}f}"
                assert not bold
            means = [mean(run, method, name, metric) for method in methods]
            assert [row[column][0] for row in ours] == [f"{value:.{digits}f}" for value in means]
            assert [row[column][1] for row in ours] == best_of(means, metric)


def test_row_labels_and_types():
    table = irregular_table("Places2", make_metrics(["Base", "GM-SRM, mean noise", "Telea"]))
    ours = ["Base", "GM-SRM, mean noise", "Telea"]
    grid = table.grid().loc["PSNR [dB] ↑"]
    assert list(grid.index) == [*(f"{method} (paper)" for method in TYPES), *ours]
    assert list(grid[("", "Type")]) == [*TYPES.values(), "A", "A + B", ""]
    published = table.grid("published").loc["PSNR [dB] ↑", "Places2"]
    assert list(published.all(axis=1)) == [True] * 8 + [False] * 3
    assert headings(table) == ["PSNR [dB] ↑", "SSIM ↑", "NCC ↑", "LMSE ↓"]


def test_another_data_set_has_no_rows_of_the_paper():
    table = irregular_table("facades", make_metrics(["GM-SRM", "mean colour"]))
    assert not table.scores["published"].any()
    assert table.notes == (
        "facades: 7 pictures at 64 px, masks: drawn & kept (SHA-256 000000000000).",
    )
    assert "paper" not in to_markdown(table) + to_latex(table) + to_html(table)


def test_bold_is_the_best_as_printed():
    metrics = make_metrics(["a", "b", "c"])
    for method, value in (("a", 25.001), ("b", 25.004), ("c", 24.99)):
        metrics["methods"][method]["composite"]["20-30%"]["psnr"] = entry(value)
    for method, value in (("a", 0.0504), ("b", 0.0501), ("c", None)):
        metrics["methods"][method]["composite"]["20-30%"]["lmse"] = entry(value)
    table = irregular_table("x", metrics)
    for heading in ("PSNR [dB] ↑", "LMSE ↓"):
        assert [row[0] for row in best(table, heading).values()] == [True, True, False]
    full = full_table("x", metrics)
    assert [row[2] for row in best(full, "LMSE ↓").values()] == [False, True, False]
    assert [row[2] for row in texts(full, "LMSE ↓").values()] == ["0.0504", "0.0501", "-"]


def test_a_single_defined_value_is_not_the_best():
    metrics = make_metrics(["a", "b"])
    metrics["methods"]["b"]["composite"]["20-30%"]["ncc"] = entry(None, 0, 7)
    table = irregular_table("x", metrics)
    assert [row[0] for row in best(table, "NCC ↑").values()] == [False, False]
    assert "Undefined and left out of the means: NCC of b: 7 of 28." in table.notes


def test_the_papers_size_is_mentioned_where_ours_differs():
    metrics = make_metrics(["a"])
    assert "ours have 64 px" in " ".join(irregular_table("Places2", metrics).notes)
    metrics["image_size"] = 256
    assert "ours have" not in " ".join(irregular_table("Places2", metrics).notes)


# --- further metrics ----------------------------------------------------------------------------


def with_extras(metrics):
    """Adds LPIPS (of the composite only) and the measures of whole sets."""
    metrics = copy.deepcopy(metrics)
    metrics["definitions"] = {"lpips_vgg": LPIPS, **metrics["definitions"], **SETS}
    for number, kinds in enumerate(metrics["methods"].values()):
        for scores in kinds["composite"].values():
            scores["lpips_vgg"] = entry(0.25 + number)
    metrics["distribution"] = {
        method: {
            name: {"fid": 30.126 + number, "p_ids": 0.5, "u_ids": 0.25, "count": 7, "note": "few"}
            for name in metrics["mask_list"]["bins"]
        }
        for number, method in enumerate(metrics["methods"])
    }
    return metrics


def test_further_metrics_follow_without_the_papers_rows():
    metrics = with_extras(make_metrics(["GM-SRM", "mean colour"]))
    table = irregular_table("Paris StreetView", metrics)
    more = headings(table)[4:]
    assert more == ["LPIPS (VGG) ↓", "FID ↓", "P-IDS ↑", "U-IDS ↑"]
    first = [[row[0] for row in texts(table, heading).values()] for heading in more]
    assert first[:3] == [["0.2500", "1.2500"], ["30.13", "31.13"], ["0.5000", "0.5000"]]
    assert [row[0] for row in best(table, "FID ↓").values()] == [True, False]
    assert "FID, P-IDS and U-IDS: few." in table.notes


def test_a_missing_bin_is_a_dash():
    metrics = make_metrics(["a", "b"], bins=BIN_NAMES[:4])
    table = irregular_table("x", metrics)
    assert texts(table, "PSNR [dB] ↑")["a"][2:] == ["-", "-"]


# --- Table IV -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_variants_beside_the_papers(kind):
    order = ["GM-SRM", "Base", "GM-CSV", "GM-BM"]
    run = make_metrics([*order, "mean colour"])
    random = np.random.default_rng(5)
    for variant in order:
        for metric in PAPER_METRICS:
            value = entry(float(random.uniform(0.1, 0.9)))
            run["methods"][variant]["composite"]["centre 50%"][metric] = value
    table = ablation_table("CelebA-HQ256", run)
    climbing = ["Base", "GM-BM", "GM-CSV", "GM-SRM"]
    labelled = shown_rows(table, kind)
    assert [row[0][0] for row in labelled] == [f"{name} (paper)" for name in climbing] + climbing
    heads = [column for _, column in table.grid().columns]
    assert heads == ["PSNR [dB] ↑", "SSIM ↑", "NCC ↑", "LMSE ↓"]
    rows = value_rows(table, kind)
    assert [text for text, _ in rows[0]] == ["18.39", "0.694", "0.874", "0.032"]
    assert [text for text, _ in rows[3]] == ["21.75", "0.757", "0.940", "0.022"]
    assert not any(bold for row in rows[:4] for _, bold in row)
    for place, metric in enumerate(PAPER_METRICS):
        means = [mean(run, variant, "centre 50%", metric) for variant in climbing]
        shown = [f"{value:.{PAPER_DIGITS[metric]}f}" for value in means]
        assert [row[place][0] for row in rows[4:]] == shown
        assert [row[place][1] for row in rows[4:]] == best_of(means, metric)


def test_variants_on_another_data_set():
    table = ablation_table("facades", make_metrics(["GM-SRM", "Base", "mean colour"]))
    assert list(texts(table)) == ["Base", "GM-SRM"]


# --- formats ------------------------------------------------------------------------------------


def test_latex_of_a_nasty_name():
    text = to_latex(full_table("a_b & 5%", make_metrics([NASTY, "[1] first"])))
    _, rows = read_latex(text)
    labels = {row[1] for row in rows}
    assert (
        r"50\%\_of\textbar{}a\&b \{\#1\} \$x\$ \textasciitilde{}\textasciicircum{} "
        r"\textbackslash{}cmd \textless{}i\textgreater{} {[}2] {*}"
    ) in labels
    assert "{[}1] first" in labels
    assert r"\multicolumn{8}{c}{a\_b \& 5\%}" in text
    assert r"drawn \& kept" in text
    assert not re.search(r"[↑↓†×]", text)


def test_long_latex_tables_go_on_on_the_next_page():
    methods = [f"method {number}" for number in range(20)]
    text = to_latex(full_table("x", make_metrics(methods)))
    assert "table*" not in text
    assert text.count("\\usepackage{longtable}") == 1
    assert text.count("SHA-256") == 1
    assert re.findall(r"\\label\{(.*?)\}", text) == ["tab:table-all"]
    head, rows = read_latex(text)
    assert [cell for cell in head[1] if cell] == [
        "Method",
        *(n.replace("%", r"\%") for n in BIN_NAMES),
    ]
    assert [row[1] for row in rows] == methods * 4
    assert [row[0] for row in rows[1:20]] == [""] * 19


def test_html_escapes():
    text = to_html(full_table("<b>", make_metrics([NASTY])))
    head, rows = read_html(text)
    assert head[0][-1]["text"] == "<b>"
    assert rows[0][1]["text"] == NASTY
    assert "<i>" not in text


def test_markdown_escapes():
    _, rows = read_markdown(to_markdown(full_table("x", make_metrics([NASTY, "b"]))))
    assert rows[0][0] == "PSNR [dB] ↑"
    assert rows[0][1] == NASTY
    assert rows[1][:2] == ["", "b"]


# --- several samples ----------------------------------------------------------------------------


def test_samples_table():
    metrics = with_extras(make_metrics(["GM-SRM", "mean colour"], bins=CENTRE_BINS))
    metrics["definitions"]["l1"] = EXTRA_DEFINITIONS["l1"]._asdict()

    def part(value, names):
        return {b: {name: entry(value + i) for i, name in enumerate(names)} for b in CENTRE_BINS}

    metrics["samples"] = {
        "GM-SRM": {
            "samples_mean": part(10.0, ["psnr", "lpips_vgg"]),
            "samples_best": part(20.0, ["psnr", "lpips_vgg"]),
            "samples_diversity": part(30.0, ["l1", "lpips_vgg"]),
        }
    }
    metrics["sample_counts"] = {"GM-SRM": 5}
    metrics["sample_kinds"] = {
        "samples_mean": "how the mean is taken",
        "samples_best": "how the best is taken",
        "samples_diversity": "how pairs are compared",
    }
    table = samples_table("x", metrics)
    groups = {heading: texts(table, heading) for heading in headings(table)}
    firsts = [f"{mean(metrics, 'GM-SRM', name, 'psnr'):.2f}" for name in CENTRE_BINS]
    assert groups["PSNR [dB] ↑"] == {
        "GM-SRM, the first": firsts,
        "GM-SRM, mean of 5": ["10.00", "10.00"],
        "GM-SRM, best of 5": ["20.00", "20.00"],
    }
    assert groups["LPIPS (VGG) ↓"]["GM-SRM, best of 5"] == ["21.0000", "21.0000"]
    assert groups["L1 between samples"] == {"GM-SRM": ["30.00", "30.00"]}
    assert groups["LPIPS (VGG) between samples"] == {"GM-SRM": ["31.0000", "31.0000"]}
    assert list(groups)[-2:] == ["LPIPS (VGG) between samples", "L1 between samples"]
    assert "Best of k: how the best is taken." in table.notes
    assert not table.scores["best"].any()
    for kind in FORMATS:
        assert len(value_rows(table, kind)) == sum(map(len, groups.values()))
