# The program aiki-server. Both bases are arguments, so that it can be built where no registry is reachable.
#
#   docker build -t aiki-server .
#   docker run -v aiki:/var/lib/aiki aiki-server keys create --namespace shop --role admin
#   docker run -v aiki:/var/lib/aiki -p 9090:9090 aiki-server
#
# BUILD_IMAGE needs cargo 1.95 and a C compiler, RUN_IMAGE a glibc that is not older than that of BUILD_IMAGE, a shell, and
# /etc/ssl/certs/ca-certificates.crt or apt-get.
ARG BUILD_IMAGE=rust:1.95-slim-bookworm
ARG RUN_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
ARG PROFILE=release
# Where a crate registry is not reachable: --offline, with what is in the base image.
ARG CARGO_FLAGS=
WORKDIR /src
COPY . .
RUN cargo build --locked ${CARGO_FLAGS} --profile ${PROFILE} -p aiki-server --bin aiki-server \
    && cp "target/$([ "${PROFILE}" = dev ] && echo debug || echo "${PROFILE}")/aiki-server" /aiki-server

FROM ${RUN_IMAGE}
# Whom https, rediss:// and sslmode=require trust. A base that has authorities already needs no network for this.
RUN [ -s /etc/ssl/certs/ca-certificates.crt ] \
    || { apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /aiki-server /usr/local/bin/aiki-server
# Only a number: the base needs no tools for users. 10001 owns what the program writes.
COPY --from=build --chown=10001:10001 /src/docker/state/ /var/lib/aiki/
USER 10001:10001
WORKDIR /var/lib/aiki
VOLUME /var/lib/aiki
ENV AIKI_LISTEN=0.0.0.0:9090 AIKI_DATABASE=sqlite:///var/lib/aiki/aiki.db AIKI_LOG_FORMAT=json
EXPOSE 9090
# SIGTERM drains; let the runtime wait longer than AIKI_DRAIN_TIME (20 s) before it kills.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["aiki-server", "healthcheck"]
ENTRYPOINT ["aiki-server"]
