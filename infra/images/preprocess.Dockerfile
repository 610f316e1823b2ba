# Ingest and preprocess only: no torch, about 2 GB.
FROM python:3.11-slim-bookworm
# OpenCV's wheel needs libGL and glib on a bare system.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/radloop
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY flows flows
COPY tasks tasks
COPY deployments deployments
COPY mlflow mlflow
COPY infra/dask/radloop.yaml /etc/dask/
COPY infra/dask/tls.yaml /etc/radloop/dask-tls.yaml
RUN pip install --no-cache-dir --constraint constraints.txt .
RUN useradd --create-home --uid 10001 radloop && install -d -o radloop -m 700 /var/lib/radloop
USER radloop
ENV RADLOOP_HOME=/var/lib/radloop
WORKDIR /var/lib/radloop
CMD ["radloop", "worker"]
