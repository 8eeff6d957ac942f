"""rANS and files of codes: what goes in comes out, at the price of its information, and damage is one sentence."""

import zlib

import numpy
import pytest
from anywhere import host, np
from hypothesis import given
from hypothesis import strategies as st

from minivae import InputError, compression, manual_seed
from minivae.compression.coder import BITS, TOTAL, Decoder, Encoder, information, table
from minivae.models import Prior, vqvae, vqvae2

SHAPE = (1, 8, 8)


def coded(bounds, symbols):
    encoder = Encoder()
    encoder.add(bounds, symbols)
    return encoder.finish()


def drawn(k, n, seed=0, concentration=0.1):
    rng = numpy.random.default_rng(seed)
    p = rng.dirichlet(numpy.full(k, concentration), n)
    return p, numpy.array([rng.choice(k, p=row) for row in p], dtype=numpy.int64)


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 1000), st.sampled_from([0.02, 1.0]))
def test_what_goes_in_comes_out(k, n, seed, concentration):
    p, _ = drawn(k, n, seed, concentration)
    symbols = numpy.random.default_rng(seed).integers(0, k, n)  # likely or not
    bounds = table(p.reshape(n, k))
    decoder = Decoder(coded(bounds, symbols))
    assert (decoder.take(bounds) == symbols).all()
    decoder.finish()


def test_the_length_is_the_information():
    p, symbols = drawn(100, 5000)
    bounds = table(p)
    ideal = -numpy.log2(p[numpy.arange(5000), symbols]).sum()
    assert information(bounds, symbols) == pytest.approx(ideal, rel=1e-4)
    bits = 8 * (len(coded(bounds, symbols)) - 8)  # without the state
    assert ideal - 64 <= bits <= 1.001 * ideal + 32


def test_a_table_is_whole_and_leaves_nothing_out():
    p = numpy.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [1e-30, 1, 1e-30], [0.25, 0.5, 0.25]])
    f = numpy.diff(table(p), axis=-1)
    assert (f >= 1).all() and (f.sum(axis=1) == TOTAL).all()
    assert abs(f / TOTAL - p).max() < 3 / 2**BITS
    for bad in ([0.5, numpy.nan], [-0.1, 1.1], []):
        with pytest.raises(ValueError, match="probabilities must be"):
            table(bad)


@pytest.mark.parametrize("p", [[[0.0, 0.0, 0.0]], [[1.0, -1.0]], [[1.0, numpy.nan]], [[1.0, numpy.inf]], [[]]])
def test_what_is_no_table(p):
    with pytest.raises(ValueError, match="table"):
        table(p)


def test_the_state_stays_below_its_bound():
    """A symbol of 2^16 places takes the state from 2^32 to 2^40: the first at which one of 1 place writes a word."""
    bounds = numpy.array([[0, 1 << 16, (1 << 16) + 1, TOTAL]] * 2)
    symbols = numpy.array([1, 0])  # the last one is pushed first
    assert (Decoder(coded(bounds, symbols)).take(bounds) == symbols).all()


def test_streams_that_are_cut_or_too_long():
    p, symbols = drawn(50, 400, concentration=1.0)
    bounds, stream = table(p), coded(table(p), symbols)
    for part in (stream[:5], stream[:-3]):
        with pytest.raises(InputError, match="truncated"):
            Decoder(part)
    with pytest.raises(InputError, match="ends before its last symbol"):
        Decoder(stream[:-8]).take(bounds)
    longer = Decoder(stream + b"abcd")
    longer.take(bounds)
    with pytest.raises(InputError, match="does not end with its last symbol"):
        longer.finish()


# files


def images(n, seed=0):
    return np.random.default_rng(seed).random((n, *SHAPE), dtype=np.float32)


def model(kind, seed=0):
    manual_seed(seed)
    codec = {"fsq": vqvae, "vqvae2": vqvae2, "prior2": vqvae2}.get(kind, vqvae)
    options = {"quantizer": "fsq", "levels": (3, 4)} if kind == "fsq" else {"codes": 6, "dim": 3}
    made = codec(SHAPE, channels=(4, 4), **options)
    made.loss(images(40), np.random.default_rng(0))
    made.eval()
    return Prior(made, SHAPE, width=6, layers=2, kernel=3).eval() if kind.startswith("prior") else made


@pytest.fixture(scope="module")
def prior():
    return model("prior")


@pytest.mark.parametrize("kind", ["vqvae", "fsq", "vqvae2", "prior", "prior2"])
def test_codes_come_back_from_a_file_without_loss(kind):
    m, x = model(kind), images(9, 1)
    made = compression.compress(m, host(x))
    codes = compression.decompress(m, made.data)
    assert (codes == host(m.encode(x)).reshape(9, -1)).all()
    decoded = compression.images_of(m, codes, SHAPE)
    assert decoded == pytest.approx(host(m.reconstruct(x)).clip(0, 1), abs=1e-5)
    assert compression.shape_of(made.data) == SHAPE


