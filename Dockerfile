# The image that every launcher runs, from the locked requirements:
#
#     docker build -t paligax .                                       CPUs
#     docker build -t paligax --build-arg ACCELERATOR=tpu .           TPUs
#     docker build -t paligax --build-arg ACCELERATOR=cuda12 .        GPUs (or cuda13)
#
# What an accelerator needs is jax's own extra of that name, of the very version that is locked.

FROM python:3.12-slim

ARG ACCELERATOR=""
WORKDIR /opt/paligax

COPY requirements-3.12.lock ./
RUN sed -n '/^uv==/,/[^\\]$/p' requirements-3.12.lock > /tmp/uv.lock \
    && pip install --no-cache-dir --require-hashes -r /tmp/uv.lock \
    && uv pip install --system --no-cache --no-deps --require-hashes -r requirements-3.12.lock \
    && if [ -n "$ACCELERATOR" ]; then \
        grep -E '^jax(lib)?==' requirements-3.12.lock | cut -d ' ' -f 1 > /tmp/jax.txt \
        && uv pip install --system --no-cache --constraint /tmp/jax.txt "jax[$ACCELERATOR]"; fi \
    && rm -f /tmp/uv.lock /tmp/jax.txt

COPY setup.py pyproject.toml README.md LICENSE NOTICE ./
COPY paligax paligax
COPY tasks tasks
COPY gin_configs gin_configs
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

# Python's buffering would hide the last lines of a process that is killed.
ENV PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=2
WORKDIR /work
ENTRYPOINT ["paligax"]
