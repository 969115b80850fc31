# The server in a container. The model is not in the image: mount it at /model, and a file with the API key at /run/secrets/api_key.
#
#     docker build -t gpt-kit .
#     docker run --rm -p 127.0.0.1:8000:8000 -v ./runs/chat:/model:ro -v ./api-key.txt:/run/secrets/api_key:ro gpt-kit
#
# Behind ENTRYPOINT stand the words of `gpt-kit serve`; those given to `docker run` take the place of CMD.
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/gpt-kit
ENV PATH=/opt/gpt-kit/bin:$PATH
WORKDIR /source
COPY constraints.txt ./
# torch alone comes from its own index, for there the same version is without gigabytes of CUDA libraries.
RUN pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install -c constraints.txt '.[serve]'

FROM python:3.11-slim
# With a C compiler --int8 makes itself a kernel, several times as fast as doing without.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home gpt
COPY --from=build /opt/gpt-kit /opt/gpt-kit
ENV PATH=/opt/gpt-kit/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/gpt
EXPOSE 8000
# /health answers without a key. A large model takes a while to load.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["gpt-kit", "serve"]
CMD ["/model", "--host", "0.0.0.0", "--port", "8000", "--api-key-file", "/run/secrets/api_key"]