def test_a_file_is_as_long_as_the_prior_says(prior, monkeypatch):
    """Within 1% and the header of -log2 p, which the whole network computes otherwise than the walk."""
    monkeypatch.setattr(compression, "TOGETHER", 200)  # and two pieces
    x = images(300)
    made = compression.compress(prior, host(x))
    ideal = float(prior.nll(prior.encode(x)).sum()) / numpy.log(2)
    assert made.bits == pytest.approx(ideal, rel=1e-4)
    assert 8 * (len(made.data) - compression.OVERHEAD) <= 1.01 * ideal
    assert compression.OVERHEAD < 50
    assert (compression.decompress(prior, made.data) == made.codes).all()


def test_frequent_codes_cost_less():
    m = model("vqvae")
    m.quantizer.counts.data[...] = np.array([100, 0, 0, 0, 0, 0])
    codes = numpy.zeros((50, 4), dtype=numpy.int64)
    m.encode = lambda x: np.array(codes[: len(x)].reshape(-1, 2, 2))
    cheap = compression.compress(m, host(images(50)))
    codes[:] = 3
    dear = compression.compress(m, host(images(50)))
    assert cheap.bits < 0.01 * dear.bits
    assert (compression.decompress(m, dear.data) == 3).all()


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (lambda d: b"PNG" + d[3:], "'f' was not written by 'minivae compress'"),
        (lambda d: d[:20], "'f' is truncated: it ends in its header"),
        (lambda d: d[:-6], "'f' is truncated: "),
        (lambda d: d[:4] + b"\x02" + d[5:], "'f' has version 2, but this minivae reads version 1"),
        (lambda d: d[:45] + bytes([d[45] ^ 1]) + d[46:], "'f' was altered"),
        (lambda d: d + b"x", "'f' was altered"),
        (lambda d: b"", "'f' was not written"),
    ],
)
def test_a_damaged_file_is_one_sentence(prior, damage, sentence):
    data = compression.compress(prior, host(images(20))).data
    with pytest.raises(InputError) as error:
        compression.decompress(prior, damage(data), "f")
    assert str(error.value).startswith(sentence) and str(error.value).count(". ") == 0


def test_every_byte_is_guarded(prior):
    data = compression.compress(prior, host(images(2))).data
    for i in range(len(data)):
        with pytest.raises(InputError):
            compression.decompress(prior, data[:i] + bytes([data[i] ^ 64]) + data[i + 1 :])


def test_another_model_is_named(prior):
    data = compression.compress(prior, host(images(3))).data
    with pytest.raises(InputError, match="compressed with another model: give its run"):
        compression.decompress(model("prior", seed=1), data)


def test_other_bits_of_the_probabilities_are_noticed(prior, monkeypatch):
    """As of another machine: whatever is decoded, it is not handed out as the codes."""
    data = compression.compress(prior, host(images(20))).data
    exact = compression.probabilities
    monkeypatch.setattr(compression, "probabilities", lambda logits: exact(logits * 1.001))
    with pytest.raises(InputError, match="this machine computes other bits"):
        compression.decompress(prior, data)


def test_codes_that_do_not_fit_their_checksum_are_not_handed_out(prior):
    data = bytearray(compression.compress(prior, host(images(4))).data[:-4])
    at = compression.HEADER.size - 8  # the checksum of the codes, before the length
    data[at] ^= 1
    with pytest.raises(InputError, match="gives other codes than were put in"):
        compression.decompress(prior, bytes(data) + compression.CHECK.pack(zlib.crc32(data)))


def test_too_many_codes_are_one_sentence():
    manual_seed(0)
    many = vqvae(SHAPE, channels=(3,), quantizer="fsq", levels=(8,) * 7)
    with pytest.raises(InputError, match="2,097,152 codes"):
        compression.compress(many, host(images(2)))


def test_a_prior_that_is_told_classes_cannot_compress():
    told = Prior(model("vqvae"), SHAPE, width=4, layers=2, kernel=3, classes=2)
    with pytest.raises(InputError, match="train one without --classes"):
        compression.compress(told, host(images(2)))


@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.int8, numpy.uint16])
def test_symbols_of_few_bits(dtype):
    """255 + 1 is 0 in 8 bits."""
    last = min(255, numpy.iinfo(dtype).max)
    bounds, symbols = table(numpy.ones((3, last + 1))), numpy.array([last, 0, last], dtype)
    assert information(bounds, symbols) == pytest.approx(3 * numpy.log2(last + 1))
    encoder, wide = Encoder(), Encoder()
    encoder.add(bounds, symbols)
    wide.add(bounds, symbols.astype(numpy.int64))
    assert encoder.finish() == wide.finish()
