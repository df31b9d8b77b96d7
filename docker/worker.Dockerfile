# The example `worker`: how an image of your own worker may look. The arguments are those of the server's Dockerfile.
ARG BUILD_IMAGE=rust:1.95-slim-bookworm
ARG RUN_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
ARG PROFILE=release
ARG CARGO_FLAGS=
WORKDIR /src
COPY . .
RUN cargo build --locked ${CARGO_FLAGS} --profile ${PROFILE} -p aiki --features redis --example worker \
    && cp "target/$([ "${PROFILE}" = dev ] && echo debug || echo "${PROFILE}")/examples/worker" /worker

FROM ${RUN_IMAGE}
# Whom https, rediss:// and sslmode=require trust. A base that has authorities already needs no network for this.
RUN [ -s /etc/ssl/certs/ca-certificates.crt ] \
    || { apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /worker /usr/local/bin/worker
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["worker"]
