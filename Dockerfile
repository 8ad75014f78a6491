# The program for the CPU in a small image. It runs as a user without rights; models and datasets that were fetched stay in a volume.
#
#     docker build -t rekindle .
#     docker run --rm -v rekindle-cache:/cache -v "$PWD:/data" --user "$(id -u):$(id -g)" rekindle finetune tickets.csv
#
# The current folder is /data in the container: data is read from there, and runs/ is written there. `--user` makes the files yours.
# There is no Python in the image, so models come from the Hugging Face hub and not from Python packages.

FROM rust:1-slim-trixie AS build
WORKDIR /src
COPY . .
# What was compiled stays in the caches of the builder, so the program is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package rekindle-cli \
    && cp target/release/rekindle /usr/local/bin/rekindle \
    && rekindle --version

FROM debian:trixie-slim
# Any user may write to the cache and to the folder for data: which one runs the program is chosen with --user.
RUN useradd --uid 1000 --create-home rekindle \
    && install --directory --mode 1777 /cache /data
COPY --from=build /usr/local/bin/rekindle /usr/local/bin/rekindle
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/rekindle/
ENV HF_HOME=/cache/huggingface \
    REKINDLE_CACHE=/cache/rekindle
VOLUME /cache
WORKDIR /data
USER 1000:1000
ENTRYPOINT ["rekindle"]
CMD ["--help"]
