"""What `pytest --backend strict` and `--backend cupy` leave out, and why: the one place that says so.

Files, or tests of a file ("file::test", all of its parameters), by their reason.
"""

LEFT_OUT = {
    "data sets are read, drawn and cut into batches on the host, whatever the backend": [
        "test_data_arrays.py", "test_data_batches.py", "test_data_cifar10.py", "test_data_documents.py",
        "test_data_download.py", "test_data_dsprites.py", "test_data_folder.py", "test_data_frey.py",
        "test_data_glyphs.py", "test_data_idx.py", "test_data_letters.py", "test_data_load.py", "test_data_mnist.py",
        "test_data_omniglot.py", "test_data_sprites.py",
    ],
    "figures are drawn and scores computed from arrays on the host": ["test_plots.py", "test_metrics.py"],
    "they start Python anew, on NumPy": ["test_demos.py", "test_mutation.py", "test_readme.py"],
}  # fmt: skip

_REASONS = {place: reason for reason, places in LEFT_OUT.items() for place in places}


def reason(file, test):
    """Why a test is left out; None where it is not."""
    return _REASONS.get(file) or _REASONS.get(f"{file}::{test.partition('[')[0]}")
