# docker build -t seer .                                  (CPU)
# docker build -t seer --build-arg PROVIDER=cuda \
#   --build-arg BASE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04 .   (CUDA; run with --gpus all)
ARG BASE=debian:bookworm-slim

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip
WORKDIR /seer
COPY . .
RUN cargo build --release --locked
ARG PROVIDER=cpu
RUN target/release/seer setup --provider ${PROVIDER}

FROM ${BASE}
ARG PROVIDER=cpu
RUN useradd --create-home --uid 10001 seer && install -d -o seer /var/lib/seer
WORKDIR /seer
COPY --from=build /seer/target/release/seer /usr/local/bin/seer
COPY --from=build /seer/.seer .seer
COPY models models
COPY static static
USER seer
VOLUME /var/lib/seer
# Loopback until [auth] is configured: mount a config.toml with keys and set SEER_HTTP__BIND.
ENV SEER_STORAGE__PATH=/var/lib/seer SEER_RUNTIME__PROVIDER=${PROVIDER}
ENTRYPOINT ["seer"]
CMD ["serve"]
