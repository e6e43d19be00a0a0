# Penstock's image: `docker build -t penstock:cpu .`, and for NVIDIA GPUs
# `docker build -t penstock:cuda --build-arg TORCH_BACKEND=cu130 .`
#
# Build tools, pip's and uv's leavings and the sources stay in the first two stages. The last one takes over two layers:
# the dependencies, which change with requirements.lock and pyproject.toml alone, and Penstock itself, which is small.

ARG BASE=python:3.12-slim-trixie
# Which build of torch: `cpu`; `cu130` brings CUDA's libraries as packages, so the same slim base does for a GPU and
# needs nothing of NVIDIA's but the driver on the host; empty takes what the package index itself has (for a mirror).
ARG TORCH_BACKEND=cpu

FROM ${BASE} AS dependencies
ARG UV_VERSION=0.13.8
ARG TORCH_BACKEND
# Where packages come from, when not from the usual index; empty unless given.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ENV UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 UV_LINK_MODE=copy
# Python could not write its bytecode on a read-only file system, and would compile torch anew at each start.
ENV UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir --root-user-action=ignore "uv==${UV_VERSION}" && uv venv --no-cache /opt/penstock
WORKDIR /build
COPY requirements.lock pyproject.toml ./
# torch first and alone: only it comes from the backend's own index. It brings the triton that it was made for, if any.
RUN uv pip install --python /opt/penstock ${TORCH_BACKEND:+--torch-backend="${TORCH_BACKEND}"} \
        --constraint requirements.lock "$(grep '^torch==' requirements.lock)"
# Then what Penstock names, at the pinned versions; the lock's build tools are not among it. No triton: only CUDA's
# torch needs it and has it by now, and nothing else would use its 700 MB.
RUN echo "triton ; sys_platform == 'never'" > without.txt \
    && uv pip install --python /opt/penstock --constraint requirements.lock --override without.txt -r pyproject.toml

FROM dependencies AS package
ARG UV_DEFAULT_INDEX
COPY pyproject.toml README.md LICENSE ./
COPY chat chat
COPY kernels kernels
COPY models models
COPY decoding decoding
COPY engine engine
COPY server server
# Into a folder of its own, laid out like /opt/penstock, to be a layer of its own.
RUN uv build --wheel --build-constraint requirements.lock --out-dir dist . \
    && uv pip install --python /opt/penstock --no-deps --prefix /package dist/*.whl

FROM ${BASE} AS runtime
ARG TORCH_BACKEND
# For a GPU, Triton compiles the fused kernels at the first start, and for the launching of kernels a little C module.
RUN if [ "${TORCH_BACKEND}" != cpu ]; then \
        apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
        && rm -rf /var/lib/apt/lists/*; \
    fi

FROM runtime
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Penstock" \
      org.opencontainers.image.description="An inference server for decoder-only language models" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# /cache is home, and holds all that is worth keeping: the models of the hub. Put a volume there.
RUN useradd --uid 10001 --user-group --home-dir /cache --no-create-home --shell /usr/sbin/nologin penstock \
    && install -d -o 10001 -g 10001 -m 0755 /cache
COPY --from=dependencies /opt/penstock /opt/penstock
COPY --from=package /package /opt/penstock
COPY deploy/health.py /opt/penstock/health.py
ENV PATH=/opt/penstock/bin:$PATH HOME=/cache HF_HOME=/cache/huggingface PYTHONUNBUFFERED=1
# What NVIDIA's container runtime is to bring in, where there is one; without it they mean nothing.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /cache
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["penstock"]
# A container's own loopback is nobody's: the server listens on all its addresses, and what is published is decided
# outside. `docker run IMAGE serve MODEL ...` and `docker run IMAGE chat ...` replace this line.
CMD ["serve", "demo", "--host", "0.0.0.0", "--port", "8000"]
