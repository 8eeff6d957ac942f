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
    "kernels run on the stand-in, whatever the backend of the suite": ["test_kernels.py"],
    "figures are drawn and scores computed from arrays on the host": [
        "test_plots.py", "test_metrics.py", "test_disentanglement.py",
    ],
    "they start Python anew, on NumPy": ["test_blas.py", "test_demos.py", "test_mutation.py", "test_readme.py"],
    "a check of values would wait for the device, and so is made on NumPy alone": [
        "test_ops_values.py::test_a_label_out_of_range", "test_likelihood.py::test_data_out_of_range",
        "test_autoencoder.py::test_pixels_out_of_range",
        "test_vqvae.py::test_codes_that_are_no_indices", "test_autoencoder.py::test_word_counts",
        "test_cli_messages.py::test_documents_out_of_range",
        "test_distributions.py::test_wrong_values_of_parameters_are_one_sentence",
    ],
    "scratch memory fits a CPU's cache; a device works on larger pieces": [
        "test_optim.py::test_a_step_needs_no_memory_of_the_size_of_the_model",
        "test_conv.py::test_only_a_few_images_are_gathered_at_once",
    ],
    "PyTorch is the oracle of NumPy; test_backends.py compares CuPy with NumPy": [
        "test_conv_torch.py", "test_nn_torch.py", "test_ops_torch.py", "test_optim_torch.py", "test_vae_torch.py",
        "test_vqvae_torch.py", "test_weights_torch.py",
    ],
    "their ops are written in NumPy": [
        "test_testing.py::test_the_printed_code_has_every_kind_of_argument",
        "test_testing.py::test_arguments_that_are_no_arrays_are_handed_on",
    ],
    "the functions of the results are of arrays on the host": ["test_results.py"],
    "the benchmark's rivals compute on the host": ["test_benchmark.py"],
    "it takes the stand-in itself, whatever the backend": ["test_capture.py", "test_cublas.py"],
    "they hold the rounding of float32 against that of float64 in NumPy": ["test_precision.py"],
    "a resumed run has the same bits on NumPy: the state of CuPy's generator cannot be read": [
        "test_resume.py", "test_runs.py", "test_collapse.py::test_a_resumed_run_ends_with_the_same_bits",
    ],
    "their model takes its weights from NumPy's generator": ["test_anomaly.py"],
    "they count the host's memory": [
        "test_engine_graphs.py::test_memory_returns_to_where_it_was_without_the_collector", "test_memory.py",
    ],
    "their processes, and the readers of files, are on NumPy": [
        "test_bits.py", "test_bombs.py", "test_cache.py", "test_disk.py", "test_fuzz.py", "test_kill.py",
    ],
}  # fmt: skip

_REASONS = {place: reason for reason, places in LEFT_OUT.items() for place in places}


def reason(file, test):
    """Why a test is left out; None where it is not."""
    return _REASONS.get(file) or _REASONS.get(f"{file}::{test.partition('[')[0]}")
