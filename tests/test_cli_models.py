"""Every model from the command line: what training leaves, the commands on it, and the sentences for bad input."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from minivae import backend, checkpoint, models
from minivae.cli import main
from minivae.data import Dataset, Split

SMALL = {
    "ae": ["--hidden", "16", "--latent", "3"],
    "linear-ae": ["--latent", "4"],
    "dae": ["--hidden", "16", "--latent", "3", "--corruption", "masking", "--level", "0.3"],
    "context": ["--arch", "conv", "--channels", "4", "8", "--hidden", "16", "--lr", "0.01"],
    "vae": ["--hidden", "16", "--latent", "2", "--anneal", "1"],
    "beta-vae": ["--arch", "conv", "--channels", "4", "--hidden", "--latent", "3", "--likelihood", "logistic"],
    "iwae": ["--hidden", "8", "--k", "3", "--latent", "3"],
    "vqvae": ["--codes", "8", "--dim", "4", "--channels", "4", "8"],
    "vqvae2": ["--codes", "8", "--dim", "4", "--channels", "4", "8"],
    "beta-tcvae": ["--hidden", "16", "--latent", "3"],
    "cvae": ["--hidden", "16", "--latent", "3"],
    "completion": ["--hidden", "16", "--latent", "3"],
    "hvae": ["--hidden", "16", "--latents", "3", "2"],
    "pixelvae": ["--hidden", "16", "--latent", "3", "--width", "4", "--layers", "2", "--binarize"],
    "factorvae": ["--hidden", "16", "--latent", "3", "--judge", "8", "--gamma", "2"],
    "wae": ["--hidden", "16", "--latent", "3"],
    "gan": ["--hidden", "16", "--latent", "4"],
    "vaegan": ["--hidden", "16", "--latent", "3"],
    "prior": ["--of", "FOLDER/vqvae", "--width", "8", "--layers", "2"],
}
BOTH = {"config.json", "metrics.csv", "model.npz", "loss.png", "reconstructions.png"}
LINE = {"latent.png", "interpolation.png"}
PRIOR = {"samples.png", "traversals.png"}
LEAVES = dict.fromkeys(("ae", "linear-ae", "dae", "context"), BOTH | LINE) | {
    "vae": BOTH | LINE | PRIOR | {"manifold.png"},
    "beta-vae": BOTH | LINE | PRIOR,
    "iwae": BOTH | LINE | PRIOR,
    "beta-tcvae": BOTH | LINE | PRIOR,
    "cvae": BOTH | {"latent.png", "samples.png"},
    "completion": BOTH,
    "hvae": BOTH | LINE | PRIOR,
    "pixelvae": BOTH | {"latent.png", "samples.png"},
    "factorvae": BOTH | LINE | PRIOR,
    "wae": BOTH | LINE | PRIOR,
    "gan": (BOTH | {"samples.png"}) - {"reconstructions.png"},
    "vaegan": BOTH | LINE | PRIOR,
    "vqvae": BOTH | {"codes.png"},
    "vqvae2": BOTH,
    "prior": (BOTH | {"samples.png"}) - {"reconstructions.png"},
}


def squares(n: int, side: int = 16, seed: int = 0) -> dict[str, np.ndarray]:
    """Bright squares on a dark ground, with their place as the label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    images = (rng.random((n, side, side)) * 40).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 6, 4 * label : 4 * label + 6] = 220
    return {"images": images, "labels": labels}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with two data sets, and a run of each model on the first."""
    folder = tmp_path_factory.mktemp("models")
    np.savez(folder / "squares.npz", **squares(200))
    np.savez(folder / "noise.npz", images=np.random.default_rng(1).integers(0, 256, (60, 16, 16), np.uint8))
    np.savez(folder / "narrow.npz", images=squares(60, 14)["images"][:, :, :11])
    np.save(folder / "narrow.npy", squares(2, 14)["images"][:, :, :11])
    np.save(folder / "one.npy", squares(1)["images"])
    for name, options in SMALL.items():
        options = [option.replace("FOLDER", str(folder)) for option in options]
        common = ["--data", str(folder / "squares.npz"), "--epochs", "2", "--batch-size", "20"]
        assert main(["train", name, *common, "--out", str(folder / name), *options]) == 0
    return folder


@pytest.mark.parametrize("name", models.MODELS)
def test_training_leaves_weights_metrics_and_the_figures_that_fit(places, name):
    assert {path.name for path in (places / name).iterdir()} == LEAVES[name]
    config = json.loads((places / name / "config.json").read_text())
    assert config["model"] == name and config["arguments"]["shape"] == [1, 16, 16]
    with open(places / name / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    if name not in ("context", "gan", "vaegan"):  # few blocks, drawn anew, say more than two epochs; a game's may rise
        assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])


def test_what_is_not_given_is_left_to_the_builder_and_written_down(places):
    arguments = json.loads((places / "beta-vae" / "config.json").read_text())["arguments"]
    assert arguments["beta"] == 4.0 and arguments["k"] == 1 and arguments["hidden"] == [] and arguments["latent"] == 3
    model, header = checkpoint.load_model(places / "beta-vae" / "model.npz")
    assert model.beta == 4.0 and header["arguments"] == arguments


def test_the_vqvae_knows_the_variance_of_its_data_and_counts_its_codes(places):
    model, header = checkpoint.load_model(places / "vqvae" / "model.npz")
    images = np.load(places / "squares.npz")["images"]
    assert 0.9 < model.variance / (images / 255).var() < 1.1  # of the training part
    assert {"train_perplexity", "test_perplexity", "test_code_use", "test_distortion"} <= set(header["history"][0])


@pytest.mark.parametrize("name", models.MODELS)
def test_evaluate(places, name, capsys):
    bounded = name in ("vae", "beta-vae", "iwae", "factorvae", "beta-tcvae", "cvae", "completion", "hvae", "pixelvae")
    assert main(["evaluate", str(places / name), *(["--samples", "2"] if bounded else [])]) == 0
    said = capsys.readouterr().out
    given = {"cvae": "log p(x | class)", "completion": "log p(hidden | seen)"}.get(name, "log p(x)")
    assert ("ELBO" in said and f"{given} at least" in said) == bounded
    term = {"prior": "nats_per_code", "gan": "generator", "vaegan": "features"}.get(name, "reconstruction")
    assert term in said


@pytest.mark.parametrize("name", ["ae", "beta-vae", "context"])
@pytest.mark.parametrize("command", ["reconstruct", "traverse", "interpolate"])
def test_figures_of_a_run(places, name, command, tmp_path, capsys):
    out = tmp_path / "figure.png"
    assert main([command, str(places / name), "--out", str(out), "--count", "3"]) == 0
    assert out.read_bytes().startswith(b"\x89PNG") and str(out) in capsys.readouterr().out


def test_the_seed_of_a_corruption(places, tmp_path):
    """That of gaussian noise is seen in the figure."""
    drawn = []
    for seed in ("0", "0", "5"):
        assert main(["reconstruct", str(places / "dae"), "--out", str(tmp_path / "a.png"), "--seed", seed]) == 0
        drawn.append((tmp_path / "a.png").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_likelihood_without_its_constant_is_told(places, tmp_path, capsys):
    command = ["train", "vae", "--likelihood", "squared-error", "--data", str(places / "squares.npz"), "--epochs", "1"]
    assert main([*command, "--hidden", "4", "--latent", "2", "--out", str(tmp_path / "run")]) == 0
    for run, told in ((tmp_path / "run", True), (places / "vae", False)):
        capsys.readouterr()
        assert main(["evaluate", str(run), "--samples", "2"]) == 0
        assert ("but for a constant" in capsys.readouterr().out) == told


@pytest.mark.parametrize("name", ["vae", "ae", "vqvae"])
def test_encode_writes_codes_and_labels(places, name, tmp_path, capsys):
    assert main(["encode", str(places / name), "--split", "train"]) == 0
    archive = np.load(places / name / "codes.npz")
    (places / name / "codes.npz").unlink()
    codes, labels = archive["codes"], archive["labels"]
    assert archive["classes"].tolist() == ["0", "1", "2"]  # the names that labels count
    assert len(codes) == len(labels) and codes.shape[1:] == {"vae": (2,), "ae": (3,), "vqvae": (4, 4)}[name]
    assert codes.dtype.kind == ("i" if name == "vqvae" else "f")
    assert main(["encode", str(places / name), "--split", "train", "--out", str(tmp_path / "codes.csv")]) == 0
    with open(tmp_path / "codes.csv") as file:
        header, *rows = list(csv.reader(file))
    assert header == [*(f"z{i + 1}" for i in range(codes[0].size)), "labels"] and len(rows) == len(codes)
    table = np.array(rows, np.float64)
    np.testing.assert_array_equal(table[:, :-1].astype(codes.dtype), codes.reshape(len(codes), -1))
    np.testing.assert_array_equal(table[:, -1], labels)


@pytest.mark.parametrize(("name", "scores"), [("vae", 3), ("ae", 1), ("vqvae", 1)])
def test_outliers_tells_noise_from_squares(places, name, scores, tmp_path, capsys):
    out = tmp_path / "outliers.png"
    command = ["outliers", str(places / name), "--against", str(places / "noise.npz"), "--out", str(out)]
    assert main(command) == 0
    areas = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if "AUROC" in line]
    assert len(areas) == scores and out.exists()
    assert float(areas[0]) == 1.0


def test_a_prior_belongs_to_its_vqvae_and_goes_on_without_it(places, tmp_path, capsys):
    """The codec's weights stand in the prior's checkpoint: the folder of the codec may go."""
    codec = tmp_path / "codec"
    shutil.copytree(places / "vqvae", codec)
    out, data = tmp_path / "told", str(places / "squares.npz")
    common = ["--width", "4", "--layers", "2", "--classes", "3", "--epochs", "1", "--out", str(out)]
    assert main(["train", "prior", "--of", str(codec), *common]) == 0  # the data are those of the codec
    config = json.loads((out / "config.json").read_text())
    assert config["data"] == data and config["arguments"]["codec"]["run"] == str(codec)
    shutil.rmtree(codec)
    assert main(["train", "--resume", str(out), "--epochs", "2"]) == 0
    assert main(["sample", str(out), "--label", "2", "--count", "5"]) == 0
    assert (out / "samples.png").read_bytes().startswith(b"\x89PNG")
    told, plain = (checkpoint.load_model(path / "model.npz")[0] for path in (out, places / "vqvae"))
    told, plain = (backend.to_numpy(model.quantizer.codebook.data) for model in (told.codec, plain))
    np.testing.assert_array_equal(told, plain)
    assert main(["train", "--resume", str(out), "--of", str(codec)]) == 2
    assert "--of" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["vqvae", "vqvae2", "prior"])
def test_files_are_compressed_and_come_back(places, name, tmp_path, capsys):
    run, images = str(places / name), squares(7, seed=3)["images"]
    np.save(tmp_path / "seven.npy", images)
    Image.fromarray(images[0]).save(tmp_path / "one.png")
    for file, back in (("seven.npy", "seven.npy.decoded.npy"), ("one.png", "one.png.decoded.png")):
        path = tmp_path / file
        assert main(["compress", str(path), "--run", run]) == 0
        said = capsys.readouterr().out
        size = path.with_name(f"{file}.mvae").stat().st_size
        assert f"{size:,} bytes" in said and size < 300
        assert main(["decompress", f"{path}.mvae", "--run", run]) == 0
        assert str(tmp_path / back) in capsys.readouterr().out
    decoded = np.load(tmp_path / "seven.npy.decoded.npy")
    model = checkpoint.load_model(places / name / "model.npz")[0]
    x = backend.current().asarray((images[:, None] / 255).astype(np.float32))
    expected = backend.to_numpy(model.reconstruct(x)).clip(0, 1) * 255
    assert decoded.dtype == np.uint8 and abs(decoded - expected).max() <= 0.51
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "one.png.decoded.png")), decoded[0, 0])


def test_documents_have_no_pictures_but_codes(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 120)
    counts = rng.poisson(np.where(np.arange(30) // 15 == labels[:, None], 2.0, 0.1)).astype(np.float32)
    words = Dataset("words", Split(counts[:90], labels[:90]), Split(counts[90:], labels[90:]), ("a", "b"), ("w",) * 30)
    monkeypatch.setattr("minivae.data.load", lambda name: words)
    out = tmp_path / "run"
    assert main(["train", "ae", "--data", "words", "--out", str(out), "--hidden", "8", "--latent", "2"]) == 0
    assert {path.name for path in out.iterdir()} == (BOTH | {"latent.png"}) - {"reconstructions.png"}
    assert json.loads((out / "config.json").read_text())["arguments"]["likelihood"] == "multinomial"
    for command in ("reconstruct", "interpolate", "traverse"):
        assert main([command, str(out)]) == 2
        assert "no images" in capsys.readouterr().err
    assert main(["train", "vae", "--arch", "conv", "--data", "words", "--out", str(tmp_path / "conv")]) == 2
    assert "dense" in capsys.readouterr().err


REFUSED = [
    (["train", "gan-2"], ["gan-2", "vqvae"]),
    (["train", "wae", "--penalty", "-1"], ["-1"]),
    (["train", "vaegan", "--variance", "pixel"], ["pixel", "above 0"]),
    (["train", "gan", "--anneal", "1"], ["anneal"]),
    (["reconstruct", "gan"], ["no GAN has an encoder"]),
    (["interpolate", "gan"], ["no GAN has an encoder"]),
    (["encode", "gan"], ["no GAN has an encoder"]),
    (["outliers", "gan", "--against", "noise.npz"], ["no GAN has a score"]),
    (["train", "vae", "--codes", "4"], ["vae", "codes", "latent"]),
    (["train", "vqvae", "--beta", "4"], ["vqvae", "beta", "commitment"]),
    (["train", "vae", "--latent", "0"], ["0", "at least 1"]),
    (["train", "vqvae", "--codes", "0"], ["0", "at least 1"]),
    (["train", "vae", "--arch", "round"], ["round", "dense", "conv"]),
    (["train", "vae", "--activation", "swish"], ["swish", "silu"]),
    (["train", "vae", "--likelihood", "cauchy"], ["cauchy", "bernoulli"]),
    (["train", "vae", "--variance", "0.1"], ["0.1", "gaussian"]),
    (["train", "vae", "--likelihood", "gaussian", "--variance", "-1"], ["-1", "above 0"]),
    (["train", "vae", "--likelihood", "gaussian", "--variance", "much"], ["much", "shared", "pixel"]),
    (["train", "vae", "--kl", "exact"], ["exact", "analytic", "monte-carlo"]),
    (["train", "vae", "--k", "5", "--beta", "2"], ["k", "beta"]),
    (["train", "iwae", "--anneal", "1"], ["anneal"]),
    (["train", "ae", "--anneal", "1"], ["anneal"]),
    (["train", "vae", "--anneal", "2"], ["anneal 2", "1 epochs"]),
    (["train", "vae", "--free-bits", "1", "--capacity", "5"], ["free_bits", "capacity"]),
    (["train", "dae", "--corruption", "fog"], ["fog", "masking"]),
    (["train", "dae", "--corruption", "masking", "--level", "1.5"], ["1.5", "between 0 and 1"]),
    (["train", "ae", "--beta", "-1"], ["-1"]),
    (["train", "vae", "--lr-schedule", "linear"], ["linear", "cosine"]),
    (["train", "vae", "--arch", "conv", "--channels", "4", "4", "4", "4", "4"], ["16x16", "5 times", "fewer"]),
    (["train", "vae", "--arch", "conv", "--data", "narrow.npz"], ["14x11", "dense"]),
    (["train", "vqvae", "--data", "narrow.npz"], ["14x11", "multiples of 4"]),
    (["train", "vqvae", "--codes", "5000"], ["5,000|5000", "vectors"]),
    (["train", "vqvae", "--quantizer", "lattice"], ["lattice", "ema", "fsq"]),
    (["train", "prior"], ["--of RUN", "vqvae"]),
    (["train", "vae", "--of", "vqvae"], ["--of", "vae"]),
    (["train", "prior", "--of", "vae"], ["vae", "no codes"]),
    (["train", "prior", "--of", "nothing"], ["nothing"]),
    (["train", "prior", "--of", "vqvae", "--kernel", "2"], ["kernel 2", "odd"]),
    (["train", "prior", "--of", "vqvae", "--classes", "7"], ["squares", "3 classes", "7"]),
    (["train", "prior", "--of", "vqvae", "--binarize"], ["binarize", "codes"]),
    (["train", "prior", "--of", "vqvae", "--data", "narrow.npz"], ["(1, 14, 11)", "(1, 16, 16)"]),
    (["train", "vqvae2", "--depth", "3"], ["3 levels", "channels"]),
    (["train", "vae", "--k", "3", "--kl", "monte-carlo"], ["kl monte-carlo", "with k 3", "leave it out, or give k 1."]),
    (["train", "vae", "--flow", "iaf", "--kl", "analytic"], ["with flow iaf", "leave it out, or leave flow out."]),
    (["train", "linear-ae", "--hidden", "30"], ["hidden [30]", "train an ae"]),
    (["train", "linear-ae", "--arch", "conv"], ["arch conv", "train an ae"]),
    (["train", "vae", "--flow", "iaf", "--free-bits", "0.1"], ["leave them or the flow out"]),
    (["train", "vae", "--arch", "conv", "--channels", "4", "--data", "narrow.npz"], ["1 time,", "give images"]),
    (["evaluate", "vqvae", "--samples", "7"], ["--samples 7", "no VQVAE"]),
    (["traverse", "vae", "--seed", "5"], ["--seed"]),
    (["encode", "vae", "--data", "squares.npz", "--out", "squares.npz"], ["squares.npz", "would be lost"]),
    (["encode", "vae", "--out", "vae/model.npz"], ["model.npz", "would be lost"]),
    (["compress", "one.npy", "--run", "vqvae", "--out", "one.npy"], ["one.npy", ".mvae"]),
    (["metrics", "vae"], ["factors", "(1, 16, 16)"]),
    (["sample", "vae", "--label", "1"], ["VAE", "--label"]),
    (["sample", "prior", "--label", "1"], ["no classes", "--label"]),
    (["compress", "nothing.png", "--run", "vqvae"], ["nothing.png"]),
    (["compress", "squares.npz", "--run", "vqvae"], ["squares.npz"]),
    (["compress", "one.npy", "--run", "ae"], ["Autoencoder", "no codes"]),
    (["compress", "narrow.npy", "--run", "vqvae"], ["narrow.npy", "(1, 14, 11)", "(1, 16, 16)"]),
    (["decompress", "one.npy", "--run", "vqvae"], ["one.npy", "minivae compress"]),
    (["decompress", "nothing", "--run", "vqvae"], ["nothing", "cannot be read"]),
    (["sample", "ae"], ["prior"]),
    (["sample", "vqvae"], ["train a prior of this run"]),
    (["interpolate", "vqvae"], ["whole numbers"]),
    (["traverse", "vqvae"], ["whole numbers"]),
    (["encode", "vae", "--out", "codes.txt"], ["codes.txt", ".npz", ".csv"]),
    (["outliers", "vae", "--against", "narrow.npz"], ["narrow.npz", "(1, 14, 11)", "(1, 16, 16)"]),
    (["outliers", "vae", "--against", "nothing"], ["nothing"]),
]


@pytest.mark.parametrize(("command", "words"), REFUSED, ids=[" ".join(command) for command, _ in REFUSED])
def test_bad_input_is_one_sentence(places, command, words, monkeypatch, capsys):
    monkeypatch.chdir(places)
    before = sorted(places.iterdir())
    if command[0] == "train" and "--data" not in command:
        command = [*command, "--data", "squares.npz"]
    if command[0] == "train":
        command = [*command, "--out", "new", "--epochs", "1"]
    try:
        code = main(command)
    except SystemExit as exit:  # argparse
        code = exit.code
    said = capsys.readouterr().err
    assert code == 2
    assert said.count("\n") == 1 and said.startswith("minivae: ")
    for word in words:
        assert any(choice in said for choice in word.split("|")), said
    assert sorted(places.iterdir()) == before, "nothing is left"
