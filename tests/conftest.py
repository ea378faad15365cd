"""What all tests run on: eight CPU devices, so that meshes can be tested anywhere, and quiet libraries."""

import os

# Read when jax and TensorFlow are first imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
