"""What demos/benchmark.py measures, and against what. Each file is read at one sitting:

problems.py        the networks that are raced, as plain data; the same for every library
steps.py           our training step of them
torch_rival.py     the same step in PyTorch, eager
jax_rival.py       in JAX under jit
autograd_rival.py  in HIPS autograd
numpy_step.py      by hand, in NumPy: what an engine costs is measured against it
racing.py          all sides of a problem: they get the same weights, must compute the same loss, then race
timing.py          interleaved runs, medians and quartiles
operations.py      single ops, and what a node of the graph costs
gemms.py           the matmuls of a step alone; what the machine can do at best
children.py        peak memory and the time of an import, each in a process of its own
machine.py         threads, and what the numbers were measured on
rows.py            the rows of the table by name
targets.py         what should be reached
report.py          the table, the JSON and the figure
"""
